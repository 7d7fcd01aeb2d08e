"""About how many tokens the parts of a conversation cost, in the words of any of the APIs.

An estimate reserves quota before a call, and is corrected by what the provider counted. So what cannot be seen (an image
behind a URL, a file that was uploaded before) is taken for one of a usual size, and doubt goes upward.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ..core.tokens import estimate_tokens
from . import images
from .reading import mapping, rows, text

AUDIO_TOKENS = 10.0  # a second; OpenAI, realtime guide on costs: a token for 100 ms of what the user says
AUDIO_BYTES = {"wav": 32_000, "mp3": 8_000}  # a second of speech: 16 kHz of 16 bits; 64 kbit/s
TEXT_BYTES = 4  # a token of a text file; the usual rule of thumb
FILE_BYTES = 20  # a token of a PDF: Anthropic, PDF support: 1,500 to 3,000 a page; that a page has 40 kB is a guess
UNSEEN_FILE = 10_000  # tokens; a handful of pages

Part = Mapping[str, Any]
Count = Callable[[str], int]  # tokens of a text


def tokens_of(message: Part, model: str, count: Count = estimate_tokens) -> int:
    """About how many tokens a message costs: its content, and the tool calls that it carries; texts by `count`."""
    calls = message.get("tool_calls")
    return content_tokens(message.get("content"), model, count) + (count(_json(calls)) if calls else 0)


def content_tokens(content: object, model: str, count: Count = estimate_tokens) -> int:
    """About how many tokens a content costs: a text, or a list of parts."""
    if isinstance(content, str):
        return count(content)
    return sum(_part_tokens(part, model, count) for part in rows(content))


def declared_tokens(declaration: object, count: Count = estimate_tokens) -> int:
    """About how many tokens tools or a JSON schema cost, counted as the JSON that they are."""
    return _count_once(_json(declaration), count)


@lru_cache(maxsize=64)  # a run declares the same with every prompt, and a schema takes longer to count than a prompt
def _count_once(declaration: str, count: Count) -> int:
    return count(declaration)


def _part_tokens(part: Part, model: str, count: Count) -> int:
    rule = _RULES.get(text(part.get("type")))
    if rule is not None:
        return rule(part, model, count)
    return count(text(part.get("text")) or _json(part))


def _image(part: Part, model: str, count: Count) -> int:
    source, said = mapping(part.get("source")), part.get("image_url")
    url = text(said) or text(mapping(said).get("url"))
    detail = text(mapping(said).get("detail")) or text(part.get("detail"))
    data = text(source.get("data")) or _data_of(url)
    return images.tokens_of(images.size_of(data) if data else images.UNSEEN, model, detail)


def _audio(part: Part, model: str, count: Count) -> int:
    audio = mapping(part.get("input_audio"))
    rate = AUDIO_BYTES.get(text(audio.get("format")), AUDIO_BYTES["mp3"])
    return round(_size_of(text(audio.get("data"))) / rate * AUDIO_TOKENS)


def _file(part: Part, model: str, count: Count) -> int:
    """OpenAI's files: `file` in Chat Completions, the fields themselves in Responses."""
    url = text(mapping(part.get("file", part)).get("file_data"))
    rate = TEXT_BYTES if url.startswith("data:text/") else FILE_BYTES
    data = _data_of(url) or url
    return _size_of(data) // rate if data else UNSEEN_FILE


def _document(part: Part, model: str, count: Count) -> int:
    """Anthropic's documents: bytes, text, parts, or what only the provider can see."""
    source = mapping(part.get("source"))
    if source.get("type") == "base64":
        return _size_of(text(source.get("data"))) // FILE_BYTES
    if source.get("type") == "text":
        return count(text(source.get("data")))
    return content_tokens(source["content"], model, count) if "content" in source else UNSEEN_FILE


def _nested(part: Part, model: str, count: Count) -> int:
    return content_tokens(part.get("content"), model, count)


_RULES: Mapping[str, Callable[[Part, str, Count], int]] = {
    "image_url": _image,  # Chat Completions
    "input_image": _image,  # Responses
    "image": _image,  # Messages
    "input_audio": _audio,
    "file": _file,
    "input_file": _file,
    "document": _document,
    "tool_result": _nested,
}


def _data_of(url: str) -> str:
    """The base64 text of a data URL (RFC 2397); nothing for any other."""
    return url.partition(",")[2] if url.startswith("data:") else ""


def _size_of(base64: str) -> int:
    """Bytes that it stands for."""
    return len(base64) * 3 // 4


def _json(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
