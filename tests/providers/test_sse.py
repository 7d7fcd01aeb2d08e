"""Server-sent events, from any chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.providers.sse import Event, SseParser


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
        (b"data: a\n\ndata: b\n\ndata: c\n\n", [Event("a"), Event("b"), Event("c")]),
        (b"data: a\n\ndata: b\ndata: c\n\n", [Event("a"), Event("b\nc")]),
        (b"data: a\n\n: b\n\ndata: c\n\n", [Event("a"), Event("c")]),
        (b"data: a\n\n\ndata: b\n\n", [Event("a"), Event("b")]),
        (b"data: \n\ndata: a\n\n", [Event(""), Event("a")]),
        (b"event: x\ndata: a\n\nevent: y\ndata: b\n\n", [Event("a", "x"), Event("b", "y")]),
        (b"event: x\r\ndata: a\r\n\r\nevent: y\r\ndata: b\r\n\r\n", [Event("a", "x"), Event("b", "y")]),
        (b"event: \ndata: a\n\n", [Event("a")]),
        (b"event: x\nid: 1\ndata: a\n\n", [Event("a", "x")]),
        (b"event: x\nid: 1\n\nevent: y\nid: 2\ndata: a\n\n", [Event("a", "y")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [Event("a", "x"), Event("b")]),
        (b"event: x\ndata: a\ndata: b\n\n", [Event("a\nb", "x")]),
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
FRAGMENTS += [b"data: x\n\n", b"event: e\ndata: y\n\n", b"data: x\r\n\r\n"]


@given(st.lists(st.sampled_from(FRAGMENTS)).map(b"".join), st.data())
def test_chunks_make_no_difference(stream: bytes, data: st.DataObject) -> None:
    """Wherever a stream is cut, inside a line's end or a character too, the events are the same."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert parsed(*chunks) == parsed(stream) == parsed(*[bytes([byte]) for byte in stream])


def test_what_is_whole_may_follow_what_was_cut() -> None:
    """In any chunk: the mark of the beginning is one only there, and an event's end may be cut as well."""
    chunks = [
        b"\xef\xbb\xbfdata: a\n\n",
        b"data: b\n\n",
        b"data: c\n",
        b"\ndata: d\n\n",
        b"\xef\xbb\xbfdata: e\n\n",
        b"data: f\r\n\r",
    ]

    assert parsed(*chunks, b"\n", b"data: g\n\n") == [Event(each) for each in "abcdfg"]


@pytest.mark.parametrize("stream", [b"data: \xff\n\n", b"event: \xff\ndata: x\n\n", b": \xc3\n\n", b"data: \xed\xa0\x80\n"])
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

    chunks = [b"data: 1234", b"567890\n\n", b": keep alive\n", b"data: 1234\n\ndata: 5678\n\n"] * 100
    found = [event.data for chunk in chunks for event in parser.feed(chunk)]

    assert found == ["1234567890", "1234", "5678"] * 100
