# What compiled modules take from octets.pyx.

from cpython.ref cimport PyObject

cdef class Assembly:
    cdef readonly Py_ssize_t left
    cdef Py_ssize_t size
    cdef Py_ssize_t position
    cdef Py_ssize_t capacity
    cdef unsigned char key[4]
    cdef bint masked
    cdef PyObject *memory

    cpdef object room(self)
    cpdef int filled(self, Py_ssize_t size) except -1
    cpdef int add(self, const unsigned char *data, Py_ssize_t start, Py_ssize_t stop) except -1
    cpdef bytes take(self)
    cdef int grow(self, Py_ssize_t wanted) except -1
    cdef void placed(self, const unsigned char *source, Py_ssize_t size) noexcept

cdef class ReadBuffer:
    cdef bytearray memory

    cpdef object view(self, Py_ssize_t size)
    cdef const unsigned char *taken(self, Py_ssize_t size) except NULL

cpdef bytes binary(const unsigned char *data, Py_ssize_t start, Py_ssize_t stop, bint masked)
cpdef str text(const unsigned char *data, Py_ssize_t start, Py_ssize_t stop, bint masked)
cpdef bytes apply_mask(data, bytes key)
cpdef bytes joined(bytes head, payload)
cpdef bytes sealed(bytes head, bytes key, payload)
cpdef bytes utf8(data)
cpdef Py_ssize_t payload_size(data) except -1
cpdef Py_ssize_t memory_size(data) except -1
cpdef bytes new_key()
