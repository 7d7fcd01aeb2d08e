"""The size of an image, and the tokens that are counted for it."""

from __future__ import annotations

import struct
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.providers import images

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 640, 480, 8, 2, 0, 0, 0)
GIF = b"GIF89a" + struct.pack("<HH", 640, 480) + b"\xf7\x00\x00"
RIFF = b"RIFF\x00\x00\x00\x00WEBP"
VP8 = RIFF + b"VP8 \x00\x00\x00\x00\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 640 | 1 << 14, 480)
VP8L = RIFF + b"VP8L\x00\x00\x00\x00\x2f" + struct.pack("<I", 639 | 479 << 14)
VP8X = RIFF + b"VP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


FRAME = struct.pack(">BHH", 8, 480, 640) + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
JPEG = b"\xff\xd8" + segment(0xE0, b"JFIF\x00" + bytes(9)) + segment(0xC0, FRAME)
PHOTO = b"\xff\xd8" + segment(0xE1, bytes(65_000)) * 2 + segment(0xC4, bytes(30)) + segment(0xC2, FRAME)


@pytest.mark.parametrize("image", [PNG, GIF, VP8, VP8L, VP8X, JPEG, PHOTO])
def test_the_size_is_in_the_header(image: bytes) -> None:
    """Each format that providers take says its size in its first bytes."""
    assert images.size_of(b64encode(image).decode()) == (640, 480)


@pytest.mark.parametrize("base64", ["", "x", "????", "é", b64encode(PNG[:18]).decode(), b64encode(JPEG[:22]).decode()])
def test_what_does_not_say_its_size(base64: str) -> None:
    """It is taken for an image of a usual size."""
    assert images.size_of(base64) == images.UNSEEN


@given(
    st.sampled_from([b"", PNG[:8], GIF[:6], RIFF, RIFF + b"VP8 ", RIFF + b"VP8L", RIFF + b"VP8X", b"\xff\xd8"]), st.binary()
)
def test_any_bytes_have_a_size(head: bytes, body: bytes) -> None:
    """Broken images are the provider's to refuse."""
    width, height = images.size_of(b64encode(head + body).decode())

    assert width >= 0
    assert height >= 0
    assert images.tokens_of((width, height), "gpt-4o") >= 85


@pytest.mark.parametrize(
    ("size", "model", "detail", "tokens"),
    [
        ((1024, 1024), "gpt-4o", "high", 765),  # OpenAI's own examples: scaled to 768 x 768, four tiles
        ((2048, 4096), "gpt-4o", "high", 1105),  # scaled to 1024 x 2048, then 768 x 1536, six tiles
        ((4096, 8192), "gpt-4o", "low", 85),
        ((100, 100), "gpt-4o", "", 255),
        ((1000, 1000), "claude-sonnet-5", "high", 1334),  # Anthropic's own example
        ((8000, 8000), "anthropic/claude-opus-5", "low", 4784),
    ],
)
def test_the_published_formulas(size: images.Size, model: str, detail: str, tokens: int) -> None:
    """The providers' own examples come out."""
    assert images.tokens_of(size, model, detail) == tokens
