# The fields of a compiled `Talk`.

from .asgilink cimport ASGILink
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
    # The same, if it is compiled.
    cdef WireLink _wire
    cdef ASGILink _asgi
    cdef Inbox _own

    cdef bint sent(self, data, compress) except -1
    cdef object waiting(self, timeout)
