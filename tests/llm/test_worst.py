"""The most that one call can cost."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_fanout import ConfigError, Endpoint, FanOut, Limits
from llm_fanout.budgets import Charge
from llm_fanout.llm.plan import Route
from llm_fanout.llm.worst import AROUND_CALL, AROUND_MESSAGE, AROUND_TOOLS, FLOOR, MOST, Bill, Worst, most_input, worst_rates
from llm_fanout.providers import Request
from llm_fanout.providers.schema import Schema
from llm_fanout.spending import NO_USAGE, Spending, Usage

AROUND = AROUND_CALL + AROUND_MESSAGE


def routes_of(*endpoints: Endpoint | str, limits: Limits | None = None) -> list[Route]:
    fan = FanOut(list(endpoints), **({} if limits is None else {"limits": limits}))
    return [route for step in fan._runs.routes.steps(None, ()) for route in step.routes]


def at(number: int, price: tuple[float, ...] | None = None, **more: Any) -> Endpoint:
    return Endpoint(f"openai/x{number}", base_url="http://127.0.0.1:1/v1", api_key="none", price=price, **more)


def request(text: str = "hello", **params: Any) -> Request:
    return Request("x", [{"role": "user", "content": text}], params)


def worst(routes: list[Route] | None = None, text: str = "hello", *, is_priced: bool = True, **params: Any) -> Worst:
    return Worst.of(request(text, **params), routes or routes_of(at(1, (1.0, 2.0))), is_priced=is_priced)


@given(st.text(st.characters(exclude_categories=())))
def test_a_prompt_has_no_more_tokens_than_bytes(text: str) -> None:
    """A byte-level tokenizer cannot make more of it; servers add a little around messages."""
    assert most_input(request(text)) == len(text.encode(errors="surrogatepass")) + AROUND


def test_whatever_a_model_reads_counts() -> None:
    """Every message, tools, the schema, items of an API's own, and what is put into the body as it is."""

    class Answer(BaseModel):
        number: int

    plain = most_input(request())
    output = {"type": "function_call_output", "call_id": "c1", "output": "x" * 500}
    tool = {"type": "function", "function": {"name": "f" * 300}}

    assert most_input(Request("x", [{"role": "user", "content": "hello"}] * 3)) == 15 + AROUND_CALL + 3 * AROUND_MESSAGE
    assert most_input(Request("x", [{"role": "user", "content": "hello"}, output])) > plain + 500
    assert most_input(request(tools=[tool])) > plain + AROUND_TOOLS + 300
    assert most_input(request(extra_body={"system": "y" * 400})) > plain + 400
    assert most_input(Request("x", request().messages, schema=Schema.of(Answer))) > plain + 50


@pytest.mark.parametrize(
    ("params", "output"),
    [
        ({}, None),
        ({"max_tokens": 50}, 50),
        ({"max_completion_tokens": 60}, 60),
        ({"max_tokens": 50, "extra_body": {"max_tokens": 70}}, 70),
        ({"extra_body": {"max_output_tokens": 80}}, 80),
        ({"max_tokens": 50, "extra_body": {"n": 3}}, 150),
        ({"extra_body": {"top_k": 3}}, None),
        ({"max_tokens": 50, "extra_body": {"max_tokens": "a lot", "n": "three"}}, 50),
    ],
)
def test_the_length_of_an_answer_is_what_is_said_anywhere(params: dict[str, Any], output: float | None) -> None:
    """By its old name, its new one, or in the body as it is; several answers are as long together."""
    assert worst(**params).output == output


def test_several_answers_share_what_one_call_is_allowed() -> None:
    """Where their length is not said, all of them together fit into the room, each with enough to be worth its price."""
    found = worst(extra_body={"n": 4})
    narrow = found.least._replace(usd=inf)

    assert (found.least.tokens - found.input, found.allowed(narrow, 64)) == (4 * FLOOR, 4 * FLOOR)
    assert found.allowed(Charge(inf, inf), 64) == 4 * MOST
    assert found.allowed(Charge(inf, narrow.tokens + 7), 1) == 4 * FLOOR + 4


def test_who_answers_no_words_has_no_output() -> None:
    """An embedding costs its input."""
    found = Worst.of(request(), routes_of(at(1, (1.0, 2.0))), is_priced=True, answers=False)

    assert found.least == pytest.approx(((5 + AROUND) / 1e6, 5 + AROUND))


def test_the_dearest_of_all_counts() -> None:
    """The highest rate of input, and that of output, wherever it may be answered; cached input may cost more."""
    routes = routes_of(at(2, (1.0, 9.0)), at(3, (4.0, 2.0, 5.0)))

    assert worst_rates(routes, 100) == pytest.approx((5e-6, 9e-6))
    assert worst(routes, max_tokens=10).least.usd == pytest.approx((5 + AROUND) * 5e-6 + 90e-6)


def test_without_a_price_there_is_no_budget_in_usd() -> None:
    """The error names the model, and what to say; tokens need no price."""
    with pytest.raises(ConfigError, match=r"'openai/x4'.*Endpoint\('openai/x4', price=\(input, output\)\).*token_budget="):
        worst_rates(routes_of(at(4)), 0)

    assert worst(routes_of(at(4)), is_priced=False, max_tokens=10).least == Charge(0.0, 15 + AROUND)


def test_a_list_price_above_a_size_counts_for_what_may_be_larger() -> None:
    """Some models cost more for long prompts; a short one pays the lower rate."""
    endpoint = Endpoint("gemini/gemini-2.5-pro", api_key="none")

    assert worst_rates(routes_of(endpoint), 300_000)[0] > worst_rates(routes_of(endpoint), 1_000)[0] > 0


ROUTES = routes_of(at(5, (3.0, 15.0)))


@given(
    usd=st.floats(0.01, 100.0),
    tokens=st.floats(2_000, 1e9) | st.just(inf),
    at_once=st.integers(1, 1_000),
    likely=st.floats(1.0, 50_000.0),
    text=st.text(max_size=50),
)
def test_an_answer_is_allowed_no_more_than_there_is(
    usd: float, tokens: float, at_once: int, likely: float, text: str
) -> None:
    """What it may use then fits into the room, and is at least what it needs to be asked, if that fits."""
    routes = ROUTES
    routes[0].output.tokens = likely
    found, room = worst(routes, text), Charge(usd, tokens)
    if found.least.usd > usd or found.least.tokens > tokens:
        return

    allowed = found.allowed(room, at_once)

    assert FLOOR <= allowed <= MOST
    assert found.charge(allowed).usd <= usd + 1e-9
    assert found.charge(allowed).tokens <= tokens


@pytest.mark.parametrize(
    ("room", "at_once", "allowed"),
    [
        (Charge(inf, inf), 64, MOST),  # nothing binds
        (Charge(inf, 64 * 5_133 + 0.0), 64, 4_992),  # its share: so much for each, the prompt off
        (Charge(inf, 64_000), 64, 2_000),  # more than its share, for most answers are not cut then
        (Charge(inf, 1_500), 64, 1_359),  # what is left
    ],
)
def test_an_answer_is_allowed_its_share(room: Charge, at_once: float, allowed: float) -> None:
    """As many tokens as each of those under way can have, but four times the likely length if there is room."""
    assert worst().allowed(room, at_once) == allowed


def test_free_output_is_bounded_by_the_model_alone() -> None:
    """Where only input costs, the budget allows any answer."""
    assert worst(routes_of(at(6, (1.0, 0.0)))).allowed(Charge(0.01, inf), 64) == MOST


def test_a_stated_length_is_kept() -> None:
    """What the call says is what it is asked with, and set aside."""
    found = worst(max_tokens=7)

    assert found.allowed(Charge(inf, inf), 64) == 7
    assert found.least == found.charge(7)


def test_a_quota_of_tokens_is_shared_too() -> None:
    """Where a minute's tokens are counted, answers may be no longer than lets as many calls pass as are under way."""
    routes = routes_of(at(7), limits=Limits(tpm=640_000))
    wide, narrow = worst(routes, is_priced=False), worst(routes_of(at(8), limits=Limits(tpm=1_000)), is_priced=False)

    assert 9_000 < wide.allowed(Charge(inf, inf), 64) < 10_000
    assert narrow.allowed(Charge(inf, inf), 64) == 2_000


@pytest.mark.parametrize(
    ("most", "together", "text", "expected"),
    [(100, None, "", 100), (None, 5_000, "", 5_000 - AROUND), (None, 5_000, "x" * 4_900, FLOOR), (50, 5_000, "", 50)],
)
def test_a_model_is_asked_for_what_it_takes(most: int | None, together: int | None, text: str, expected: float) -> None:
    """As far as is known: of an answer, or of it and its prompt, whose bytes are only the most that it can have."""
    routes = routes_of(at(9))
    routes[0].most_output, routes[0].most_together = most, together
    found = worst(routes, text, is_priced=False)

    assert found.allowed(Charge(inf, inf), 1) == expected
    assert found.least.tokens == found.input + min(FLOOR, expected)


def spending(*usage: int, price: tuple[float, ...] | None = (1.0, 2.0)) -> Spending:
    return Spending.of("openai/x", Usage(*usage) if usage else NO_USAGE, price)


def bill(output: float = 100, *, is_priced: bool = True) -> Bill:
    made = Bill(worst(is_priced=is_priced))
    made.allow(output)
    return made


def test_a_bill_has_what_was_reported() -> None:
    """Tokens as counted, USD at the price that was paid."""
    made = bill()
    made.open()
    made.book(spending(10, 20))

    assert made.charged == pytest.approx((50e-6, 30))


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_nobody_knows_is_as_much_as_it_may_be(is_whole: bool) -> None:
    """Without a report; with one that may be of the beginning alone; without a price."""
    made = bill()
    made.open()
    made.book(spending() if is_whole else spending(10, 1), is_whole=is_whole)

    assert made.charged == made.attempt


def test_a_price_that_nobody_knows_is_the_highest() -> None:
    """Tokens are known then, USD are as much as they may be."""
    made = bill()
    made.open()
    made.book(spending(10, 20, price=None))

    assert made.charged == Charge(made.attempt.usd, 30)


def test_an_attempt_under_way_counts() -> None:
    """It may be paid for, until it is known to be refused."""
    made = bill()
    before = made.charged
    made.open()
    open = made.charged
    made.refused()

    assert (before, open, made.charged) == (Charge(), made.attempt, Charge())


def test_attempts_add_up() -> None:
    """Two that were paid for, and one under way."""
    made = bill(is_priced=False)
    for usage in ((10, 20), (5, 5)):
        made.open()
        made.book(spending(*usage))
    made.open()

    assert made.charged == Charge(0.0, 40 + made.attempt.tokens)


def test_a_longer_prompt_costs_more() -> None:
    """What is asked for anew, with the bad answer and what is wrong with it, is set aside with all that."""
    made = bill()
    made.lengthen(1_000.0)

    assert made.attempt == Charge(1_000e-6 + 200e-6, 1_100)
