# What compiled modules take from step.pyx.

from cpython.object cimport PyObject

cpdef object current_task(object loop)
cpdef object run_as(object task, object loop, object context, object coroutine)
cpdef object step(object coroutine)


cdef class Steps:
    cdef object _coroutine

    cdef int advance(self, PyObject **result, bint taken) except -1

    cpdef object wait(self)
    cdef object begin(self)
    cdef object waits(self)
    cdef object ended(self, object result, bint taken=*)
    cdef bint failed(self, object exc) except -1
