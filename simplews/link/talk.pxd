# The fields of a compiled `Talk`.

from .inbox cimport Inbox
from .wire cimport WireLink


cdef class Talk:
    cdef public object _link
    cdef public object _inbox
    cdef public object _messages
    cdef public object _wait
    cdef public object _options
    cdef public object _stream
    cdef object _limit  # its receive_timeout
    # The same, where the link is over the wire.
    cdef WireLink _wire
    cdef Inbox _own
