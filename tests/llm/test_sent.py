"""Requests of SDKs: which are ours, where they go, and what they ask, in our words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_fanout.llm.sent import NO_KEY, Sent

HOST = "https://api.example.com"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}


def sent(url: str = f"{HOST}/v1/chat/completions", body: Any = CHAT, **headers: str) -> Sent | None:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Sent.of("POST", url, raw, body if isinstance(body, bytes) else json.dumps(body).encode())


def ours(*arguments: Any, **headers: str) -> Sent:
    found = sent(*arguments, **headers)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "api", "base"),
    [
        ("/v1/chat/completions", "chat", "/v1"),
        ("/v1/chat/completions?api-version=1", "chat", "/v1"),
        ("/openai/deployments/gpt-x/chat/completions?api-version=1", "chat", "/openai"),
        ("/v1/responses", "responses", "/v1"),
        ("/v1/embeddings", "embeddings", "/v1"),
        ("/v1/messages", "messages", ""),
        ("/v1/messages?beta=true", "messages", ""),
        ("/gateway/messages", "messages", "/gateway"),
    ],
)
def test_calls_of_models_are_ours(path: str, api: str, base: str) -> None:
    """Known by the end of their path; what is before it is the base URL, as an Endpoint has it."""
    found = ours(f"{HOST}{path}")

    assert (found.form.name, found.base_url, found.url) == (api, f"{HOST}{base}", f"{HOST}{path}")


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/responses/r1/cancel", "/v1/messages/count_tokens", "/v1/threads/t1/messages", "/v1/files"]
)
def test_all_others_are_not(path: str) -> None:
    """Paths that are others', or only look alike."""
    assert sent(f"{HOST}{path}") is None


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", {"messages": []}, {"model": None}, {"model": ["m"]}])
def test_what_names_no_model_is_not_ours(body: Any) -> None:
    """No JSON object, or one without a model."""
    assert sent(body=body) is None


def test_only_a_post_asks_a_model() -> None:
    """To look at what is stored there is none of ours."""
    assert Sent.of("GET", f"{HOST}/v1/responses", [], json.dumps(CHAT).encode()) is None


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"Authorization": "Bearer sk-1"}, "sk-1"),
        ({"X_API_Key": "sk-2"}, "sk-2"),
        ({"api_key": "sk-3"}, "sk-3"),
        ({}, NO_KEY),
        ({"authorization": ""}, NO_KEY),
    ],
)
def test_the_key_is_in_a_header(headers: dict[str, str], key: str) -> None:
    """Whosever way of saying it that is; a server that wants none gets none."""
    assert ours(**headers).key == key


def test_what_is_no_key_tells_accounts_apart_all_the_same() -> None:
    """A user and a password, or text beyond ASCII: their digest stands for them."""
    one, other = ours(authorization="Basic user password"), ours(authorization="Bearer é")

    assert one.key != other.key
    assert (one.key + other.key).isalnum()


def test_headers_of_the_way_are_left_behind() -> None:
    """Those of the connection are the wire's to say; several of one name are one."""
    raw = [(b"Host", b"h"), (b"Content-Length", b"3"), (b"Accept-Encoding", b"br"), (b"X-A", b"1"), (b"x-a", b"2")]
    found = Sent.of("POST", f"{HOST}/v1/chat/completions", raw, json.dumps(CHAT).encode())

    assert found is not None
    assert found.headers == {"x-a": "1, 2"}


def test_a_login_in_the_url_is_no_part_of_the_place() -> None:
    """Places are shown."""
    assert ours("https://me:secret@api.example.com/v1/chat/completions").base_url == f"{HOST}/v1"


TOOLS = [{"type": "function", "function": {"name": "look_something_up", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello there"}]}),
        ("/v1/responses", {"input": "hello there"}),
        ("/v1/responses", {"input": [{"role": "user", "content": "hello there"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hello there"}]}),
        ("/v1/embeddings", {"input": "hello there"}),
        ("/v1/embeddings", {"input": ["hello", "there"]}),
        ("/v1/embeddings", {"input": [1, 2]}),
        ("/v1/embeddings", {"input": [[1], [2]]}),
    ],
)
def test_input_is_counted(path: str, fields: dict[str, Any]) -> None:
    """The same question takes about as many tokens, in whichever API's words it is asked."""
    assert 2 <= ours(f"{HOST}{path}", {"model": "m", **fields}).request.input_tokens() <= 4


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {"tools": TOOLS}),
        ("/v1/responses", {"input": "hello there", "instructions": "Be very brief, and be kind as well."}),
        (
            "/v1/responses",
            {"input": "hello there", "text": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        ),
        ("/v1/messages", {"system": [{"type": "text", "text": "Be very brief, and be kind as well."}]}),
    ],
)
def test_whatever_the_model_reads_is_counted(path: str, more: dict[str, Any]) -> None:
    """Instructions, tools and schemas."""
    assert ours(f"{HOST}{path}", {**CHAT, **more}).request.input_tokens() > 8


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_the_length_of_an_answer_is_known_by_all_names(name: str) -> None:
    """And what is no length is not one."""
    assert ours(body={**CHAT, name: 50}).request.max_tokens == 50
    assert ours(body={**CHAT, name: "50"}).request.max_tokens is None


def test_several_answers_are_several() -> None:
    """`n` counts for budgets; a stream is known by its word."""
    request = ours(body={**CHAT, "n": 3, "stream": True}).request

    assert (request.params["extra_body"], request.stream) == ({"n": 3}, True)


@pytest.mark.parametrize(
    ("path", "model", "field"),
    [
        ("/v1/chat/completions", "gpt-4o", "max_tokens"),
        ("/v1/chat/completions", "gpt-5", "max_completion_tokens"),
        ("/v1/responses", "gpt-5", "max_output_tokens"),
    ],
)
def test_an_answer_is_bounded_in_the_words_of_its_api(path: str, model: str, field: str) -> None:
    """All else in the body stays; without a bound of ours it is the very bytes of the SDK."""
    found = ours(f"{HOST}{path}", {**CHAT, "model": model})
    bounded = found.request.__class__(model, (), {"max_tokens": 77})

    assert json.loads(found.body_for(bounded)) == {**CHAT, "model": model, field: 77}
    assert found.body_for(found.request) is found.body
