# The types with which Cython compiles codec.py.

cimport cython

from .octets cimport Assembly, ReadBuffer, apply_mask, binary, joined, memory_size, new_key, sealed, text

cdef Py_ssize_t _NO_LIMIT
cdef Py_ssize_t _LONG
cdef Py_ssize_t _SMALL_PIECE
cdef Py_ssize_t _SMALL_PIECES
cdef int _CONTINUATION
cdef int _TEXT
cdef int _BINARY
cdef int _CLOSE
cdef int _PING
cdef int _PONG
cdef Py_ssize_t _OVERHEAD


cdef class Decoder:
    cdef public Py_ssize_t size
    cdef public Py_ssize_t frames
    cdef readonly bint done
    cdef readonly bint pending
    cdef readonly object failure
    cdef bint _server
    cdef Py_ssize_t _limit
    cdef Py_ssize_t _inflate_limit
    cdef object _inflater
    cdef bytes _rest
    cdef bint _in_frame
    cdef bint _fin
    cdef Py_ssize_t _left
    cdef bytes _key
    cdef int _phase
    cdef Assembly _assembly
    cdef int _opcode
    cdef bint _text
    cdef bint _compressed
    cdef Py_ssize_t _received
    cdef Py_ssize_t _total
    cdef list _pieces
    cdef list _small
    cdef bytes _carry
    cdef readonly bint _streaming
    cdef readonly bint _dropping
    cdef bint _deaf
    cdef bint _busy

    cpdef bint feed(
        self, bytes data, object messages, list events,
        Py_ssize_t budget=*, Py_ssize_t most=*,
    ) except -1

    cpdef bint feed_buffer(
        self, ReadBuffer buffer, Py_ssize_t size, object messages, list events,
        Py_ssize_t budget=*, Py_ssize_t most=*,
    ) except -1

    cdef bint _feed(
        self, const unsigned char *data, Py_ssize_t end, object messages, list events,
        Py_ssize_t budget, Py_ssize_t most,
    ) except -1

    cpdef object room(self)
    cpdef object filled(self, Py_ssize_t size, object messages)

    @cython.locals(
        position=Py_ssize_t, size=Py_ssize_t, start=Py_ssize_t, length=Py_ssize_t,
        first=int, server=bint, masked=bint,
    )
    cdef Py_ssize_t _read(
        self, const unsigned char *data, Py_ssize_t end, object messages, list events,
        Py_ssize_t budget, Py_ssize_t most,
    ) except -1

    cdef object _check_header(self, int first, Py_ssize_t length)

    @cython.locals(opcode=int, whole=bint)
    cdef object _begin_frame(self, int first, Py_ssize_t length, bytes key)

    @cython.locals(size=Py_ssize_t, stop=Py_ssize_t, final=bint, phase=int)
    cdef Py_ssize_t _read_payload(
        self, const unsigned char *data, Py_ssize_t position, Py_ssize_t end, object messages
    ) except -1

    cdef object _assembled(self, Assembly assembly, object messages)
    cdef object _control(self, int opcode, bytes payload, list events)
    cdef object _take(self, bytes piece, bint final, object messages)
    cdef object _decoded(self, bytes piece, bint final)
    cdef object _keep(self, object part)
    cdef object _gather(self)
    cdef object _join(self, list parts)
    cdef object _joined(self, object last)
    cdef object _forget(self)
    cdef object _emit(self, object piece, bint final, object messages)
    cpdef object stop(self)


cdef Py_ssize_t _long_length(bytes field) except -1


@cython.locals(first=int)
cdef bytes _head(int opcode, Py_ssize_t length, bint final, bint compressed, int mask_bit)


cdef class Encoder:
    cdef readonly bint masks
    cdef readonly bint deflates
    cdef int _mask_bit
    cdef tuple _text_heads
    cdef tuple _binary_heads
    cdef object _deflater
    cdef object _plain

    cpdef bint wants_deflate(self, Py_ssize_t size, object compress) except -1
    # Payloads may be of a subclass of bytes.
    cpdef bytes deflate(self, object payload, bint final)
    cpdef bytes shared(self, int opcode, object payload, dict made)
    cpdef bytes message(self, int opcode, object payload)
    cpdef bytes frame(self, int opcode, object payload, bint final=*, bint compressed=*)
    cpdef tuple head(self, int opcode, Py_ssize_t length, bint final=*, bint compressed=*)
