"""Answers that have to fit a pydantic model: checked, asked for again, paid for."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator
from support import FakeProvider, Simulate, completion

from llm_fanout import BadReply, ConfigError, Endpoint, FanOut, Limits, Rejected, Result
from llm_fanout.providers import Reply, Request, ToolCall
from llm_fanout.spending import Usage


class Ticket(BaseModel):
    category: Literal["bug", "other"]
    urgency: int
    text: str = "none"


GOOD = '{"category": "bug", "urgency": 3, "text": "it broke"}'
TOO_LONG = Reply('{"category": "bug", "urg', "length", Usage(10, 5))


def says(*replies: str | Reply) -> tuple[Endpoint, list[Request]]:
    """An endpoint that gives these answers, the last one for ever, and what it was asked."""
    asked: list[Request] = []

    async def provider(request: Request) -> str | Reply:
        asked.append(request)
        return replies[min(len(asked), len(replies)) - 1]

    return Endpoint("mine/x", provider=provider), asked


async def answer(endpoint: Endpoint, **options: Any) -> Result[Ticket]:
    async with FanOut(endpoint) as fan:
        return await fan.call("Classify: it broke", response_format=Ticket, **options)


async def test_the_value_is_the_model() -> None:
    """Also out of a fenced block with prose around it; the text is as it came."""
    plain = await answer(says(GOOD)[0])
    fenced = await answer(says(f"Here it is:\n```json\n{GOOD}\n```\nGlad to help.")[0])

    assert plain.value == fenced.value == Ticket(category="bug", urgency=3, text="it broke")
    assert fenced.text.startswith("Here it is")


async def test_all_of_a_run() -> None:
    """One model for all rows, which become columns; a field that a row has already is named for the value."""
    async with FanOut(says(GOOD)[0]) as fan:
        report = await fan.map(["a", "b"], response_format=Ticket, progress=False)

    assert [ticket.urgency for ticket in report.values] == [3, 3]
    row = report.to_dicts()[0]
    assert (row["category"], row["urgency"], row["text"], row["value.text"]) == ("bug", 3, GOOD, "it broke")
    assert json.loads(json.dumps(row)) == row


async def test_a_flaw_is_told_and_the_answer_asked_for_again() -> None:
    """The next request has the conversation, the bad answer and what was wrong with it; both are billed."""
    endpoint, asked = says(
        Reply('{"category": "bug", "urgency": "high"}', usage=Usage(10, 5)), Reply(GOOD, usage=Usage(30, 6))
    )

    result = await answer(endpoint, max_retries=0)

    assert (result.value.urgency, result.attempts, result.usage) == (3, 2, Usage(40, 11))
    first, bad, flaw = asked[1].messages
    assert (first["content"], bad["role"], bad["content"]) == (
        "Classify: it broke",
        "assistant",
        '{"category": "bug", "urgency": "high"}',
    )
    assert "urgency: Input should be a valid integer" in flaw["content"]


async def test_it_is_asked_for_again_twice() -> None:
    """Whatever max_retries says; each time the conversation is as it was first, with the last answer only."""
    endpoint, asked = says("no", "no", "never")

    result = await answer(endpoint, max_retries=9)

    assert isinstance(result.error, BadReply)
    assert (result.error.kind, result.error.partial, result.attempts) == ("schema", "never", 3)
    assert [len(request.messages) for request in asked] == [1, 3, 3]


async def test_a_cut_answer_is_not_asked_for_again() -> None:
    """It would be cut again: the kind says what to change."""
    endpoint, asked = says(TOO_LONG)

    result = await answer(endpoint)

    assert isinstance(result.error, Rejected)
    assert (result.error.kind, len(asked), result.usage) == ("length", 1, Usage(10, 5))
    assert "raise max_tokens" in str(result.error)


async def test_refusals_are_no_flaws() -> None:
    """A model that will not answer is not asked to fit a schema."""
    endpoint, asked = says(Reply("", refusal="I cannot"))

    result = await answer(endpoint)

    assert (result.error and result.error.kind, len(asked)) == ("refusal", 1)


async def test_tool_calls_come_first() -> None:
    """A model that wants a tool has not answered yet: its calls are the result."""
    endpoint, asked = says(Reply("", "tool_calls", tool_calls=[ToolCall.of("1", "look_up", '{"id": 7}')]))

    result = await answer(endpoint)

    assert result.ok
    assert [(call.name, call.arguments) for call in result.tool_calls] == [("look_up", {"id": 7})]
    assert len(asked) == 1


@pytest.mark.parametrize("model", [dict, int, "Ticket", Ticket(category="bug", urgency=1)])
async def test_only_a_model_will_do(model: Any) -> None:
    """Refused before anything is sent."""
    async with FanOut(says(GOOD)[0]) as fan:
        with pytest.raises(ConfigError, match="must be a pydantic model class"):
            await fan.call("x", response_format=model)


def test_a_server_without_schemas_is_asked_in_words(simulate: Simulate[Any], provider: FakeProvider, fan_of: Any) -> None:
    """It is found out once, by its own complaint; from then on the schema stands in the prompt, and is checked by us."""
    refusal = json.dumps({"error": {"message": "Unknown parameter: 'response_format'.", "type": "invalid_request_error"}})
    provider.answers = [
        (400, {}, refusal.encode()),
        *((200, {}, json.dumps(completion(GOOD)).encode()) for _ in range(2)),
        (400, {}, refusal.encode()),
    ]

    async def main() -> Any:
        async with fan_of() as fan:
            return [await fan.call("x", response_format=Ticket) for _ in range(3)]

    first, second, third = simulate(main)

    assert (first.value.urgency, first.attempts, second.attempts) == (3, 2, 1)
    assert ["response_format" in body for body in provider.bodies] == [True, False, False, False]
    assert "must fit this JSON schema" in provider.bodies[1]["messages"][0]["content"]
    assert third.error.kind == "invalid"  # it complains of something else then


def test_all_that_were_asked_before_it_was_known_are_asked_in_words(
    simulate: Simulate[Any], provider: FakeProvider, fan_of: Any
) -> None:
    """Calls at once meet the same complaint, and none is lost to it."""
    refusal = json.dumps({"error": {"message": "response_format is not supported", "type": "invalid_request_error"}})
    provider.answers = [
        *((400, {}, refusal.encode()) for _ in range(20)),
        *((200, {}, json.dumps(completion(GOOD)).encode()) for _ in range(20)),
    ]

    async def main() -> Any:
        async with fan_of(Limits(max_concurrency=20)) as fan:
            return await fan.map([f"{number}" for number in range(20)], response_format=Ticket, progress=False)

    assert [result.value.urgency for result in simulate(main)] == [3] * 20


def test_a_schema_that_is_at_fault_is_not_the_servers(simulate: Simulate[Any], provider: FakeProvider, fan_of: Any) -> None:
    """A server that finds the schema invalid knows the word for it: that call fails, and the next is asked as before."""
    refusal = json.dumps(
        {"error": {"message": "Invalid schema for response_format 'Ticket'", "type": "invalid_request_error"}}
    )
    provider.answers = [(400, {}, refusal.encode()), (200, {}, json.dumps(completion(GOOD)).encode())]

    async def main() -> Any:
        async with fan_of() as fan:
            return [await fan.call("x", response_format=Ticket) for _ in range(2)]

    first, second = simulate(main)

    assert (first.error.kind, first.attempts, second.ok) == ("invalid", 1, True)
    assert all("response_format" in body for body in provider.bodies)


async def test_a_validator_that_breaks_costs_its_call_only() -> None:
    """It raised what is no ValueError: a fault of the code, told so; the answer was paid for, and is kept."""

    class Odd(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def looked_up(cls, number: int) -> int:
            return {1: 1}[number]

    endpoint, asked = says(Reply('{"number": 7}', usage=Usage(10, 5)))
    async with FanOut(endpoint) as fan:
        result = await fan.call("x", response_format=Odd)

    assert (result.error and result.error.kind, len(asked)) == ("exception", 1)
    assert (result.text, result.usage) == ('{"number": 7}', Usage(10, 5))


async def test_rows_are_json_whatever_the_model_holds() -> None:
    """JSON has no NaN; a field called `value` does not pass for the whole."""

    class Odd(BaseModel):
        value: float

    async with FanOut(says('{"value": NaN}')[0]) as fan:
        row = (await fan.call("x", response_format=Odd)).to_dict()

    assert row["value.value"] is None
    assert json.loads(json.dumps(row, allow_nan=False))["ok"] is True
