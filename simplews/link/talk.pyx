# cython: language_level=3
"""``send()`` and ``receive()`` without a coroutine for each message: ``talk.py`` explains it."""

cimport cython
from cpython.exc cimport PyErr_SetObject
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from .asgilink cimport ASGILink
from .inbox cimport Inbox
from .step cimport Steps
from .waiter cimport Waiter
from .wire cimport WireLink

from types import CoroutineType

from ..types import BinaryMessage, TextMessage
from .base import send_later
from .options import UNSET

cdef extern from *:
    """
    /* Cython has no name for am_send, with which an `await` gets a result without an
       exception around it (Python 3.11), nor for an end of __next__ without one. */
    static destructor free_call;
    static void give_slots(PyTypeObject *type, void *send, void *next, void *drop) {
        type->tp_as_async->am_send = (sendfunc) send;
        type->tp_iternext = (iternextfunc) next;
        free_call = type->tp_dealloc;
        type->tp_dealloc = (destructor) drop;
        PyType_Modified(type);
    }
    """
    void give_slots(type kind, void *send, void *next, void *drop)
    void free_call(PyObject *call)

cdef extern from "Python.h":
    int PYGEN_RETURN
    int PYGEN_NEXT
    int PyIter_Send(object iterator, object value, PyObject **result) except -1
    void PyErr_Fetch(PyObject **kind, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *kind, PyObject *value, PyObject *traceback)
    # With none of Cython's own ideas about what to do with an error.
    int PyErr_WarnEx(PyObject *category, const char *message, Py_ssize_t level)
    void PyErr_WriteUnraisable(PyObject *place)
    void PyObject_GC_UnTrack(void *found)
    PyObject *PyExc_RuntimeWarning
    PyTypeObject *Py_TYPE(PyObject *thing)

cdef object _UNSET = UNSET
cdef object _TextMessage = TextMessage
cdef object _BinaryMessage = BinaryMessage
cdef object _CoroutineType = CoroutineType
cdef object _send_later = send_later


cdef class Talk:
    def _carry(self, link):
        inbox = link.inbox
        self._link = link
        self._inbox = inbox
        self._messages = inbox.messages
        self._wait = link.wait
        self._limit = self._options.receive_timeout
        self._wire = link if isinstance(link, WireLink) else None
        self._asgi = link if isinstance(link, ASGILink) else None
        self._own = inbox if isinstance(inbox, Inbox) else None

    # Calls of C where the link is compiled, by way of its class: it has no subclass that
    # does them otherwise.

    cdef bint sent(self, data, compress) except -1:
        if self._wire is not None:
            return WireLink.send_nowait(self._wire, data, compress)
        if self._asgi is not None:
            return ASGILink.send_nowait(self._asgi, data, compress)
        return self._link.send_nowait(data, compress)

    cdef object waiting(self, timeout):
        if self._wire is not None:
            return WireLink.wait(self._wire, timeout)
        if self._asgi is not None:
            return ASGILink.wait(self._asgi, timeout)
        return self._wait(timeout)


# Methods of `AioBase`. Not of `Talk`: those do not look what they are called with.

def send(self, data, *, compress=None):
    cdef Talk talk = <Talk?>self
    cdef Sending call = Sending.__new__(Sending)
    call._state = NEW
    call._talk = talk
    call._argument = data
    call._compress = compress
    return call


def receive(self, timeout=UNSET):
    cdef Talk talk = <Talk?>self
    cdef Receiving call = Receiving.__new__(Receiving)
    call._state = NEW
    call._talk = talk
    call._argument = timeout
    return call


SHORTCUTS = {"send": send, "receive": receive}


cdef enum:
    OVER  # of one that nobody has called as well: its class is there for everybody
    NEW
    WAITS


@cython.freelist(32)
@cython.auto_pickle(False)
cdef class Call:
    """
    A coroutine to whoever awaits it, and to `asyncio.create_task`.

    It has the fields of all of its kinds: only what is as large as it is has a free list.
    """

    cdef Talk _talk
    cdef int _state
    cdef object _inner  # what it awaits
    cdef object _argument
    cdef object _compress
    cdef bint _follows  # whether it is for ``async for``

    cdef int advance(self, PyObject **result) except -1:
        """One step: what to give to the task, or the result."""
        raise NotImplementedError

    def __await__(self):
        if self._state != NEW:
            self.refuse()
        return self

    cdef int refuse(self) except -1:
        raise RuntimeError(
            "cannot reuse already awaited coroutine" if self._state == OVER
            else "coroutine is being awaited already"
        )

    def __iter__(self):
        return self

    def __next__(self):
        raise NotImplementedError  # `following` takes its slot

    def send(self, value):
        return next(self)

    def throw(self, kind, value=None, traceback=None):
        exc = kind if value is None else value
        if self._state == OVER:  # or it runs
            self.refuse()
        inner, self._inner = self._inner, None
        self._state = OVER
        if inner is None:
            raise exc
        try:
            given = inner.throw(exc)
        except StopIteration as end:
            if self.last(end.value):
                raise StopIteration
            self._state = WAITS
            return next(self)
        self._inner = inner
        self._state = WAITS
        return given

    cdef bint last(self, value) except -1:
        """Whether the end of what it awaited, which is *value*, is its own."""
        raise NotImplementedError

    def close(self):
        if self._state == OVER:  # or it runs
            return
        inner, self._inner = self._inner, None
        self._state = OVER
        if inner is not None:
            inner.close()

    # What looks at a task asks these of its coroutine, and some ask whether it is one.

    @property
    def __class__(self):
        return _CoroutineType

    @property
    def __name__(self):
        return self.__qualname__.rpartition(".")[2]

    @property
    def cr_running(self):
        return False

    @property
    def cr_suspended(self):
        return self._state == WAITS

    @property
    def cr_frame(self):
        return None

    @property
    def cr_await(self):
        return self._inner

    def __repr__(self):
        return f"<coroutine object {self.__qualname__} at {<size_t><PyObject *>self:#x}>"


@cython.final
@cython.auto_pickle(False)
cdef class Sending(Call):
    __qualname__ = "AioBase.send"

    cdef int advance(self, PyObject **result) except -1:
        cdef Talk talk
        cdef int sent
        if self._state == NEW:
            self._state = OVER  # if it raises
            talk = self._talk
            if talk.sent(self._argument, self._compress):
                return give(None, result)
            self._inner = _send_later(talk._link, self._argument, self._compress).__await__()
        elif self._state == OVER:
            self.refuse()
        self._state = OVER
        sent = PyIter_Send(self._inner, None, result)
        if sent == PYGEN_NEXT:
            self._state = WAITS
        else:
            self._inner = None
        return sent

    cdef bint last(self, value) except -1:
        return True


@cython.final
@cython.auto_pickle(False)
cdef class Receiving(Call):
    __qualname__ = "AioBase.receive"

    cdef int advance(self, PyObject **result) except -1:
        cdef Talk talk = self._talk
        cdef object value, waiting
        cdef int sent
        cdef bint past
        if self._state == OVER:
            self.refuse()
        self._state = OVER  # if it raises
        while True:
            if type(self._inner) is Waiter:
                (<Waiter>self._inner).close()
                self._inner = None
            elif self._inner is not None:
                past = isinstance(self._inner, Steps)
                if past:
                    sent = (<Steps>self._inner).advance(result, talk._stream is None)
                else:
                    sent = PyIter_Send(self._inner, None, result)
                if sent == PYGEN_NEXT:
                    self._state = WAITS
                    return PYGEN_NEXT
                self._inner = None
                if result[0] != NULL:
                    value = <object>result[0]
                    Py_DECREF(value)
                    result[0] = NULL
                    if past:  # a message that has come past the inbox
                        return give(self.shaped(value) if self._follows else value, result)
                    if self.last(value):
                        return give(None, result)
            if talk._messages:
                if talk._stream is None:
                    value = talk._own.get() if talk._own is not None else talk._inbox.get()
                    return give(self.shaped(value) if self._follows else value, result)
                talk._inbox.check_single_reader()
                talk._leave_stream()
                continue
            if talk._own.ended if talk._own is not None else talk._inbox.ended:
                raise self.end(talk)
            value = talk._limit if self._argument is _UNSET else self._argument
            waiting = talk.waiting(value)
            if type(waiting) is Waiter:
                self._inner = waiting
                self._state = WAITS
                give((<Waiter>waiting).begin(), result)
                return PYGEN_NEXT
            self._inner = waiting if isinstance(waiting, Steps) else waiting.__await__()

    cdef bint last(self, value) except -1:
        return bool(value)  # the time is over

    cdef object shaped(self, value):
        return _TextMessage(value) if isinstance(value, str) else _BinaryMessage(value)

    cdef object end(self, Talk talk):
        error = talk._closed_error()
        return StopAsyncIteration() if self._follows and error.ending.normal else error


@cython.final
cdef class Messages:
    """What ``async for`` goes through."""

    cdef Talk _talk

    def __cinit__(self, Talk talk not None):
        self._talk = talk

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Receiving call = Receiving.__new__(Receiving)
        call._state = NEW
        call._talk = self._talk
        call._follows = True
        return call


cdef inline int give(object value, PyObject **result) except -1:
    Py_INCREF(value)
    result[0] = <PyObject *>value
    return PYGEN_RETURN


cdef int sent_on(Call call, object value, PyObject **result) except -1:
    """am_send."""
    result[0] = NULL
    return call.advance(result)


cdef PyObject *following(Call call) except? NULL:
    """tp_iternext."""
    cdef PyObject *result = NULL
    cdef object value
    if call.advance(&result) == PYGEN_NEXT:
        return result
    value = <object>result
    Py_DECREF(value)
    if value is not None:
        PyErr_SetObject(StopIteration, value)  # neither a tuple nor an exception
    return NULL


cdef void dropped(PyObject *call) noexcept:
    """tp_dealloc; ``__dealloc__`` would save and restore an error each time."""
    if (<Call>call)._state != OVER:
        PyObject_GC_UnTrack(call)  # nobody may find it while others run
        if (<Call>call)._state == NEW:
            complain(call)
        else:
            leave(call)
    free_call(call)


cdef void leave(PyObject *call) noexcept:
    """Who dropped it did not close it: let what it awaits know, as a coroutine does."""
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    PyErr_Fetch(&kind, &value, &traceback)
    inner = (<Call>call)._inner
    (<Call>call)._inner = None
    try:
        if inner is not None:  # the garbage collector may have taken it
            inner.close()
    except BaseException as exc:
        PyErr_SetObject(type(exc), exc)
        PyErr_WriteUnraisable(NULL)
    PyErr_Restore(kind, value, traceback)


cdef void complain(PyObject *call) noexcept:
    cdef const char *text = "coroutine 'AioBase.send' was never awaited"
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    if Py_TYPE(call) == <PyTypeObject *>Receiving:
        text = "coroutine 'AioBase.receive' was never awaited"
    PyErr_Fetch(&kind, &value, &traceback)
    if PyErr_WarnEx(PyExc_RuntimeWarning, text, 1) < 0:
        PyErr_WriteUnraisable(NULL)  # warnings are errors
    PyErr_Restore(kind, value, traceback)


for _kind in (Sending, Receiving):
    give_slots(_kind, <void *>sent_on, <void *>following, <void *>dropped)
