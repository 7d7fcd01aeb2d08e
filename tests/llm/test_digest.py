"""What tells calls from one another, and that it never changes."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import httpx2
import pytest
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel, Field

from llm_fanout import Endpoint, FanOut, Prompt, Result
from llm_fanout.llm.calls import digest_of
from llm_fanout.llm.digest import Frame
from llm_fanout.providers import Request
from llm_fanout.providers.schema import Schema

URL = "http://127.0.0.1:1/v1"
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Ok"}]
PICTURE = [
    {"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}
]


class Ticket(BaseModel):
    category: str
    urgency: int = Field(ge=0, le=1.0)


def digest(prompt: Any = "Hello", model: Any = None, *, api: str | None = None, schema: Any = None, **options: Any) -> str:
    """That of the call that a run makes of this prompt, in hexadecimal digits."""
    fan = FanOut(model or Endpoint("openai/gpt-x", base_url=URL, api_key="k"))
    opened: list[Any] = []
    if api is not None:
        run: Any = fan.embed([prompt], **options)
    else:
        run = fan.map([prompt], response_format=cast("Any", schema), **options)
    opened.append(run._flow._open(0, prompt))
    run.cancel()
    return cast("bytes", opened[0].digest).hex()


def endpoint(model: str = "openai/gpt-x", **fields: Any) -> Endpoint:
    return Endpoint(model, **{"base_url": URL, "api_key": "k", **fields})


async def own(request: Request) -> str:
    return "yes"


# A change of any of these makes users pay again for all that their journals hold: never change one, add others.
GOLDEN: Mapping[str, tuple[dict[str, Any], str]] = {
    "text": ({"prompt": "Hello"}, "fbb5c4ff45ee15be311e9f5f971562b1"),
    "other script": ({"prompt": "日本語 \U0001f600"}, "92b897c92378540257f7b6ed86460b84"),
    "half of a pair": ({"prompt": "\ud83d"}, "6bb465670e1ed37d4b42a3d26c5316f6"),
    "messages": ({"prompt": TALK}, "950a4c7c1fb14c270ef05127a94d9e22"),
    "picture": ({"prompt": PICTURE}, "b4493b92f2024d1245ee931a8f21f7dd"),
    "instructions": ({"prompt": "Hello", "instructions": "Be brief."}, "b1574bb4bb6633c9dc6b433f5abc5b06"),
    "parameters": (
        {"prompt": "Hello", "temperature": 0.7, "top_p": 1, "seed": 7, "max_tokens": 100, "stop": ["\n"]},
        "bc7b786cca1974cd9bcea46983a62a78",
    ),
    "tools": (
        {"prompt": "Hello", "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
        "f8baeac93af2876aef17cdf6563f03da",
    ),
    "schema": ({"prompt": "Hello", "schema": Ticket}, "f331f29b6ff277fd6a59ceed182f0b3a"),
    "body": ({"prompt": "Hello", "extra_body": {"top_k": 40, "modalities": ["text"]}}, "cb6feb0f4dcd7fd38433e15e3ca445e5"),
    "other model": ({"prompt": "Hello", "model": endpoint("openai/gpt-y")}, "debd72b643d987eb9977d5b0b8aaf36c"),
    "named pool": ({"prompt": "Hello", "model": endpoint(quota="pool")}, "99b0d84eb7857a40f1be4617dabd6050"),
    "responses": ({"prompt": "Hello", "model": endpoint(api="responses")}, "986801172121044b76d0aa50313e1cb5"),
    "messages API": (
        {"prompt": "Hello", "model": endpoint("anthropic/claude-x", base_url=URL.removesuffix("/v1"))},
        "6a0e34c800daad6b2faa55286c88488e",
    ),
    "balanced": ({"prompt": "Hello", "model": [endpoint(), endpoint("openai/gpt-y")]}, "e4e439fc0b5e502fea8227fa87be4851"),
    "embedding": ({"prompt": "Hello", "api": "embeddings"}, "f22e5bc240b7c8291d7d157d61f24378"),
    "function": ({"prompt": "Hello", "model": Endpoint("own/x", provider=own)}, "c83965b4f36e41d4180defe2140262e4"),
    "box": ({"prompt": "Hello", "model": "sim/gpt-x"}, "b4e041e1063bd3db072703d5b47a8ace"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_digests_are_as_they_always_were(name: str) -> None:
    """Each kind of call has the digest that the first version gave it."""
    said, was = GOLDEN[name]

    assert digest(**said) == was


def test_golden_digests_differ() -> None:
    """No two kinds of call are taken for one."""
    assert len({was for _, was in GOLDEN.values()}) == len(GOLDEN)


class Plain(BaseModel):
    role: str = "user"
    content: str = "Hello"
    name: str | None = None


SAME: Mapping[str, dict[str, Any]] = {
    "a list with one message": {"prompt": [{"role": "user", "content": "Hello"}]},
    "names in another order": {"prompt": [{"content": "Hello", "role": "user"}]},
    "a Prompt": {"prompt": Prompt("Hello", id="x", tag=object())},
    "a tuple": {"prompt": ({"role": "user", "content": "Hello"},)},
    "another key": {"model": endpoint(api_key="other")},
    "a slash at the end of the URL": {"model": endpoint(base_url=URL + "/")},
    "another limit": {"model": Endpoint("openai/gpt-x", base_url=URL, api_key="k", price=(1.0, 2.0))},
    "headers": {"extra_headers": {"X-Trace": "1"}},
    "a timeout": {"timeout": 5.0},
    "timeouts": {"timeout": httpx2.Timeout(3.0)},
    "retries": {"max_retries": 1, "retry_for": 7.0},
    "fallbacks": {"fallbacks": [endpoint("openai/gpt-y")]},
    "a priority": {"priority": "background"},
    "a stream": {"stream": True},
    "a deadline": {"deadline": 60.0},
    "bookkeeping": {"service_tier": "flex", "metadata": {"team": "a"}},
    "what is not said": {"temperature": None},
    "its own options": {"prompt": Prompt("Hello", priority="interactive", max_retries=0)},
}


@pytest.mark.parametrize("name", SAME)
def test_what_does_not_shape_an_answer_does_not_matter(name: str) -> None:
    """How it is sent, who pays, what it is called, and how it is written down."""
    assert digest(**SAME[name]) == digest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"extra_body": {"a": 1, "b": [2.0, {"c": 0.5}]}}, {"extra_body": {"b": (2, {"c": 0.5}), "a": 1.0}}),
        ({"extra_body": MappingProxyType({"a": 1, "b": 2})}, {"extra_body": {"b": 2, "a": 1}}),
        ({"temperature": 0.3, "seed": 2}, {"prompt": Prompt("Hello", seed=2), "temperature": 0.3}),
        ({"prompt": [Plain(role="user", content="é")]}, {"prompt": [{"role": "user", "content": "\u00e9"}]}),
        ({"tools": [TOOL]}, {"tools": ({"function": dict(reversed(TOOL["function"].items())), "type": "function"},)}),  # type: ignore[attr-defined]
        ({"model": "sim/a"}, {"model": Endpoint("sim/a")}),
        (
            {"model": [endpoint(), endpoint("openai/gpt-y")]},
            {"model": [endpoint("openai/gpt-y"), endpoint(), endpoint(api_key="2")]},
        ),
        (
            {"model": endpoint(quota="pool")},
            {"model": endpoint(quota="pool", base_url="http://127.0.0.1:2/v1", api_key="other")},
        ),
    ],
)
def test_the_same_call_may_be_said_differently(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Numbers, mappings, SDK objects, options of a prompt or of the run, endpoints in any order, and named pools."""
    assert digest(**one) == digest(**other)


DIFFERENT: Mapping[str, dict[str, Any]] = {
    "text": {"prompt": "hello"},
    "whitespace in the text": {"prompt": "Hello "},
    "composed otherwise": {"prompt": "e\u0301"},
    "composed": {"prompt": "\u00e9"},
    "half of a pair": {"prompt": "\ud83d"},
    "role": {"prompt": [{"role": "system", "content": "Hello"}]},
    "a name": {"prompt": [{"role": "user", "content": "Hello", "name": "a"}]},
    "parts": {"prompt": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]},
    "no text": {"prompt": [{"role": "user", "content": ""}]},
    "an SDK object": {"prompt": [ChatCompletionMessage(role="assistant", content="Hello")]},
    "model": {"model": endpoint("openai/gpt-y")},
    "provider": {"model": endpoint("sim/gpt-x")},
    "base URL": {"model": endpoint(base_url="http://127.0.0.1:2/v1")},
    "quota's name": {"model": endpoint(quota="pool")},
    "another quota's name": {"model": endpoint(quota="pond")},
    "API": {"model": endpoint(api="responses")},
    "a choice of endpoints": {"model": [endpoint(), endpoint("openai/gpt-y")]},
    "embedding": {"api": "embeddings"},
    "temperature 0": {"temperature": 0},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1": {"temperature": 1},
    "top_p": {"top_p": 1},
    "seed": {"seed": 1},
    "max_tokens": {"max_tokens": 1},
    "logprobs": {"logprobs": True},
    "tools": {"tools": [TOOL]},
    "more tools": {"tools": [TOOL, TOOL]},
    "instructions": {"instructions": "Be brief."},
    "schema": {"schema": Ticket},
    "another schema": {"schema": Plain},
    "body": {"extra_body": {"top_k": 1}},
}


def test_what_shapes_an_answer_matters() -> None:
    """Each of these is another call, and no two are the same."""
    digests = {name: digest(**said) for name, said in DIFFERENT.items()}

    assert len({digest(), *digests.values()}) == 1 + len(digests)


def test_what_prints_differently_each_time_is_never_found_again() -> None:
    """An object that JSON does not have costs a call more; it never gets the answer of another."""
    one, other = (digest(extra_body={"a": object()}) for _ in range(2))

    assert one != other


def test_an_sdk_object_among_the_options_is_what_it_says() -> None:
    """Not how it prints."""
    said = {"role": "assistant", "content": "Hello"}

    assert digest(extra_body={"a": ChatCompletionMessage(role="assistant", content="Hello")}) == digest(
        extra_body={"a": said}
    )


def test_names_of_any_type_are_no_error() -> None:
    """JSON has only texts for names, so 1 and "1" are one."""
    assert digest(extra_body={1: "a", "b": 2}) == digest(extra_body={"1": "a", "b": 2})


def test_a_pickled_frame_is_its_digest() -> None:
    """Nothing else of it: headers may hold a key, and schemas are classes."""
    schema = Schema.of(Ticket)
    frame = Frame([("openai/gpt-x", "chat", URL)], {"extra_headers": {"X-Key": "sk-secret"}}, None, schema.plain)
    pickled = pickle.dumps(frame)

    assert pickle.loads(pickled).digest_of("a") == frame.digest_of("a")
    assert pickle.loads(pickle.dumps(pickle.loads(pickled))).digest == frame.digest
    assert b"sk-secret" not in pickled
    assert b"X-Key" not in pickled


def test_a_result_of_no_prompt_has_none() -> None:
    """An Executor's, or one that was read back from a row."""
    assert digest_of(Result(index=0, id=0, returned="x")) == b""
