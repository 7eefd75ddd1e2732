# What compiled modules take from step.pyx.

cpdef object current_task(object loop)
cpdef object enter_task(object loop, object task)
cpdef object leave_task(object loop, object task)
cpdef object step(object coroutine)


cdef class Steps:
    cdef object _coroutine

    cpdef object wait(self)
    cdef object begin(self)
    cdef object ended(self, object result)
    cdef bint failed(self, object exc) except -1
