"""The tests' own frames are those of the RFC."""

from __future__ import annotations

from .by_hand import BIN, PING, TEXT, F, Frame, accept_of, read_frames


def test_frames_by_hand_are_the_examples_of_the_rfc() -> None:
    """RFC 6455 §5.7."""
    assert F(TEXT, b"Hello").to(server=False) == bytes.fromhex("81 05 48 65 6c 6c 6f")
    masked = bytes.fromhex("81 85 37 fa 21 3d 7f 9f 4d 51 58")
    assert F(TEXT, b"Hello").to(server=True) == masked
    fragments = F(TEXT, b"Hel", fin=False).to(False) + F(0, b"lo").to(False)
    assert fragments == bytes.fromhex("01 03 48 65 6c 80 02 6c 6f")
    assert F(PING, b"Hello").to(False) == bytes.fromhex("89 05 48 65 6c 6c 6f")
    assert F(BIN, bytes(256)).to(False)[:4] == bytes.fromhex("82 7e 01 00")
    assert F(BIN, bytes(65536)).to(False)[:10] == bytes.fromhex("82 7f 00 00 00 00 00 01 00 00")
    assert read_frames(masked) == [Frame(True, 0, 1, bytes.fromhex("37fa213d"), b"Hello")]


def test_accept_value_by_hand_is_the_example_of_the_rfc() -> None:
    """RFC 6455 §1.3."""
    assert accept_of("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
