# The types with which Cython compiles inbox.py.

from ..protocol.octets cimport memory_size
from .waiter cimport Waiter

cdef Py_ssize_t MESSAGE_OVERHEAD


cdef class Inbox:
    cdef readonly object messages
    cdef public bint paused
    cdef readonly bint ended
    cdef public Py_ssize_t taken
    cdef readonly Waiter waiter
    cdef object _popleft
    cdef readonly Py_ssize_t most
    cdef readonly Py_ssize_t room
    cdef Py_ssize_t _low
    cdef Py_ssize_t _high_bytes
    cdef Py_ssize_t _low_room
    cdef object _loop
    cdef object _source
    cdef object _event

    cpdef object arrived(self, Py_ssize_t size)
    cpdef object wake(self, bint now=*)
    cpdef bint passed(self) except -1
    cpdef object end(self)
    cpdef object part(self)
    cpdef object get(self)
    cpdef object wait(self, object timeout)
