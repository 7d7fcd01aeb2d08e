"""Every signal of the table, over real sockets: how often the server was asked, when, and what the call ended as.

Each fault of the box meets one call twice over: once in a script after which it would be answered (`[[faults:X,ok]]`), and
once for ever (`[[fault:X]]`). Each is on an account of its own: over our wire whole
and as a stream, to the other APIs, and through a ready client of the SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack

import httpx2
import pytest
from openai import AsyncOpenAI

from llm_fanout import Endpoint, FanOut, Result
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


LANES = ("whole", "stream", "responses", "anthropic", "sdk")
# Told by words of other providers, which nobody would say on Anthropic's path.
OTHERS_WORDS = (
    "402-in-flight", "insufficient_quota", "credit_balance_exhausted", "spend_limit", "usage_limit", "403-budget",
    "402-too-large", "403-moderation", "400-filter",
)  # fmt: skip
AT_ONCE = 32  # of them; more would wait for the machine

Told = tuple[Result[str], list[float]]
Met = dict[tuple[str, str, str], Told]


@pytest.fixture(scope="module")
def met() -> Iterator[Met]:
    """For each script, fault and lane: the Result of the call, and when the server was asked."""
    random, quotas.engine._schedule._random = quotas.engine._schedule._random, lambda: 0.0
    try:
        with ExitStack() as stack:
            yield asyncio.run(_met(stack))
    finally:
        quotas.engine._schedule._random = random


async def _met(stack: ExitStack) -> Met:
    def box() -> Box:
        return stack.enter_context(Box(SimConfig(latency=0.02, jitter=0.0, answer_tokens=20)))

    once = [(ONCE, fault, lane) for fault, lane in on_all_lanes((*TOLD_WAITS, *RETRIED, *FINAL))]
    for_ever = [(FOR_EVER, fault, lane) for fault in LASTING for lane in LANES[:2]]
    cases = [*once, *for_ever]
    common, places = box(), asyncio.Semaphore(AT_ONCE)
    boxes = [box() if fault in CLOSE_ALL else common for _, fault, _ in cases]
    results = await asyncio.gather(*(_ask(at, case, places) for at, case in zip(boxes, cases, strict=True)))
    assert common.stats["retried_below"] == 0
    return {
        case: (result, at.arrivals(case[0].format(*case[1:])))
        for at, case, result in zip(boxes, cases, results, strict=True)
    }


async def _ask(box: Box, case: tuple[str, str, str], places: asyncio.Semaphore) -> Result[str]:
    script, fault, lane = case
    stream, key = lane == "stream", f"key-{script[2:7]}-{fault}-{lane}"
    timeout = httpx2.Timeout(None, read=SILENCE) if stream else SILENCE
    async with places, AsyncExitStack() as stack:
        match lane:
            case "responses":
                endpoint = Endpoint("openai/x", base_url=box.url, api_key=key, api="responses")
            case "anthropic":
                endpoint = Endpoint("anthropic/x", base_url=box.url.removesuffix("/v1"), api_key=key)
            case "sdk":
                client = await stack.enter_async_context(AsyncOpenAI(api_key=key, base_url=box.url))
                endpoint = Endpoint("openai/x", client=client)
            case _:
                endpoint = Endpoint("sim/x", base_url=box.url, api_key=key)
        async with FanOut(endpoint, timeout=timeout, max_retries=1) as fan:
            report = await fan.map([script.format(fault, lane)], stream=stream, progress=False, deadline=60)
    return report[0]


def on_all_lanes(faults: Iterable[str]) -> list[tuple[str, str]]:
    """Each fault with each lane on which it may be met."""
    return [(fault, lane) for fault in faults for lane in LANES if lane != "anthropic" or fault not in OTHERS_WORDS]


def test_the_table_is_whole() -> None:
    """Each fault that the box knows has its row here."""
    assert {*TOLD_WAITS, *RETRIED, *FINAL} == set(FAULTS) - set(MIXED)


@pytest.mark.parametrize(("fault", "lane"), on_all_lanes(TOLD_WAITS))
def test_a_told_wait_is_obeyed(met: Met, fault: str, lane: str) -> None:
    """Two requests, the second not before it was told, and not long after that."""
    result, (first, second) = met[ONCE, fault, lane]

    assert (result.ok, result.attempts) == (True, 2), result
    assert TOLD <= second - first <= TOLD + SLACK


@pytest.mark.parametrize(("fault", "lane"), on_all_lanes(RETRIED))
def test_what_may_pass_is_tried_again(met: Met, fault: str, lane: str) -> None:
    """Two requests, and the answer of the second."""
    result, arrivals = met[ONCE, fault, lane]

    assert (result.ok, result.attempts, len(arrivals)) == (True, 2, 2), result
    assert result.text.startswith("[simulated answer]")


@pytest.mark.parametrize(("fault", "lane"), on_all_lanes(FINAL))
def test_what_will_not_pass_is_final(met: Met, fault: str, lane: str) -> None:
    """One request, and the kind that says why."""
    result, arrivals = met[ONCE, fault, lane]

    assert (result.error and result.error.kind, result.attempts, len(arrivals)) == (FINAL[fault], 1, 1), result


@pytest.mark.parametrize("lane", LANES[:2])
@pytest.mark.parametrize("fault", LASTING)
def test_what_lasts_costs_the_call_in_the_end(met: Met, fault: str, lane: str) -> None:
    """With `max_retries=1` two requests, and the kind that says what it was."""
    result, arrivals = met[FOR_EVER, fault, lane]
    kind = LASTING[fault] if lane == "stream" else UNSTREAMED.get(fault, LASTING[fault])

    assert (result.error and result.error.kind, result.attempts, len(arrivals)) == (kind, 2, 2), result


# Rows that are no fault of one answer.


@pytest.fixture
def box() -> Iterator[Box]:
    """A quick provider without faults."""
    with Box(SimConfig(latency=0.02, jitter=0.0, answer_tokens=40)) as box:
        yield box


async def test_a_cut_answer_is_a_success_that_says_so(box: Box) -> None:
    """`length` is how an answer ends at its max_tokens, whole and streamed."""
    async with FanOut("sim/x", base_url=box.url, max_tokens=5) as fan:
        results = [(await fan.map(["x"], stream=stream, progress=False))[0] for stream in (False, True)]

    assert [(result.ok, result.finish_reason, result.usage.output_tokens <= 5) for result in results] == [
        (True, "length", True)
    ] * 2
    assert box.stats["requests"] == 2


async def test_a_refused_connection_is_tried_again() -> None:
    """Nobody is there: one more try, and a failure of its own kind."""
    with Box() as gone:
        url = gone.url
    async with FanOut("sim/x", base_url=url, max_retries=1) as fan:
        result = await fan.call("x")

    assert (result.error and result.error.kind, result.attempts) == ("connection", 2)


async def test_a_poisonous_prompt_holds_nobody_up(box: Box) -> None:
    """One that always fails does so at its cap; the others are answered at their first try."""
    prompts = [f"Number {number}" for number in range(100)]
    async with FanOut("sim/x", base_url=box.url, max_retries=2) as fan:
        report = await fan.map([*prompts[:50], "[[fault:500]]", *prompts[50:]], progress=False)

    poison = report[50]
    assert (poison.error and poison.error.kind, poison.attempts) == ("server", 3)
    assert report.summary.succeeded == 100
    assert {result.attempts for result in report.successes} == {1}


async def test_a_wait_beyond_the_deadline_is_not_waited_for(box: Box) -> None:
    """The call ends at once, and says how long it was told to wait."""
    async with FanOut("sim/x", base_url=box.url) as fan:
        result = await fan.call("[[wait:60]] [[fault:429-retry-after]]", deadline=10)

    assert (result.error and result.error.kind, result.attempts) == ("rate_limited", 1)
    assert result.error is not None
    assert result.error.retry_after == 60
    assert result.latency < 8
