# What compiled modules take from step.pyx.

cpdef object current_task(object loop)
cpdef object run_as(object task, object loop, object context, object coroutine)
cpdef object step(object coroutine)


cdef class Steps:
    cdef object _coroutine

    cpdef object wait(self)
    cdef object begin(self)
    cdef object ended(self, object result)
    cdef bint failed(self, object exc) except -1
