# The types with which Cython compiles asgilink.py.

cimport cython

from ..protocol.octets cimport memory_size, payload_size
from .inbox cimport Inbox
from .step cimport Steps, current_task, step
from .waiter cimport Waiter

cdef Py_ssize_t _BURST
cdef Py_ssize_t MESSAGE_OVERHEAD
cdef object DONE
cdef object CoroutineType
cdef object _Task
cdef object _cancelling


cdef class ASGILink


cdef class Begun:
    cdef object _coroutine
    cdef object _awaited


cdef class Reading(Steps):
    cdef ASGILink _link
    cdef Py_ssize_t _before

    @cython.locals(link=ASGILink)
    cdef object begin(self)
    @cython.locals(link=ASGILink)
    cdef object waits(self)
    @cython.locals(link=ASGILink)
    cdef object ended(self, object result, bint taken=*)
    @cython.locals(link=ASGILink)
    cdef bint failed(self, object exc) except -1
    @cython.locals(link=ASGILink)
    cdef object _leave(self)


cdef class ASGILink:
    cdef object __weakref__
    cdef public object state
    cdef public object ending
    cdef readonly Inbox inbox
    cdef object _loop
    cdef object _scope
    cdef object _receive
    cdef object _send
    cdef object _options
    cdef Py_ssize_t _limit
    cdef Py_ssize_t _bytes_in
    cdef Py_ssize_t _bytes_out
    cdef Py_ssize_t _messages_out
    cdef Py_ssize_t _burst
    cdef object _begun
    cdef object _blocks
    cdef object _receives
    cdef bint _streaming
    cdef object _resumed
    cdef object _frames
    cdef object _writing
    cdef object _closing
    cdef dict _senders
    cdef set _interrupted
    cdef object _closed
    cdef object _task
    cdef object _reader
    cdef Reading _reading
    cdef bint _receiving
    cdef bint _direct
    cdef bint _heard_all
    cdef object _deadline
    cdef object _watch

    @cython.locals(reading=Reading)
    cpdef object wait(self, object timeout)
    cdef object _look_later(self)
    @cython.locals(fields=dict, size=Py_ssize_t)
    cdef object _take(self, object event, bint taken)
    cdef object _fail(self, object exc)
    cdef bint _woken(self, object task, Py_ssize_t before) except -1
    @cython.locals(size=Py_ssize_t)
    cpdef bint send_nowait(self, object data, object compress) except -1
