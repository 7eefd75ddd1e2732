"""A server's certificate and a client that trusts its issuer, made for the test run."""

from __future__ import annotations

import ssl

import trustme

__all__ = ["Tls"]


class Tls:
    """Contexts for both ends of a connection to this machine."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate = authority.issue_cert("localhost", "127.0.0.1")
        self.certificate.configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)
