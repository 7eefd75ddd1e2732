# cython: language_level=3
"""Coroutines step by step: ``step.py`` explains it."""

import asyncio
import sys

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject

cdef extern from "Python.h":
    int PYGEN_RETURN
    int PYGEN_NEXT
    int PyIter_Send(object iterator, object value, PyObject **result) except -1
    int PyContext_Enter(object context)  # an `except` around it would cost more than it
    void PyErr_Clear()
    int PyContext_Exit(object context) except -1

DONE = object()

# Which task runs on each loop. From Python 3.12 on that is not in a dictionary any more.
cdef dict _current = None if sys.version_info >= (3, 12) else asyncio.tasks._current_tasks
cdef object _current_task = asyncio.current_task
cdef object _enter_task = asyncio.tasks._enter_task
cdef object _leave_task = asyncio.tasks._leave_task


cpdef object current_task(loop):
    if _current is None:
        return _current_task(loop)
    # Mostly there is one loop, and no task runs when a message comes.
    return _current.get(loop) if _current else None


cpdef object run_as(task, loop, context, coroutine):
    cdef PyObject *result = NULL
    cdef object value
    cdef int sent
    if _current is None:
        _enter_task(loop, task)
    else:  # nobody is there: the caller has just asked
        _current[loop] = task
    try:
        if PyContext_Enter(context) < 0:
            PyErr_Clear()
            return None
        try:
            sent = PyIter_Send(coroutine, None, &result)
        finally:
            PyContext_Exit(context)
    finally:
        if _current is None:
            _leave_task(loop, task)
        else:
            del _current[loop]
    value = <object>result
    Py_DECREF(value)
    if sent == PYGEN_RETURN:
        raise StopIteration(value)
    return value


cpdef object step(object coroutine):
    cdef PyObject *result = NULL
    cdef object value
    sent = PyIter_Send(coroutine, None, &result)
    value = <object>result
    Py_DECREF(value)
    return value if sent == PYGEN_NEXT else DONE


cdef class Steps:
    """An iterator, which an ``await`` asks for its steps; what a generator would be."""

    cdef object begin(self):
        raise NotImplementedError

    cdef object waits(self):
        raise NotImplementedError

    cdef object ended(self, object result, bint taken=False):
        raise NotImplementedError

    cdef bint failed(self, object exc) except -1:
        raise NotImplementedError

    cpdef object wait(self):
        return self

    cdef int advance(self, PyObject **result, bint taken) except -1:
        """
        One step, with a reference to what it yields.

        At its end, to what `ended` hands over, which is not None only if the caller takes
        it, with *taken*; else NULL.
        """
        cdef object value
        cdef int sent
        cdef bint first = self._coroutine is None
        try:
            if first:
                self._coroutine = self.begin()
            sent = PyIter_Send(self._coroutine, None, result)
            if sent == PYGEN_RETURN:
                value = <object>result[0]
                Py_DECREF(value)
                result[0] = NULL
                self._coroutine = None
                value = self.ended(value, taken)
        except BaseException as exc:
            self._coroutine = None
            if not self.failed(exc):
                raise
            return PYGEN_RETURN
        if sent == PYGEN_NEXT:
            if first:
                self.waits()
        elif value is not None:
            Py_INCREF(value)
            result[0] = <PyObject *>value
        return sent

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef PyObject *result = NULL
        cdef object value
        if self.advance(&result, False) == PYGEN_RETURN:
            raise StopIteration
        value = <object>result
        Py_DECREF(value)
        return value

    def send(self, value):
        return next(self)

    def throw(self, kind, value=None, traceback=None):
        exc = kind if value is None else value
        coroutine = self._coroutine
        if coroutine is None:
            raise exc
        try:
            try:
                return coroutine.throw(exc)
            except StopIteration as end:
                self._coroutine = None
                self.ended(end.value)
        except BaseException as error:
            self._coroutine = None
            if not self.failed(error):
                raise
        raise StopIteration

    def close(self):
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            try:
                coroutine.close()
            finally:
                self.failed(GeneratorExit())
