"""What is asked of the provider, whatever the API: read from a request's body, with its tokens counted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..core.tokens import estimate_tokens
from .instances import has_instance

JsonObject = Mapping[str, Any]
Kind = Literal["text", "schema", "tool", "vectors"]

# Of a square of 1,024 pixels, OpenAI counts 765 tokens (85 + 170 for each of four tiles) or 1,024 (patches of 32 pixels),
# Anthropic 1,398 (width * height / 750). Sources: platform.openai.com/docs/guides/images-vision#calculating-costs,
# docs.anthropic.com/en/docs/build-with-claude/vision#calculate-image-costs; 2026-11.
IMAGE_TOKENS = 1_000
IMAGES = ("image_url", "input_image", "image")  # the types of a part: Chat Completions, Responses, Messages

# Tool choices beside the names of tools, of which none can be called so.
ANY: Final = "*"  # some tool must be called, whichever
OFFERED: Final = "?"  # one may be called, if there is any
SOME_OBJECT: JsonObject = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


class Unreadable(ValueError):
    """A request that cannot be answered; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer has to be.

    Attributes:
        kind: "text", "schema" for an instance of `schema`, "tool" for a call of `tool` whose arguments are one, "vectors"
            for no words at all.
        is_free: Whether a text would do as well: the tool was offered, not forced.
    """

    kind: Kind = "text"
    schema: JsonObject | None = None
    tool: str = ""
    is_free: bool = False


TEXT = Form()
VECTORS = Form("vectors")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be answered.

    Attributes:
        model: Its model, whatever it is called.
        text: The text of all messages, by lines.
        tokens: The prompt's tokens: the same count as a caller's estimate, so that what is charged is what was reserved.
        most: Tokens that the answer may have; None for no bound.
        form: What the answer has to be.
        parts: What the prompt consists of, in its order, with the tokens of each.
        body: The request as it came, for what only its own API knows.
    """

    model: str
    text: str
    tokens: int
    most: int | None
    form: Form
    parts: Sequence[tuple[object, int]]
    body: JsonObject

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted piece by piece."""
        return self.form.kind != "vectors" and bool(self.body.get("stream"))


def parsed(raw: bytes) -> JsonObject:
    """The JSON object in `raw`."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Unreadable("We could not parse the JSON body of your request.")
    return body


def messages_in(body: JsonObject, name: str = "messages") -> list[JsonObject]:
    """The list of objects that `body` has under `name`."""
    messages = body.get(name)
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise Unreadable(f"{name!r} must be a list of one message or more.")
    return messages


def asked(
    body: JsonObject, messages: Iterable[JsonObject], *, most: int | None, form: Form, beside: Iterable[object] = ()
) -> Asked:
    """The request that `body` makes.

    Args:
        body: The whole of it.
        messages: What it says, in order.
        most: Tokens of the answer at most, as it says.
        form: What the answer has to be.
        beside: What comes before the messages and counts by its JSON: tools, a schema; None for what is not there.
    """
    model = body.get("model")
    if not isinstance(model, str):
        raise Unreadable("you must provide a model parameter")
    if most is not None and not (isinstance(most, int) and most >= 1):
        raise Unreadable("the most tokens of an answer must be a whole number of at least 1")
    parts: list[tuple[object, int]] = [(each, _tokens_of(each)) for each in beside if each]
    texts = []
    for message in messages:
        text, tokens = read_message(message)
        texts.append(text)
        parts.append((message, tokens))
    return Asked(model, "\n".join(texts), sum(tokens for _, tokens in parts), most, form, parts, body)


def read_message(message: JsonObject) -> tuple[str, int]:
    """Text and tokens of a message: its content is text or parts. Images, and calls of tools, have tokens and no text."""
    content = message.get("content", message.get("output"))
    if isinstance(content, str) and "tool_calls" not in message:
        return content, estimate_tokens(content)
    parts = tuple(_leaves(content))
    text = "".join(str(part.get("text", "")) for part in parts)
    calls = [message.get("tool_calls"), message.get("arguments"), *(part.get("input") for part in parts)]
    images = sum(part.get("type") in IMAGES for part in parts)
    return text, estimate_tokens(text) + images * IMAGE_TOKENS + sum(_tokens_of(call) for call in calls if call)


def form_of(tools: Mapping[str, JsonObject], choice: str | None, schema: JsonObject | None, *, after_result: bool) -> Form:
    """What the answer has to be.

    Args:
        tools: The schema of each tool's arguments.
        choice: The tool that must be called, `ANY` for some tool, None for none; `OFFERED` if the model may choose: it uses
            the first tool whose arguments can be made.
        schema: What a text must be an instance of.
        after_result: Whether a tool has just been called: one call is enough.
    """
    name = None if after_result else _called(tools, choice)
    if name is None:
        return TEXT if schema is None else Form("schema", schema)
    if name not in tools:
        raise Unreadable(f"the tool choice asks for {name or 'a tool'!r}, which is not among the tools")
    return Form("tool", tools[name], name, is_free=choice == OFFERED)


def schema_in(wanted: JsonObject | None) -> JsonObject | None:
    """The schema that a response format asks for: it says so in the same words in all APIs, and Chat wraps them."""
    kind = wanted.get("type") if wanted else None
    if wanted is None or kind not in ("json_schema", "json_object"):
        return None
    schema: JsonObject = wanted.get("json_schema", wanted)["schema"] if kind == "json_schema" else SOME_OBJECT
    return schema


def _called(tools: Mapping[str, JsonObject], choice: str | None) -> str | None:
    """The name of the tool that is called; None for none."""
    if choice == OFFERED:
        return next((name for name, arguments in tools.items() if has_instance(arguments)), None)
    return next(iter(tools), "") if choice == ANY else choice


def _leaves(content: object) -> Iterator[JsonObject]:
    """The parts of a content, text as one, without those that only hold others, as a tool's result."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            yield from _leaves(part["content"]) if "content" in part else (part,)


def _tokens_of(thing: object) -> int:
    return estimate_tokens(thing if isinstance(thing, str) else json.dumps(thing))
