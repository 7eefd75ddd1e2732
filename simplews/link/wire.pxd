# The types with which Cython compiles wire.py.

cimport cython

from ..protocol.codec cimport Decoder, Encoder
from ..protocol.octets cimport ReadBuffer, utf8
from .inbox cimport Inbox
from .outbox cimport Outbox

cdef Py_ssize_t LARGE
cdef Py_ssize_t _MOST_READ
cdef Py_ssize_t _MOST_FRAMES
cdef Py_ssize_t _BURST
cdef Py_ssize_t _JOINED
cdef int _TEXT
cdef int _BINARY


cdef class WireLink:
    cdef public object state
    cdef public object ending
    cdef public bint heard
    cdef readonly Inbox inbox
    cdef readonly object task
    cdef object _loop
    cdef readonly object _transport
    cdef object _streams
    cdef object _streams_protocol
    cdef object _peername
    cdef object _sockname
    cdef bint _server
    cdef bint _shares
    cdef object _options
    cdef readonly Decoder _decoder
    cdef readonly Encoder _encoder
    cdef readonly Outbox _outbox
    cdef readonly object _keepalive
    cdef list _events
    cdef bint _discard
    cdef bint _reads_in_place
    cdef bint _direct
    cdef ReadBuffer _memory
    cdef object _buffer
    cdef Py_ssize_t _read_size
    cdef Py_ssize_t _bytes_in
    cdef Py_ssize_t _messages_out
    cdef Py_ssize_t _burst
    cdef object _deadline
    cdef object _closed
    cdef object _fragment_wait
    cdef list _sends

    cpdef object get_buffer(self, Py_ssize_t sizehint)
    @cython.locals(decoder=Decoder, inbox=Inbox)
    cpdef object buffer_updated(self, Py_ssize_t nbytes)
    cpdef object received(self, bytes data)
    @cython.locals(decoder=Decoder, inbox=Inbox)
    cdef object _decode(self, bytes data)
    @cython.locals(decoder=Decoder, events=list)
    cdef object _decoded(self)
    cdef object _limit_reads(self, Py_ssize_t size)
    @cython.locals(size=Py_ssize_t, opcode=int)
    cpdef bint send_nowait(self, object data, object compress) except -1
    @cython.locals(size=Py_ssize_t)
    cpdef bint write_frames(self, object frames) except -1
    cpdef object wait(self, object timeout)
