"""Every signal of the table, over real sockets: how often the server was asked, when, and what the call ended as.

Each fault of the box meets one call twice over: once in a script after which it would be answered (`[[faults:X,ok]]`), and
once for ever (`[[fault:X]]`). All of them run at once, each on an account of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from llm_fanout import Endpoint, FanOut, Limits, Result
from llm_fanout.quotas import quotas
from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.catalogue import MIXED
from llm_fanout.sim.faults import FAULTS

TOLD = 0.4  # seconds that refusals name here
# A told wait is never shortened, and grows by 5 % or a quarter of a second at the most. The rest is the machine's.
SLACK = 4.0
SILENCE = 2.0  # seconds after which a stream has stalled here, and an attempt that is read whole has taken too long

# Tried again, after the time that they name.
TOLD_WAITS = (
    "429-retry-after", "429-retry-after-ms", "429-reset", "429-gemini-minute", "402-in-flight",
)  # fmt: skip
# Tried again; they name a date in whole seconds, or nothing.
RETRIED = (
    "429-anthropic", "429-date", "429-rate", "429-bare", "429-nginx", "429-litellm", "429-mistral", "429-azure",
    "429-garbage", "429-negative", "429-nan", "429-parallel", "429-slow-down", "503-slow-down", "529", "498", "500", "502",
    "503", "503-loading", "504", "520", "521", "522", "523", "524", "408", "409", "425", "499", "should-retry-true", "599",
    "hang", "reset", "cut", "drip", "stall", "keepalive", "truncated", "error_event", "bad_chunk", "malformed", "empty",
    "error200", "bad_utf8", "html200",
)  # fmt: skip
# Final, by what the call ends as.
FINAL = {
    "429-gemini-day": "rate_limited",
    **dict.fromkeys(("insufficient_quota", "credit_balance_exhausted", "spend_limit", "usage_limit"), "credit"),
    **dict.fromkeys(("429-anthropic-spend", "402", "403-budget"), "credit"),
    **dict.fromkeys(("402-too-large", "429-too-large", "413-too-large", "413"), "too_large"),
    **dict.fromkeys(("400-context", "400-prompt-too-long", "400-llamacpp"), "too_large"),
    "should-retry-false": "server",
    **dict.fromkeys(("307", "418"), "invalid"),
    **dict.fromkeys(("401", "403-region", "403-permission"), "auth"),
    **dict.fromkeys(("404-model", "404-url", "405", "415", "400", "422"), "invalid"),
    **dict.fromkeys(("403-moderation", "400-filter"), "filtered"),
}
CLOSE_ALL = ("405", "415", "307")  # that the address is wrong is true of every account: each has a box of its own
# What a call that meets it for ever ends as, where it is tried again at all.
LASTING = {
    **dict.fromkeys(("hang", "drip", "stall", "keepalive"), "timeout"),
    **dict.fromkeys(("reset", "cut"), "connection"),
    **dict.fromkeys(("truncated", "error_event", "bad_chunk"), "truncated"),
    **dict.fromkeys(("malformed", "bad_utf8", "empty"), "truncated"),
    **dict.fromkeys(("error200", "html200"), "malformed"),
    **dict.fromkeys(("500", "502", "503-loading", "504", "520", "521", "522", "523", "524", "599", "408", "409"), "server"),
    **dict.fromkeys(("425", "499"), "server"),
}  # fmt: skip
# The same where the answer is not read as a stream, if that is another kind.
UNSTREAMED = {**dict.fromkeys(("malformed", "bad_utf8", "error_event", "bad_chunk"), "malformed"), "empty": "empty"}
ONCE = f"[[wait:{TOLD}]] [[faults:{{}},ok]] {{}}"
FOR_EVER = "[[fault:{}]] {}"

Told = tuple[Result[str], list[float]]


Met = dict[tuple[str, str, bool], Told]


@pytest.fixture(scope="module")
def met() -> Iterator[Met]:
    """For each script, fault, and way to read answers: the Result of the call, and when the server was asked."""
    random, quotas.engine._schedule._random = quotas.engine._schedule._random, lambda: 0.0
    try:
        with ExitStack() as stack:
            yield asyncio.run(_met(stack))
    finally:
        quotas.engine._schedule._random = random


async def _met(stack: ExitStack) -> Met:
    def box() -> Box:
        return stack.enter_context(Box(SimConfig(latency=0.02, jitter=0.0, answer_tokens=20)))

    scripts = [(ONCE, fault) for fault in (*TOLD_WAITS, *RETRIED, *FINAL)] + [(FOR_EVER, fault) for fault in LASTING]
    cases = [(script, fault, stream) for script, fault in scripts for stream in (False, True)]
    common = box()
    boxes = [box() if fault in CLOSE_ALL else common for _, fault, _ in cases]
    results = await asyncio.gather(
        *(
            _ask(at, script.format(fault, stream), stream=stream)
            for at, (script, fault, stream) in zip(boxes, cases, strict=True)
        )
    )
    assert common.stats["retried_below"] == 0
    return {
        case: (result, at.arrivals(case[0].format(*case[1:])))
        for at, case, result in zip(boxes, cases, results, strict=True)
    }


async def _ask(box: Box, prompt: str, *, stream: bool) -> Result[str]:
    endpoint = Endpoint("sim/x", base_url=box.url, api_key=f"key of {prompt}"[:60].replace(" ", "-"), limits=Limits())
    timeout = httpx2.Timeout(None, read=SILENCE) if stream else SILENCE
    async with FanOut(endpoint, timeout=timeout, max_retries=1) as fan:
        report = await fan.map([prompt], stream=stream, progress=False, deadline=60)
    return report[0]


def test_the_table_is_whole() -> None:
    """Each fault that the box knows has its row here."""
    assert {*TOLD_WAITS, *RETRIED, *FINAL} == set(FAULTS) - set(MIXED)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", TOLD_WAITS)
def test_a_told_wait_is_obeyed(met: Met, fault: str, stream: bool) -> None:
    """Two requests, the second not before it was told, and not long after that."""
    result, (first, second) = met[ONCE, fault, stream]

    assert (result.ok, result.attempts) == (True, 2), result
    assert TOLD <= second - first <= TOLD + SLACK


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", RETRIED)
def test_what_may_pass_is_tried_again(met: Met, fault: str, stream: bool) -> None:
    """Two requests, and the answer of the second."""
    result, arrivals = met[ONCE, fault, stream]

    assert (result.ok, result.attempts, len(arrivals)) == (True, 2, 2), result
    assert result.text.startswith("[simulated answer]")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FINAL)
def test_what_will_not_pass_is_final(met: Met, fault: str, stream: bool) -> None:
    """One request, and the kind that says why."""
    result, arrivals = met[ONCE, fault, stream]

    assert (result.error and result.error.kind, result.attempts, len(arrivals)) == (FINAL[fault], 1, 1), result


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", LASTING)
def test_what_lasts_costs_the_call_in_the_end(met: Met, fault: str, stream: bool) -> None:
    """With `max_retries=1` two requests, and the kind that says what it was."""
    result, arrivals = met[FOR_EVER, fault, stream]
    kind = LASTING[fault] if stream else UNSTREAMED.get(fault, LASTING[fault])

    assert (result.error and result.error.kind, result.attempts, len(arrivals)) == (kind, 2, 2), result
