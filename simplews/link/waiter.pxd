# The types with which Cython compiles waiter.py.

from .step cimport current_task, run_as

cdef class Driven


cdef class Waiter:
    cdef public object reader
    cdef public bint _asyncio_future_blocking
    cdef object _loop
    cdef object _callback
    cdef object _context
    cdef object _cancelled
    cdef bint _expired
    cdef bint _eager
    cdef Driven _driven

    cpdef object wake(self)
    cpdef object wake_now(self)
    cpdef object begin(self)
    cpdef object close(self)
    cpdef object run(self, object callback, object context)
    cpdef object driven_by(self, object driven)
    cpdef object still_waits(self, object callback, object context)
    cdef object _end(self)


cdef class Driven:
    cdef object _loop
    cdef readonly object task
    cdef Waiter _waiter
    cdef object _coroutine
    cdef bint _holds
    cdef object _given
    cdef object _error
    cdef bint _asked
    cdef object _message

    cpdef object go_on(self, object callback, object context)
    cpdef bint cancel(self, object message) except -1
    cdef object _arrived(self, object given)
