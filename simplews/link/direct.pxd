# What compiled modules take from direct.pyx.

cpdef int descriptor(transport) except -2
cpdef Py_ssize_t send_now(int fd, data) except -1
cpdef Py_ssize_t send_parts(int fd, list parts) except -1
