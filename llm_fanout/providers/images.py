"""The size of an image, from its first bytes, and the tokens that models count for it."""

from __future__ import annotations

import struct
from base64 import b64decode
from math import ceil

Size = tuple[int, int]  # width, height in pixels

# Base64 characters that are looked at; a whole number of groups of four. In a JPEG the size comes after EXIF data and colour
# profiles, each of which is cut into segments of at most 64 KiB.
HEADER = 4 * 64 * 1024

UNSEEN: Size = (1024, 1024)  # what an image is taken for that only the provider can see

TILE = 512  # OpenAI, images and vision guide (2026-11): 85 + 170 for each tile of 512 px, for gpt-4o and its like; others
TILE_TOKENS = 170  # count patches of 32 px with a factor of their own, which comes to the same within a factor of two
BASE_TOKENS = 85  # this alone at `detail: low`
LARGEST, SHORT_SIDE = 2048, 768  # px: it is scaled down into that square first, then to that shorter side

CLAUDE_PIXELS = 750  # a token; Anthropic, vision guide
CLAUDE_MOST = 4784  # tokens; the same guide: what is larger is scaled down, by models since Opus 4.7 to 2,576 px


def tokens_of(size: Size, model: str, detail: str = "high") -> int:
    """About how many tokens `model` counts for an image.

    Args:
        size: Width and height in pixels.
        model: Its name; Claude is told by it, everything else is taken for OpenAI's.
        detail: OpenAI's word: "low", or anything else for the whole.
    """
    width, height = size
    if "claude" in model.lower():
        return min(ceil(width * height / CLAUDE_PIXELS), CLAUDE_MOST)
    if detail == "low":
        return BASE_TOKENS
    scale = min(1.0, LARGEST / max(width, height, 1))
    scale = min(scale, SHORT_SIDE / max(min(width, height), 1))
    return BASE_TOKENS + TILE_TOKENS * ceil(width * scale / TILE) * ceil(height * scale / TILE)


def size_of(base64: str) -> Size:
    """Width and height of a PNG, JPEG, GIF or WebP image; those of an unseen one if its bytes do not say."""
    try:
        header = b64decode(base64[:HEADER])
        return _png(header) or _gif(header) or _webp(header) or _jpeg(header) or UNSEEN
    except (ValueError, struct.error, IndexError):  # no base64, or cut off before the size
        return UNSEEN


def _png(header: bytes) -> Size | None:
    """PNG specification, 11.2.1: IHDR is the first chunk."""
    return struct.unpack_from(">II", header, 16) if header.startswith(b"\x89PNG\r\n\x1a\n") else None


def _gif(header: bytes) -> Size | None:
    """GIF89a, 18: the logical screen descriptor."""
    return struct.unpack_from("<HH", header, 6) if header.startswith((b"GIF87a", b"GIF89a")) else None


def _webp(header: bytes) -> Size | None:
    """WebP container specification, and RFC 6386, 9.1, for the lossy form."""
    if header[:4] != b"RIFF" or header[8:12] != b"WEBP":
        return None
    form = header[12:16]
    if form == b"VP8X":
        return 1 + int.from_bytes(header[24:27], "little"), 1 + int.from_bytes(header[27:30], "little")
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", header, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", header, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg(header: bytes) -> Size | None:
    """ITU-T T.81, B.2.2: the frame header, after any number of other segments."""
    at = 2 if header.startswith(b"\xff\xd8") else len(header)
    while at < len(header):
        marker = header[at + 1]
        length, _, height, width = struct.unpack_from(">HBHH", header, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # SOF; not DHT, JPG, DAC
            return width, height
        at += 2 + length
    return None
