"""What the parts of a conversation cost."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from llm_fanout.core.tokens import estimate_tokens
from llm_fanout.providers import parts

PNG = b64encode(bytes.fromhex("89504e470d0a1a0a0000000d49484452000002000000020008020000007b1a43ad")).decode()  # 512 x 512
URL = f"data:image/png;base64,{PNG}"
SECOND = "A" * (32_000 * 4 // 3)
PAGES = "A" * 80_000  # 60,000 bytes


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "text", "text": "some words here"}, estimate_tokens("some words here")),
        ({"type": "input_text", "text": "some words here"}, estimate_tokens("some words here")),
        ({"type": "image_url", "image_url": {"url": URL}}, 255),
        ({"type": "image_url", "image_url": {"url": URL, "detail": "low"}}, 85),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, 765),
        ({"type": "image_url"}, 765),
        ({"type": "input_image", "image_url": URL}, 255),
        ({"type": "input_image", "image_url": URL, "detail": "low"}, 85),
        ({"type": "input_image", "file_id": "file-1"}, 765),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}, 255),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com"}}, 765),
        ({"type": "input_audio", "input_audio": {"data": SECOND, "format": "wav"}}, 10),
        ({"type": "input_audio", "input_audio": {"data": SECOND, "format": "mp3"}}, 40),
        ({"type": "input_audio"}, 0),
        ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PAGES}"}}, 3_000),
        ({"type": "file", "file": {"file_data": f"data:text/plain;base64,{PAGES}"}}, 15_000),
        ({"type": "file", "file": {"file_data": PAGES}}, 3_000),
        ({"type": "file", "file": {"file_id": "file-1"}}, 10_000),
        ({"type": "input_file", "file_data": f"data:application/pdf;base64,{PAGES}"}, 3_000),
        ({"type": "input_file", "file_url": "https://example.com"}, 10_000),
        ({"type": "document", "source": {"type": "base64", "data": PAGES}}, 3_000),
        ({"type": "document", "source": {"type": "text", "data": "some words"}}, estimate_tokens("some words")),
        ({"type": "document", "source": {"type": "content", "content": "some words"}}, estimate_tokens("some words")),
        ({"type": "document", "source": {"type": "url", "url": "https://example.com"}}, 10_000),
        (
            {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "18 C"}]},
            estimate_tokens("18 C"),
        ),
        ({"type": "tool_result", "tool_use_id": "1", "content": "18 C"}, estimate_tokens("18 C")),
        ({"type": "tool_use", "input": {"a": 1}}, estimate_tokens('{"type": "tool_use", "input": {"a": 1}}')),
        ({"text": "no type"}, estimate_tokens("no type")),
        ("odd", 0),
    ],
)
def test_each_part_counts(part: Any, tokens: int) -> None:
    """Text as text, images by their size, audio by its length, files by their bytes, the rest as the JSON it is."""
    assert parts.content_tokens([part], "gpt-4o") == tokens


def test_the_model_says_how_images_are_counted() -> None:
    """Claude counts pixels, through whichever API it is asked."""
    content = [{"type": "image_url", "image_url": {"url": URL}}]

    assert parts.content_tokens(content, "anthropic/claude-sonnet-5") == 350


def test_the_tool_calls_of_a_message_count() -> None:
    """A conversation with tools sends the calls again."""
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Rome"}'}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}

    assert parts.tokens_of(message, "m") > 20
    assert parts.tokens_of({"role": "assistant", "content": None}, "m") == 0
