# cython: language_level=3
"""Sending to a socket past its transport: ``direct.py`` explains it."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

cdef extern from *:
    """
    #ifdef _WIN32
    #define CAN_SEND 0
    struct iovec { void *iov_base; size_t iov_len; };
    static Py_ssize_t send_at_once(int fd, const void *data, size_t size) { return 0; }
    static Py_ssize_t send_all_at_once(int fd, struct iovec *parts, int count) { return 0; }
    #else
    #include <sys/types.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <string.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0  /* macOS: Python ignores SIGPIPE for all of the process */
    #endif
    #define CAN_SEND 1
    static Py_ssize_t send_at_once(int fd, const void *data, size_t size) {
        return send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    static Py_ssize_t send_all_at_once(int fd, struct iovec *parts, int count) {
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = parts;
        message.msg_iovlen = count;
        return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    #endif
    """
    bint CAN_SEND
    struct iovec:
        void *iov_base
        size_t iov_len
    Py_ssize_t send_all_at_once(int fd, iovec *parts, int count) nogil
    Py_ssize_t send_at_once(int fd, const void *data, size_t size) nogil

cdef enum:
    LONG = 65536  # from here up other threads may run meanwhile
    PARTS = 64


# Whose transports write to their socket what they are given, as it is. Others may
# encrypt it, or be no more than the shape of a transport.
PLAIN = frozenset({"asyncio.selector_events", "uvloop.loop"})


cpdef int descriptor(transport) except -2:
    if not CAN_SEND or type(transport).__module__ not in PLAIN:
        return -1
    if transport.get_extra_info("sslcontext") is not None:
        return -1  # uvloop's transports of TLS have the same module
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else sock.fileno()


cpdef Py_ssize_t send_now(int fd, data) except -1:
    cdef Py_buffer view
    cdef Py_ssize_t sent
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    if view.len < LONG:
        sent = send_at_once(fd, view.buf, view.len)
    else:
        with nogil:
            sent = send_at_once(fd, view.buf, view.len)
    PyBuffer_Release(&view)
    return 0 if sent < 0 else sent


cpdef Py_ssize_t send_parts(int fd, list parts) except -1:
    cdef Py_buffer views[PARTS]
    cdef iovec vectors[PARTS]
    cdef Py_ssize_t sent = 0
    cdef int count = 0
    try:
        for part in parts[:PARTS]:
            PyObject_GetBuffer(part, &views[count], PyBUF_SIMPLE)
            vectors[count].iov_base = views[count].buf
            vectors[count].iov_len = views[count].len
            count += 1
        with nogil:
            sent = send_all_at_once(fd, vectors, count)
    finally:
        while count:
            count -= 1
            PyBuffer_Release(&views[count])
    return 0 if sent < 0 else sent
