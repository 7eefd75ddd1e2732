# The types with which Cython compiles outbox.py.

cimport cython

from ..protocol.codec cimport Encoder
from ..protocol.octets cimport apply_mask
from .direct cimport descriptor, send_now, send_parts

cdef int _PONG
cdef Py_ssize_t _CORK
cdef Py_ssize_t _PIECE
cdef Py_ssize_t _MASKED_PIECE
cdef Py_ssize_t _APART


cdef class Outbox:
    cdef readonly bint paused
    cdef readonly bint ended
    cdef readonly bint closed
    cdef readonly Py_ssize_t written
    cdef object _turn
    cdef object _loop
    cdef object _transport
    cdef int _descriptor
    cdef bint _behind
    cdef object _waiting
    cdef list _held
    cdef readonly Py_ssize_t held_size
    cdef bint _scheduled
    cdef bint _mid_frame
    cdef object _then
    cdef list _waiters
    cdef readonly object _pong
    cdef Encoder _encoder

    cpdef bint busy(self) except -1
    cpdef object write(self, bytes frame, bint checked=*)
    cpdef object write_apart(self, bytes head, object payload)
    @cython.locals(piece=object)
    cdef Py_ssize_t _write_piece(self, object view, Py_ssize_t position, bytes key) except -1
    cdef object _hold(self, object part)
    cdef object _release(self)
    @cython.locals(sent=Py_ssize_t)
    cdef object _put(self, object data, bint checked=*)
    @cython.locals(sent=Py_ssize_t, size=Py_ssize_t)
    cdef object _put_parts(self, list parts)
    cpdef object flush(self)
