# cython: language_level=3, boundscheck=False, wraparound=False
"""What touches every byte of a payload, in C: the twin of ``octets.py``, which explains it."""

import os

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_AsUTF8String, PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    # Cython's own declarations of these take objects, which an owner of one
    # reference cannot give.
    PyObject *_new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL
    int _resize_bytes "_PyBytes_Resize"(PyObject **data, Py_ssize_t size) except -1
    char *_address "PyBytes_AS_STRING"(PyObject *data)
    Py_ssize_t _references "Py_REFCNT"(PyObject *data)
    bint PyUnicode_IS_ASCII(object text)
    int PyUnicode_KIND(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object text)

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Masks whole blocks and says how far it came; *any* collects all bits that it
       has seen. AVX2 has half the cost of what a compiler makes for any x86-64. */
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>
    __attribute__((target("avx2")))
    static Py_ssize_t mask_blocks(
        unsigned char *target, const unsigned char *source, Py_ssize_t size,
        const unsigned char *key, uint64_t *any
    ) {
        int32_t four;
        memcpy(&four, key, 4);
        const __m256i wide = _mm256_set1_epi32(four);
        __m256i seen = _mm256_setzero_si256();
        Py_ssize_t at = 0;
        for (; at + 128 <= size; at += 128) {
            __m256i a = _mm256_loadu_si256((const __m256i *)(source + at));
            __m256i b = _mm256_loadu_si256((const __m256i *)(source + at + 32));
            __m256i c = _mm256_loadu_si256((const __m256i *)(source + at + 64));
            __m256i d = _mm256_loadu_si256((const __m256i *)(source + at + 96));
            a = _mm256_xor_si256(a, wide);
            b = _mm256_xor_si256(b, wide);
            c = _mm256_xor_si256(c, wide);
            d = _mm256_xor_si256(d, wide);
            _mm256_storeu_si256((__m256i *)(target + at), a);
            _mm256_storeu_si256((__m256i *)(target + at + 32), b);
            _mm256_storeu_si256((__m256i *)(target + at + 64), c);
            _mm256_storeu_si256((__m256i *)(target + at + 96), d);
            a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
            seen = _mm256_or_si256(seen, a);
        }
        if (_mm256_movemask_epi8(seen))
            *any |= 0x80;
        return at;
    }
    #define HAS_BLOCKS() __builtin_cpu_supports("avx2")
    #else
    static Py_ssize_t mask_blocks(
        unsigned char *target, const unsigned char *source, Py_ssize_t size,
        const unsigned char *key, uint64_t *any
    ) {
        return 0;
    }
    #define HAS_BLOCKS() 0
    #endif
    """
    bint HAS_BLOCKS()
    Py_ssize_t mask_blocks(
        unsigned char *target, const unsigned char *source, Py_ssize_t size,
        const unsigned char *key, uint64_t *any
    ) noexcept nogil

cdef enum:
    BLOCKS = 256  # from so many bytes up, masking by blocks is worth a call
    STEP = 65536  # bytes of memory that an assembly takes at first
    AHEAD = 16  # times as much as has come is taken, and not touched; growing copies
    POOL = 1024  # bytes of masking keys that are asked for at once

READS_IN_PLACE = True

cdef bint _has_blocks = HAS_BLOCKS()
cdef uint64_t HIGH_BITS = 0x8080808080808080


cdef inline bint mask_into(
    unsigned char *target, const unsigned char *source, Py_ssize_t size, const unsigned char *key
) noexcept nogil:
    """RFC 6455 §5.3; *target* and *source* may be the same. Whether the result is ASCII."""
    cdef uint64_t word, wide
    cdef uint64_t any = 0
    cdef unsigned char last
    cdef Py_ssize_t at = 0
    if size >= BLOCKS and _has_blocks:
        at = mask_blocks(target, source, size, key, &any)
    memcpy(&wide, key, 4)
    memcpy(<unsigned char *>&wide + 4, key, 4)
    while at + 8 <= size:
        memcpy(&word, source + at, 8)
        word ^= wide
        any |= word
        memcpy(target + at, &word, 8)
        at += 8
    while at < size:
        last = source[at] ^ key[at & 3]
        any |= last
        target[at] = last
        at += 1
    return not any & HIGH_BITS


# ------------------------------------------------------------------- in frames


cpdef bytes binary(const unsigned char *data, Py_ssize_t start, Py_ssize_t stop, bint masked):
    cdef bytes payload
    if not masked or start == stop:
        return PyBytes_FromStringAndSize(<const char *>data + start, stop - start)
    payload = PyBytes_FromStringAndSize(NULL, stop - start)
    mask_into(
        <unsigned char *>PyBytes_AS_STRING(payload), data + start, stop - start, data + start - 4
    )
    return payload


cpdef str text(const unsigned char *data, Py_ssize_t start, Py_ssize_t stop, bint masked):
    cdef Py_ssize_t size = stop - start
    cdef unsigned char *characters
    if not masked or start == stop:
        return PyUnicode_DecodeUTF8(<const char *>data + start, size, NULL)
    # Most text is ASCII, and then it is unmasked to where it stays.
    cdef str message = PyUnicode_New(size, 127)
    characters = <unsigned char *>PyUnicode_DATA(message)
    if mask_into(characters, data + start, size, data + start - 4):
        return message
    return PyUnicode_DecodeUTF8(<const char *>characters, size, NULL)


cpdef bytes utf8(data):  # of a subclass of str, perhaps
    return PyUnicode_AsUTF8String(data)


cpdef Py_ssize_t payload_size(data) except -1:
    if isinstance(data, str):
        if PyUnicode_IS_ASCII(data):
            return PyUnicode_GET_LENGTH(data)
        return PyBytes_GET_SIZE(PyUnicode_AsUTF8String(data))
    return len(data)


cpdef Py_ssize_t memory_size(data) except -1:
    if isinstance(data, str):
        return PyUnicode_KIND(data) * PyUnicode_GET_LENGTH(data)
    return len(data)


cdef class ReadBuffer:
    def __cinit__(self, Py_ssize_t size):
        self.memory = bytearray(size)

    cpdef object view(self, Py_ssize_t size):
        return memoryview(self.memory)[:size]

    cdef const unsigned char *taken(self, Py_ssize_t size) except NULL:
        # The views keep it from moving.
        if not 0 <= size <= PyByteArray_GET_SIZE(self.memory):
            raise ValueError(f"{size} bytes are not in a buffer of {len(self.memory)}")
        return <const unsigned char *>PyByteArray_AS_STRING(self.memory)


cdef class Assembly:
    # The payload is read and unmasked where it is going to stay: in a bytes
    # object that nobody has seen yet. `memory` is our only reference to it, and
    # so it may grow in place; a view that `room` gave holds another.

    def __cinit__(self, Py_ssize_t size, bytes key):
        self.size = self.left = size
        self.position = self.capacity = 0
        self.memory = NULL
        self.masked = PyBytes_GET_SIZE(key) == 4
        if self.masked:
            memcpy(self.key, PyBytes_AS_STRING(key), 4)

    def __dealloc__(self):
        Py_XDECREF(self.memory)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.memory == NULL:
            raise BufferError("there is no room")
        PyBuffer_FillInfo(
            view, <object>self.memory, _address(self.memory) + self.position,
            self.capacity - self.position, 0, flags,
        )

    cpdef object room(self):
        if self.capacity == self.position:
            self.grow(min(self.size, max(AHEAD * self.capacity, STEP)))
        return PyMemoryView_FromObject(self)

    cpdef int filled(self, Py_ssize_t size) except -1:
        if not 0 <= size <= self.capacity - self.position:
            raise ValueError(f"there was no room for {size} bytes")
        self.placed(<const unsigned char *>_address(self.memory) + self.position, size)
        return 0

    cpdef int add(self, const unsigned char *data, Py_ssize_t start, Py_ssize_t stop) except -1:
        cdef Py_ssize_t size = stop - start
        if size > self.left:
            raise ValueError(f"{size} bytes are more than the payload has")
        if size > self.capacity - self.position:
            self.grow(min(self.size, AHEAD * (self.position + size)))
        if size:
            self.placed(data + start, size)
        return 0

    cdef int grow(self, Py_ssize_t wanted) except -1:
        cdef PyObject *larger
        if self.memory != NULL and _references(self.memory) == 1:
            try:
                _resize_bytes(&self.memory, wanted)
            except MemoryError:  # it is gone
                self.position = self.capacity = 0
                raise
        else:
            larger = _new_bytes(NULL, wanted)
            if self.position:
                memcpy(_address(larger), _address(self.memory), self.position)
            Py_XDECREF(self.memory)
            self.memory = larger
        self.capacity = wanted
        return 0

    cdef void placed(self, const unsigned char *source, Py_ssize_t size) noexcept:
        cdef unsigned char *target = <unsigned char *>_address(self.memory) + self.position
        cdef unsigned char key[4]
        cdef int at
        if self.masked:
            for at in range(4):
                key[at] = self.key[(self.position + at) & 3]
            mask_into(target, source, size, key)
        elif target != source:
            memcpy(target, source, size)
        self.position += size
        self.left -= size

    cpdef bytes take(self):
        cdef bytes payload
        if self.memory == NULL:
            payload = b""
        elif self.position == self.capacity:
            payload = <bytes>self.memory
        else:
            payload = PyBytes_FromStringAndSize(_address(self.memory), self.position)
        Py_XDECREF(self.memory)
        self.memory = NULL
        self.size = self.left
        self.position = self.capacity = 0
        return payload


# -------------------------------------------------------------------- masking


cpdef bytes apply_mask(data, bytes key):
    cdef Py_buffer view
    cdef bytes masked
    if PyBytes_GET_SIZE(key) != 4:
        raise ValueError("a masking key has four bytes")
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        masked = PyBytes_FromStringAndSize(NULL, view.len)
        if view.len:  # else it is the empty bytes object that everybody has
            mask_into(
                <unsigned char *>PyBytes_AS_STRING(masked), <const unsigned char *>view.buf,
                view.len, <const unsigned char *>PyBytes_AS_STRING(key),
            )
    finally:
        PyBuffer_Release(&view)
    return masked


cpdef bytes joined(bytes head, payload):
    cdef Py_ssize_t before = PyBytes_GET_SIZE(head)
    cdef Py_ssize_t size
    cdef bytes frame
    cdef char *at
    if not isinstance(payload, bytes):
        raise TypeError(f"a payload is bytes, not {type(payload).__name__}")
    size = PyBytes_GET_SIZE(payload)
    frame = PyBytes_FromStringAndSize(NULL, before + size)
    at = PyBytes_AS_STRING(frame)
    memcpy(at, PyBytes_AS_STRING(head), before)
    memcpy(at + before, PyBytes_AS_STRING(payload), size)
    return frame


cpdef bytes sealed(bytes head, bytes key, payload):
    cdef Py_ssize_t before = PyBytes_GET_SIZE(head)
    cdef Py_ssize_t size
    cdef bytes frame
    cdef char *at
    if PyBytes_GET_SIZE(key) != 4:
        raise ValueError("a masking key has four bytes")
    if not isinstance(payload, bytes):
        raise TypeError(f"a payload is bytes, not {type(payload).__name__}")
    size = PyBytes_GET_SIZE(payload)
    frame = PyBytes_FromStringAndSize(NULL, before + 4 + size)
    at = PyBytes_AS_STRING(frame)
    memcpy(at, PyBytes_AS_STRING(head), before)
    memcpy(at + before, PyBytes_AS_STRING(key), 4)
    mask_into(
        <unsigned char *>at + before + 4, <const unsigned char *>PyBytes_AS_STRING(payload),
        size, <const unsigned char *>at + before,
    )
    return frame


cdef bytes _pool = b""
cdef Py_ssize_t _used = 0


cpdef bytes new_key():
    global _pool, _used
    cdef bytes key
    if _used >= PyBytes_GET_SIZE(_pool):
        _pool = os.urandom(POOL)
        _used = 0
    key = PyBytes_FromStringAndSize(PyBytes_AS_STRING(_pool) + _used, 4)
    _used += 4
    return key


def _forget_keys():
    global _pool, _used
    _pool = b""
    _used = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_keys)
