"""The tree of exceptions: who catches what, and what each one says."""

from __future__ import annotations

import builtins
import pickle

import pytest

import simplews
from simplews import errors
from simplews.errors import (
    ConnectionClosed,
    ConnectionError,
    ConnectTimeout,
    InvalidURL,
    NotInScope,
    ProtocolError,
    UnexpectedMessage,
    WebSocketDisconnect,
    WebSocketError,
    WebSocketRuntimeError,
)
from simplews.types import Close, Ending, Headers


@pytest.mark.parametrize(
    ("error", "caught_by"),
    [
        (WebSocketError, (RuntimeError,)),
        (WebSocketRuntimeError, (WebSocketError, RuntimeError)),
        (NotInScope, (WebSocketRuntimeError, AssertionError)),
        (UnexpectedMessage, (WebSocketError, TypeError)),
        (ConnectionError, (WebSocketError, builtins.ConnectionError, OSError)),
        (ConnectTimeout, (ConnectionError, TimeoutError, OSError)),
        (InvalidURL, (ConnectionError, ValueError)),
        (WebSocketDisconnect, (WebSocketError,)),
        (ConnectionClosed, (WebSocketDisconnect, WebSocketError)),
    ],
)
def test_error_is_caught_as(error: type[Exception], caught_by: tuple[type[Exception], ...]) -> None:
    """One `except` clause catches every way in which dialling can fail."""
    assert issubclass(error, caught_by[0])
    assert all(issubclass(error, base) for base in caught_by)


def test_errors_that_mean_different_things_do_not_catch_each_other() -> None:
    """Never opened, was open, called wrongly."""
    kinds = [ConnectionError, WebSocketDisconnect, WebSocketRuntimeError]
    for one in kinds:
        assert not any(issubclass(one, other) for other in kinds if other is not one)
    assert not issubclass(ConnectionClosed, OSError)
    assert not issubclass(ProtocolError, WebSocketError), "it is inside: no application sees it"


def test_every_error_is_listed_and_can_be_reached() -> None:
    """`__all__` has every class of the module; the package has what applications see."""
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert classes == set(errors.__all__)
    for name in classes - {"ProtocolError"}:
        assert getattr(simplews, name, getattr(errors, name)) is getattr(errors, name)
    for name in ("ConnectionError", "ConnectionClosed", "WebSocketDisconnect"):
        assert hasattr(simplews, name)


def test_connection_error_carries_the_answer() -> None:
    """Nothing when there was none; its text is the message, not an errno and a tuple."""
    error = ConnectionError("refused")
    assert (str(error), error.status_code, error.body) == ("refused", None, b"")
    assert dict(error.headers) == {}
    headers = Headers([("X", "y")])
    error = ConnectionError("refused", status_code=403, headers=headers, body=b"no")
    assert (error.status_code, error.headers["x"], error.body) == (403, "y", b"no")


@pytest.mark.parametrize("error", [ConnectionError, ConnectTimeout, InvalidURL])
def test_text_of_a_connection_error_is_its_message(error: type[ConnectionError]) -> None:
    """OSError has ideas of its own about arguments."""
    assert str(error("what happened")) == "what happened"
    assert str(error("")) == ""


def test_headers_of_two_errors_are_not_shared() -> None:
    """The default is made for each."""
    assert ConnectionError("a").headers is not ConnectionError("b").headers


def test_disconnect_has_code_and_reason() -> None:
    """The words of ASGI; None is no reason."""
    error = WebSocketDisconnect()
    assert (error.code, error.reason, str(error)) == (1000, "", "1000")
    error = WebSocketDisconnect(4001, "bye")
    assert (error.code, error.reason, str(error)) == (4001, "bye", "4001 bye")
    assert WebSocketDisconnect(1001, None).reason == ""


def test_closed_tells_both_halves() -> None:
    """Code and reason of whoever was first; both Close frames; a sentence."""
    ending = Ending("peer", sent=Close(1001), received=Close(1001, "restart"))
    error = ConnectionClosed(ending)
    assert (error.code, error.reason, error.message) == (1001, "restart", "restart")
    assert (error.sent, error.received) == (Close(1001), Close(1001, "restart"))
    assert error.ending is ending
    assert str(error) == error.explain() == ending.explain()
    assert "1001 (going away) 'restart'" in str(error)


def test_closed_without_any_close_is_abnormal() -> None:
    """RFC 6455 §7.1.5."""
    error = ConnectionClosed(Ending("lost", why="reset"))
    assert (error.code, error.sent, error.received) == (1006, None, None)


def test_protocol_error_carries_the_code_to_send() -> None:
    """It is data: the decoder records it, the link sends it."""
    error = ProtocolError(1009, "too big")
    assert (error.close_code, error.reason) == (1009, "too big")
    assert str(error) == "too big (close code 1009)"


@pytest.mark.parametrize(
    "error",
    [
        WebSocketRuntimeError("misuse"),
        ConnectionError("refused", status_code=403, body=b"no"),
        ConnectTimeout("late"),
        InvalidURL("none"),
        WebSocketDisconnect(4001, "bye"),
        ProtocolError(1002, "wrong"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_survives_a_process_boundary(error: Exception) -> None:
    """Pools and test runners pickle exceptions."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_closed_survives_a_process_boundary() -> None:
    """Its argument is an Ending, not the code and reason that its base keeps."""
    ending = Ending("peer", sent=Close(1001), received=Close(1001, "restart"))
    copy = pickle.loads(pickle.dumps(ConnectionClosed(ending)))
    assert (copy.code, copy.reason, str(copy)) == (1001, "restart", ending.explain())
