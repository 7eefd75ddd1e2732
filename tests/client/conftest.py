"""These tests run on a clock that jumps; see `tests/clock.py`."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from simplews.link.dial import default_ssl_context

from ..clock import no_complaint, nothing_left, pytest_asyncio_loop_factories

__all__ = ["no_complaint", "nothing_left", "pytest_asyncio_loop_factories"]


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """A server's context that the system's trust store has the authority of."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    default_ssl_context.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("localhost").configure_cert(context)
    yield context
    default_ssl_context.cache_clear()
