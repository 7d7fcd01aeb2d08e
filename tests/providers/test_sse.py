"""Server-sent events, from any chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.providers.sse import Event, SseParser, events


def parsed(*chunks: bytes) -> list[Event]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [Event("a")]),
        (b"data:a\n\n", [Event("a")]),
        (b"data:  a\n\n", [Event(" a")]),
        (b"data: a\r\n\r\n", [Event("a")]),
        (b"data: a\r\r", [Event("a")]),
        (b"data: a\r\n\n", [Event("a")]),
        (b"data: a\ndata: b\ndata\n\n", [Event("a\nb\n")]),
        (b"event: ping\ndata: {}\n\ndata: x\n\n", [Event("{}", "ping"), Event("x")]),
        (b"event: ping\n\ndata: x\n\n", [Event("x")]),
        (b"event\ndata: x\n\n", [Event("x")]),
        (b": keep-alive\n\n: again\n\n", []),
        (b"id: 7\nretry: 10\nunknown: x\ndata: y\n\n", [Event("y")]),
        (b"data: a: b\n\n", [Event("a: b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event("a")]),
        (b"data: \xef\xbb\xbfa\n\n", [Event("\ufeffa")]),
        (b"data: a\x0bb\x0cc\xc2\x85d\xe2\x80\xa8e\n\n", [Event("a\x0bb\x0cc\x85d\u2028e")]),
        (b"data: cut off", []),
        (b"data: cut off\n", []),
        (b"", []),
    ],
)
def test_the_rules_of_the_standard(stream: bytes, expected: list[Event]) -> None:
    """Fields, line ends, comments and empty events are what the WHATWG says."""
    assert parsed(stream) == expected


FRAGMENTS = [b"data: ", b"event: ", b":", b"\r", b"\n", b"\r\n", b"\n\n", "é€😀".encode(), b"x", b"\xef\xbb\xbf", b"id: 1"]


@given(st.lists(st.sampled_from(FRAGMENTS)).map(b"".join), st.data())
def test_chunks_make_no_difference(stream: bytes, data: st.DataObject) -> None:
    """Wherever a stream is cut, inside a line's end or a character too, the events are the same."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert parsed(*chunks) == parsed(stream) == parsed(*[bytes([byte]) for byte in stream])


@pytest.mark.parametrize("stream", [b"data: \xff\n\n", b": \xc3\n\n", b"data: \xed\xa0\x80\n"])
def test_what_is_no_utf8_is_an_error(stream: bytes) -> None:
    """Bytes are not guessed at."""
    with pytest.raises(ValueError, match="utf-8"):
        parsed(stream)


@pytest.mark.parametrize("chunk", [b"x", b"data: xxxxxxxxx\n", b"data: xxxxxxxxx", b": xxxxxxxxx"])
def test_an_event_has_a_largest_size(chunk: bytes) -> None:
    """A line or an event that never ends is given up, however it is chunked."""
    parser = SseParser(limit=100)

    with pytest.raises(ValueError, match="more than 100 bytes"):
        _ = [parser.feed(chunk) for _ in range(200)]


def test_the_largest_size_is_of_one_event() -> None:
    """A stream of any length passes, and so do comments."""
    parser = SseParser(limit=20)

    chunks = [b"data: 1234", b"567890\n\n", b": keep alive\n"] * 100

    assert [event for chunk in chunks for event in parser.feed(chunk)] == [Event("1234567890")] * 100


async def test_events_of_a_stream() -> None:
    """Each event comes with the chunk that ends it."""

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"data: a\n\nda", b"ta: b\n", b"\ndata: c"):
            yield chunk

    assert [event async for event in events(chunks())] == [Event("a"), Event("b")]


async def test_events_have_a_limit() -> None:
    """The limit is the caller's to say."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"data: " + b"x" * 50

    with pytest.raises(ValueError, match="more than 40 bytes"):
        await anext(events(chunks(), limit=40))
