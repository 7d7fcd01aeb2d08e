"""Bodies, as they should be and as faults leave them."""

from __future__ import annotations

import json
import random
from itertools import islice
from math import inf
from typing import Any

import pytest

from llm_fanout.sim.answers import Spoken
from llm_fanout.sim.apis import APIS, Api, Reply
from llm_fanout.sim.asked import parsed
from llm_fanout.sim.bodies import STRIKES, Body, Pace, body_of
from llm_fanout.sim.faults import BODY_FAULTS

PACE = Pace(latency=4.0, first=1.0, jitter=0.5)
TEXT = "one two three four five six seven eight nine ten"
ASKS: dict[str, Any] = {"model": "m", "messages": [{"content": "x"}], "input": "x", "max_tokens": 50}
TALKING = [api for api in APIS if api.streaming]


def spoilt(fault: str | None, api: Api = APIS[0], *, stream: bool, seed: int = 1) -> Body:
    """The body of an answer that says TEXT."""
    asked = api.read(parsed(json.dumps({**ASKS, "stream": stream}).encode()))
    return body_of(api, Reply("0" * 12, 1, asked, Spoken(TEXT, 13, "stop")), PACE, random.Random(seed), fault)


def raw(body: Body, most: int = 10_000) -> bytes:
    return b"".join(data for _, data in islice(body.frames, most))


WHOLE, STREAM = raw(spoilt(None, stream=False)), raw(spoilt(None, stream=True))
MESSAGE = json.loads(WHOLE)["choices"][0]


def test_every_fault_of_a_body_has_its_strike() -> None:
    """The two that change what is said are the only others."""
    assert set(BODY_FAULTS) - {"empty"} == set(STRIKES)


def test_a_stream_takes_as_long_as_an_answer() -> None:
    """It begins at once, its first piece comes after its own time, the last piece and the end with the latency."""
    instants = [at for at, _ in spoilt(None, stream=True).frames]

    assert instants[:2] == [0.0, 1.0]
    assert instants == sorted(instants)
    assert instants[-3:] == pytest.approx([4.0, 4.0, 4.0])
    assert [at for at, _ in spoilt(None, stream=False).frames] == [4.0, 4.0]


def test_the_time_of_a_piece_goes_by_its_length() -> None:
    """Without jitter, exactly; a single piece comes first."""
    pace = Pace(latency=4.0, first=1.0, jitter=0.0)

    assert pace.instants(["a", "bb", "c"], random.Random(1)) == pytest.approx([1.0, 3.0, 4.0])
    assert pace.instants(["a"], random.Random(1)) == [1.0]


def test_a_body_at_once_states_its_length() -> None:
    """A stream cannot."""
    assert spoilt(None, stream=False).length == len(WHOLE)
    assert spoilt(None, stream=True).length is None


@pytest.mark.parametrize("stream", [False, True])
def test_no_header_comes_before_a_hang_or_a_reset(stream: bool) -> None:
    """A hang says nothing for ever, a reset cuts the connection, sooner than an answer would come."""
    hang, reset = spoilt("hang", stream=stream), spoilt("reset", stream=stream)

    assert (raw(hang), hang.end) == (b"", "open")
    assert (list(reset.frames), reset.end) == ([(1.0, b"")], "abort")


@pytest.mark.parametrize(("fault", "end"), [("cut", "abort"), ("stall", "open")])
def test_half_of_an_answer_is_no_answer(fault: str, end: str) -> None:
    """After half of it, with the length of all if that was stated, the connection is cut or stays as it is."""
    whole, stream = spoilt(fault, stream=False), spoilt(fault, stream=True)

    assert (raw(whole), whole.length, whole.end) == (WHOLE[: len(WHOLE) // 2], len(WHOLE), end)
    assert (raw(stream).count(b'"content"'), stream.length, stream.end) == (3, None, end)
    assert STREAM.startswith(raw(stream))


@pytest.mark.parametrize("stream", [False, True])
def test_a_drip_gives_a_byte_a_second(stream: bool) -> None:
    """All of them, in the end."""
    frames = list(spoilt("drip", stream=stream).frames)

    assert [at for at, _ in frames] == list(range(len(frames)))
    assert b"".join(data for _, data in frames) == (STREAM if stream else WHOLE)


@pytest.mark.parametrize(("stream", "line"), [(False, b"\n"), (True, b": keep-alive\n\n")])
def test_signs_of_life_are_no_answer(stream: bool, line: bytes) -> None:
    """Comments in a stream, empty lines otherwise, with no end."""
    body = spoilt("keepalive", stream=stream)

    assert raw(body, 5_000) == line * 5_000
    assert body.length is None


def test_a_truncated_answer_has_no_finish_reason() -> None:
    """Streams say that they are over, or do not even say that."""
    streams = [raw(spoilt("truncated", stream=True, seed=seed)) for seed in range(20)]

    assert json.loads(raw(spoilt("truncated", stream=False)))["choices"] == [{**MESSAGE, "finish_reason": None}]
    assert {stream.endswith(b"[DONE]\n\n") for stream in streams} == {True, False}
    assert not any(b'"finish_reason": "' in stream for stream in streams)


def test_an_empty_answer_has_no_choices() -> None:
    """Not one, streamed or not."""
    chunks = raw(spoilt("empty", stream=True)).split(b"\n\n")[:-2]

    assert json.loads(raw(spoilt("empty", stream=False)))["choices"] == []
    assert [json.loads(chunk.removeprefix(b"data: "))["choices"] for chunk in chunks] == [[], []]


@pytest.mark.parametrize("fault", ["malformed", "bad_chunk"])
def test_malformed_is_half_of_something(fault: str) -> None:
    """Of one event in a stream, otherwise of the body, which states what it has."""
    whole = spoilt(fault, stream=False)
    events = raw(spoilt(fault, stream=True)).split(b"\n\n")
    broken = [event for event in events if event and event not in STREAM.split(b"\n\n")]

    assert (raw(whole), whole.length) == (WHOLE[: len(WHOLE) // 2], len(WHOLE) // 2)
    assert len(broken) == 1
    assert len(events) == len(STREAM.split(b"\n\n"))
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        json.loads(broken[0].removeprefix(b"data: "))


@pytest.mark.parametrize("stream", [False, True])
def test_bad_utf8_is_no_text(stream: bool) -> None:
    """One byte too many."""
    body = spoilt("bad_utf8", stream=stream)

    assert raw(body).replace(b"\xff", b"") == (STREAM if stream else WHOLE)
    assert body.length in (None, len(WHOLE) + 1)


@pytest.mark.parametrize("api", TALKING, ids=lambda api: api.paths[0])
def test_an_error_event_ends_a_stream(api: Api) -> None:
    """After some of the text, as each API says it."""
    events = raw(spoilt("error_event", api, stream=True)).strip().split(b"\n\n")

    assert b"The model failed" in events[-1]
    assert STREAM.startswith(b"\n\n".join(events[:-1])) == (api is APIS[0])


@pytest.mark.parametrize(("fault", "stream"), [("error200", False), ("error200", True), ("error_event", False)])
def test_an_error_may_come_with_200(fault: str, stream: bool) -> None:
    """In the place of the whole answer; also where one event cannot be one."""
    body = spoilt(fault, stream=stream)

    assert json.loads(raw(body))["error"]["message"]
    assert (body.headers["Content-Type"], body.length) == ("application/json", len(raw(body)))


@pytest.mark.parametrize("stream", [False, True])
def test_a_page_may_come_with_200(stream: bool) -> None:
    """A proxy's, as HTML."""
    body = spoilt("html200", stream=stream)

    assert raw(body).startswith(b"<html>")
    assert body.headers["Content-Type"] == "text/html"


@pytest.mark.parametrize("fault", BODY_FAULTS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", APIS, ids=lambda api: api.paths[0])
def test_every_fault_strikes_every_api(api: Api, fault: str, stream: bool) -> None:
    """And leaves something else than the answer; the same seed leaves the same."""
    whole, broken, again = (spoilt(each, api, stream=stream) for each in (None, fault, fault))

    frames = [list(islice(body.frames, 500)) for body in (whole, broken, again)]
    assert (frames[0], whole.end) != (frames[1], broken.end)
    assert frames[1] == frames[2]
    assert all(0 <= at < inf for at, _ in frames[1])
