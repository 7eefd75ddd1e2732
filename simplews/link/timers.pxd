# The types with which Cython compiles timers.py.


cdef class Timer:
    cdef Row _row
    cdef double _due
    cdef object _callback
    cdef object _context
    cdef Timer _before
    cdef Timer _after

    cpdef object cancel(self)


cdef class Row:
    cdef object __weakref__
    cdef object _loop
    cdef object _delay
    cdef dict _rows
    cdef Timer _first
    cdef Timer _last
    cdef bint _armed
    cdef double _until

    cpdef Timer add(self, object callback)
    cpdef object remove(self, Timer timer)
    cdef object _arm(self, double due)
    cdef object _call(self, Timer timer)


cdef class Timers:
    cdef object _loop
    cdef dict _rows

    cpdef Timer call_later(self, object delay, object callback)
