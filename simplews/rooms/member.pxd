# The types with which Cython compiles member.py.

cimport cython

from ..link.wire cimport WireLink


cdef class Member:
    cdef readonly object ws
    cdef readonly object id
    cdef readonly dict rooms
    cdef readonly object queue
    cdef object _link
    cdef WireLink _wire
    cdef object _overflow
    cdef Py_ssize_t _max_queue
    cdef object _task

    cpdef object deliver(self, object frames, object key)


@cython.locals(member=Member, delivered=Py_ssize_t, dropped=Py_ssize_t, behind=bint)
cpdef tuple write_all(list members, object frames, object left_out, object key)
