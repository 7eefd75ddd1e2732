# The types with which Cython compiles waiter.py.

from .step cimport current_task, run_as

cdef class Stop


cdef class Waiter:
    cdef public object reader
    cdef object _loop
    cdef bint _expired
    cdef bint _eager
    cdef Stop _stop

    cpdef object wake(self)
    cpdef object wake_now(self)
    cpdef object begin(self)
    cpdef object close(self)


cdef class Stop:
    cdef public object task
    cdef readonly bint runs
    cdef readonly object callback
    cdef public Stop first
    cdef public bint _asyncio_future_blocking
    cdef object _loop
    cdef object _context
    cdef object _coroutine
    cdef bint _asked
    cdef object _message
    cdef object _error
    cdef object _elsewhere

    cpdef object leave(self)
    cpdef object end(self)
    cpdef bint go_on(self) except -1
    cdef object _left(self)
    cdef object _pass_on(self, object task, object given, object callback, object context)
    cpdef object cancel(self, object msg=*)


cdef bint _still(object task) except -1
cdef object _end(object task, object exc, bint asked, object message)
