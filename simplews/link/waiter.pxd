# The types with which Cython compiles waiter.py.

cdef class Waiter:
    cdef public object reader
    cdef public bint _asyncio_future_blocking
    cdef object _loop
    cdef object _callback
    cdef object _context
    cdef object _cancelled
    cdef bint _expired
    cdef bint _eager

    cpdef object wake(self)
    cpdef object wake_now(self)
    cdef object _end(self)
