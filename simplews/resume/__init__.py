"""`simplews.resume.v1`: a client that was away gets what it missed, or is told of a gap.

The protocol is described in docs/explanation/resume.md.
"""

from ..rooms import Gap
from .client import Client, Refused
from .frames import SUBPROTOCOL
from .session import Session

__all__ = ["SUBPROTOCOL", "Client", "Gap", "Refused", "Session"]
