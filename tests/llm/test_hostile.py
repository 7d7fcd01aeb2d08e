"""A server that means harm costs the item, never the run, and no memory to speak of."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import hostile
import pytest

VICTIM = Path(__file__).parent.parent / "victim.py"
MEMORY = 100_000_000  # bytes by which one hostile answer may raise the peak
OTHERS = 20  # calls of the victim's beside the hostile one

# How each of them ends; None is a success. On a machine that stalls, what is large may also end by its timeout.
ENDS: dict[hostile.Answer, set[str | None]] = {
    hostile.endless_body: {"malformed", "timeout"},
    hostile.bomb: {"malformed", "timeout"},
    hostile.huge_body: {"malformed", "timeout"},
    hostile.tiny_chunks: {"malformed", "truncated", "timeout"},
    hostile.huge_header: {"malformed"},
    hostile.endless_headers: {"malformed"},
    hostile.slow_headers: {"timeout"},
    hostile.dripping_body: {"timeout"},
    hostile.deep_json: {"malformed"},
    hostile.deep_error: {"invalid"},
    hostile.huge_usage: {None},
    hostile.negative_usage: {None},
    hostile.worded_usage: {None, "malformed"},
}


# The same to a client that reads answers as streams, where that makes a difference.
STREAMED: dict[hostile.Answer, set[str | None]] = {
    hostile.tiny_chunks: {"truncated", "timeout", "malformed"},
    hostile.dripping_body: {"timeout"},
    hostile.bomb: {"malformed", "truncated", "timeout"},
    hostile.deep_json: {"malformed", "truncated"},
}


async def victim_of(answer: hostile.Answer, *options: str) -> dict[str, Any]:
    """What came of the calls of a client, in a process of its own, of which one is answered so."""
    async with hostile.hostile(answer) as url:
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(VICTIM), url, *options), stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await client.communicate()
    found: dict[str, Any] = json.loads(printed)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(
    ("answer", "ends", "options"),
    [
        *((answer, ends, ()) for answer, ends in ENDS.items()),
        *((answer, ends, ("stream",)) for answer, ends in STREAMED.items()),
    ],
    ids=lambda value: getattr(value, "__name__", "-".join(value) if isinstance(value, tuple) else ""),
)
async def test_a_hostile_answer_costs_its_item_only(
    answer: hostile.Answer, ends: set[str | None], options: tuple[str, ...]
) -> None:
    """The item ends, with an error in a few words or a success; all others are answered; memory hardly rises."""
    hasty = ("hasty",) if ends == {"timeout"} else ()  # there is nothing else to wait for
    found = await victim_of(answer, *options, *hasty)

    assert found["kind"] in ends
    assert len(found["message"]) < 1_000
    assert (found["others"], found["after"]) == (OTHERS, True)
    assert found["grown"] <= MEMORY


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("answer", [hostile.huge_usage, hostile.negative_usage], ids=lambda answer: answer.__name__)
async def test_absurd_usage_is_not_believed(answer: hostile.Answer) -> None:
    """The answer counts, its figures do not: nothing is booked that would stop the quota."""
    found = await victim_of(answer)

    assert found["usage"] == [0, 0]
    assert found["after"]
