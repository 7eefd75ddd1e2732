# The types with which Cython compiles outbox.py.

from ..protocol.octets cimport apply_mask

cdef Py_ssize_t _CORK
cdef Py_ssize_t _PIECE


cdef class Outbox:
    cdef readonly bint paused
    cdef readonly bint ended
    cdef readonly bint closed
    cdef readonly Py_ssize_t written
    cdef object _lock
    cdef object _loop
    cdef object _transport
    cdef object _waiting
    cdef bytearray _held
    cdef bint _scheduled
    cdef bint _mid_frame
    cdef object _then
    cdef object _waiters
    cdef readonly object _pong
    cdef object _pong_frame

    cpdef bint busy(self) except -1
    cpdef object write(self, bytes frame)
    cpdef object flush(self)
