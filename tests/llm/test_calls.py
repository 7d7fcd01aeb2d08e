"""One prompt on its way: what is said of it at its edges; the rest is seen through a client."""

from __future__ import annotations

from typing import Any

from llm_fanout import Endpoint, Limits, Prompt
from llm_fanout.core.retry import Again
from llm_fanout.llm.calls import PromptCall
from llm_fanout.llm.plan import Plan
from llm_fanout.llm.prompt import Settings
from llm_fanout.llm.routes import Routes
from llm_fanout.llm.wire import AiohttpWire
from llm_fanout.providers import Reply, Request
from llm_fanout.spending import Usage
from llm_fanout.work import Timing


async def mine(request: Request) -> Reply:
    return Reply("yes", usage=Usage(10, 20))


def call_of(text: str, limits: Limits, **options: Any) -> PromptCall:
    routes = Routes([Endpoint("mine/x", provider=mine, limits=limits)], AiohttpWire())
    prompt, settings = Prompt(text), Settings.of(options)
    return PromptCall(prompt, 0, Plan(routes.steps(None), settings, rank=1))


def test_a_call_that_is_cut_off_before_its_first_step() -> None:
    """Nothing was sent: it is tried again, and costs nothing."""
    call = call_of("hello", Limits(), timeout=3)

    outcome = call.late()
    result = call.result(0, outcome, Timing())

    assert (outcome.again, str(outcome.error)[:22]) == (Again.TRANSIENT, "no answer within 3 s; ")
    assert (result.spending, result.cost, result.model, result.endpoint) == ((), None, "mine/x", "")
