"""How a tree of scopes looks."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from support import FakeProvider, Simulate

from llm_fanout import Endpoint, FanOut, Limits

MakeFan = Callable[..., FanOut]
TWO = Limits(max_concurrency=2, adapt=False)


def test_a_line_for_each_scope(simulate: Simulate[Any], provider: FakeProvider, fan_of: MakeFan) -> None:
    """Calls, failures, tokens with their share of the budget, time, and what was waited for; children below, indented."""

    async def main() -> str:
        async with fan_of(TWO) as fan, fan.scope("planner", token_budget=100_000) as planner:
            await fan.call("plan")
            async with fan.scope("reader", deadline=3.5):
                await fan.map(["read"] * 8)
                async with fan.scope("deeper"):
                    pass
            return str(planner)

    lines = simulate(main).split("\n")

    cells = [re.split(r" {2,}", line.strip()) for line in lines]
    assert cells[0] == ["scope", "calls", "failed", "cost", "tokens", "elapsed", "waited"]
    assert cells[1][:3] == ["planner", "9", "2"]
    assert re.fullmatch(r"\d+ \(\d+% of 100,000\)", cells[1][4])
    assert cells[1][5:] == ["4.5 s", "6 s, most for a free slot"]  # six calls, a second each
    assert cells[2][:3] == ["reader", "8", "2"]
    assert cells[3] == ["deeper", "0", "0", "$0.0000", "0", "0 ms", "0 ms"]
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 0, 2, 4]


def test_cost_and_its_share_of_the_budget(simulate: Simulate[Any], provider: FakeProvider) -> None:
    """USD, of how many; where a price is not known that is said, and what is known is no total."""
    priced = Endpoint("openai/a", base_url="http://127.0.0.1:1/v1", api_key="key", price=(100.0, 200.0))
    unpriced = Endpoint("openai/b", base_url="http://127.0.0.1:1/v1", api_key="key")

    async def main() -> Any:
        async with FanOut(priced) as fan, fan.scope("outer") as outer:
            async with fan.scope("none", budget=0):
                pass
            async with fan.scope("priced", budget=0.02):
                await fan.call("x", max_tokens=10)  # one token in, one out
            async with fan.scope("unpriced"):
                await fan.call("x", model=unpriced)
            return str(outer)

    outer = simulate(main)

    assert "$0.0000 (of $0)" in outer
    assert re.search(r"outer +2 .*  \$0\.0003 and more ", outer)
    assert re.search(r"priced +1 .*  \$0\.0003 \(2% of \$0\.02\) ", outer)
    assert re.search(r"unpriced +1 .*  not known ", outer)


async def test_a_long_life_is_shown_from_its_end() -> None:
    """Of more than fifty children the last are shown, in order, and how many were before them."""
    async with FanOut("sim/demo") as fan, fan.scope("service") as service:
        for number in range(120):
            async with fan.scope(f"request {number}"):
                pass

    names = [line.split("  0 ")[0].strip() for line in str(service).split("\n")]
    assert names[1:] == ["service", "70 more before", *(f"request {number}" for number in range(70, 120))]


async def test_a_name_cannot_drive_a_terminal_or_a_page() -> None:
    """A topic that a model has chosen is a name like any other: printed on one line, cut, escaped."""
    async with FanOut("sim/demo") as fan, fan.scope("outer") as outer, fan.scope("<b>\x1b[31m\n" + 100 * "x"):
        text, page = str(outer), outer._repr_html_()

    assert "\x1b" not in text
    assert text.count("\n") == 2
    assert "x..." in text
    assert "<b>" not in page
    assert ">\N{EM SPACE}&lt;b&gt;" in page
    assert page.count("<tr>") == 3


async def test_any_depth_is_printed() -> None:
    """Scopes inside scopes, however deep, are no recursion."""
    async with FanOut("sim/demo") as fan, AsyncExitStack() as stack:
        outer = await stack.enter_async_context(fan.scope("outer", priority="background"))
        for _ in range(2_000):
            inner = await stack.enter_async_context(fan.scope("inner"))
        rank, lines = inner.rank, str(outer).count("\n")

    assert (rank, lines) == (2, 2_001)
