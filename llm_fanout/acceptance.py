"""What every provider has to do: checks to which a newcomer's own can be held.

Each check asks through a real client, so that what is checked is what a run will see. All are asked of real answers: with a
provider that costs money, they cost some thirty short answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .core.stated import Limits
from .llm.client import FanOut
from .llm.endpoint import Endpoint
from .llm.prompt import Prompt

Make = Callable[[], Endpoint]
Complaint = str | None

PATIENCE = 60.0  # seconds that one call may take
AT_ONCE = 20
NUMBER = 7_301  # and so on: numbers that no answer has by chance
TICK = 0.01  # seconds
MOST_STALLED = 1.0  # seconds for which the event loop may stand still; a busy machine stalls, too
MOST_TOKENS = 10_000  # of a prompt of two words, or its answer: what a provider puts before it is far less
HEAD_START = 0.2  # seconds; by then a call is under way
CANCELLED_WITHIN = 5.0  # seconds; a call that was cancelled has nothing left to do but to close its connection


def check_provider(make: Make) -> None:
    """Hold a provider to what a run needs of it.

        def test_mine() -> None:
            check_provider(lambda: Endpoint("mine/small", provider=mine))

    It must answer text to text, take instructions, a conversation and the common parameters (or refuse one as
    `invalid`, naming it), answer many calls at once each with its own answer, report usage that can be true if it reports
    any, end as soon as it is cancelled, and work in one event loop after another.

    Args:
        make: Gives the Endpoint; called for every check.

    Raises:
        AssertionError: Something does not hold; the message says what, a line for each.
    """
    with ThreadPoolExecutor(1) as thread:  # with a loop of its own, whatever the caller's does
        complaints = thread.submit(_complaints, make).result()
    if complaints:
        raise AssertionError("the provider does not hold to its part:\n" + "\n".join(f"- {each}" for each in complaints))


def _complaints(make: Make) -> list[str]:
    found = [asyncio.run(check(make)) for check in CHECKS]
    return [each for each in found if each is not None]


async def _answers_text(make: Make) -> Complaint:
    async with FanOut(make(), timeout=PATIENCE, max_retries=0) as fan:
        result = await fan.call("Say yes.")
    if result.error is not None:
        return f"a plain prompt fails: {result.error.kind}: {result.error}"
    if not result.text.strip():
        return "a plain prompt is answered with no text"
    return None


async def _reports_true_usage(make: Make) -> Complaint:
    async with FanOut(make(), timeout=PATIENCE, max_retries=0) as fan:
        usage = (await fan.call("Say yes.")).usage
    if min(usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens) < 0:
        return f"usage has a negative figure: {usage}"
    if max(usage.input_tokens, usage.output_tokens) > MOST_TOKENS:
        return f"usage is {usage} for a prompt of two words; give the tokens of this call alone"
    if usage.cached_tokens > usage.input_tokens or usage.reasoning_tokens > usage.output_tokens:
        return f"cached tokens are part of the input, reasoning tokens of the output: {usage}"
    if bool(usage.input_tokens) != bool(usage.output_tokens):
        return f"usage has input or output tokens alone: {usage}; leave usage None where it is not known"
    return None


async def _takes_conversations(make: Make) -> Complaint:
    talk = [
        {"role": "user", "content": "Say yes."},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "Once more."}]},
    ]
    async with FanOut(make(), timeout=PATIENCE, max_retries=0, instructions="Be brief.") as fan:
        error = (await fan.call(talk)).error  # type: ignore[arg-type]  # messages, as dicts
    return None if error is None else f"a conversation with instructions and content parts fails: {error.kind}: {error}"


async def _takes_parameters(make: Make) -> Complaint:
    common = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 50, "stop": ["###"], "seed": 1}
    prompts = [Prompt("Say yes.", id=name, **{name: value}) for name, value in common.items()]  # type: ignore[arg-type]
    async with FanOut(make(), timeout=PATIENCE, max_retries=0) as fan:
        report = await fan.map(prompts, progress=False)
    for result in report.failures:
        error = result.error
        if error is not None and not (error.kind == "invalid" and str(result.id) in error.message):
            return f"{result.id}= fails: {error.kind}: {error}; take it, or refuse it as invalid and name it"
    return None


async def _answers_many_at_once(make: Make) -> Complaint:
    numbers = [str(NUMBER + each) for each in range(AT_ONCE)]
    prompts = [Prompt(f"[[answer:{number}]] Say the number {number} and nothing else.", id=number) for number in numbers]
    async with FanOut(make(), timeout=PATIENCE, limits=Limits(max_concurrency=AT_ONCE)) as fan:
        await fan.call("Say yes.")  # whatever is imported on first use is imported now
        watch = asyncio.ensure_future(_stalled())
        report = await fan.map(prompts, progress=False)
        watch.cancel()
        stalled, seconds = await watch, report.summary.elapsed
    if failures := report.failures:
        return f"of {AT_ONCE} calls at once {len(failures)} fail, the first with {failures[0].error}"
    for result in report:
        others = [number for number in numbers if number != result.id and number in result.text]
        if others and str(result.id) not in result.text:
            return f"calls at once get each other's answers: {result.id} was asked for, and came {result.text[:80]!r}"
    if stalled > max(MOST_STALLED, seconds / 2):
        return f"it blocks the event loop, for {stalled:.1f} s of {seconds:.1f}: await, or use asyncio.to_thread"
    return None


async def _stalled() -> float:
    """Seconds for which nothing else could run, until this is cancelled."""
    loop, stalled, over = asyncio.get_running_loop(), 0.0, False
    while not over:
        at = loop.time()
        try:
            await asyncio.sleep(TICK)
        except asyncio.CancelledError:
            over = True
        stalled += max(0.0, loop.time() - at - TICK)
    return stalled


async def _ends_when_cancelled(make: Make) -> Complaint:
    loop = asyncio.get_running_loop()
    async with FanOut(make(), timeout=PATIENCE, max_retries=0) as fan:
        call = asyncio.ensure_future(fan.call("Count to a thousand."))
        await asyncio.wait([call], timeout=HEAD_START)
        began = loop.time()
        call.cancel()
        await asyncio.wait([call])
    took = loop.time() - began
    if took > CANCELLED_WITHIN:
        return f"a call that is cancelled goes on for {took:.1f} s; let CancelledError pass"
    return None


CHECKS: tuple[Callable[[Make], Coroutine[Any, Any, Complaint]], ...] = (
    _answers_text,
    _reports_true_usage,
    _takes_conversations,
    _takes_parameters,
    _answers_many_at_once,
    _ends_when_cancelled,
)
