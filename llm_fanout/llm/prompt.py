"""What is asked, and with which options: the words of a call, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from ..core.checks import is_count, is_number, is_whole
from ..core.lanes import rank_of
from ..core.retry import RetryPolicy
from ..errors import ConfigError
from ..journal.stated import Journal
from ..progress import Progress
from .times import Timeouts, seconds_until, timeouts_of

if TYPE_CHECKING:
    from datetime import datetime

    from httpx2 import Timeout
    from openai.types.chat import ChatCompletionMessageParam as Message
    from openai.types.chat import ChatCompletionToolParam

    from .endpoint import Endpoint


Priority = Literal["interactive", "default", "background"]


class Params(TypedDict, total=False):
    """The SDK's request arguments, under its names; they are sent as they are, and left out if they are not said.

    Their ranges are the provider's to say, and differ from model to model.

    Args:
        temperature: A number, from 0 (always the likeliest word) to 2.
        top_p: Share of the probability, from 0 to 1, that is drawn from.
        max_tokens: Tokens of the answer at most, >= 1; the name that most servers know. OpenAI's newer models are sent it
            by their name for it, and Anthropic, which wants one, 16,384 if nothing is said.
        max_completion_tokens: The same in OpenAI's newer word, reasoning included.
        seed: A whole number; the same one asks for the same answer.
        stop: Text, or up to four, before which the answer ends.
        frequency_penalty: A number from -2 to 2, against words the more often they came.
        presence_penalty: A number from -2 to 2, against words that came at all.
        reasoning_effort: "low", "medium", "high", or another word that the model knows.
        logprobs: Whether `Result.response` has the log probabilities of the answer's tokens.
        top_logprobs: How many alternatives of each token it has; a whole number.
        service_tier: "auto", "default", "flex" or "priority".
        metadata: Texts by name that the provider keeps with the call.
        tools: Tools that the model may call, as the SDK takes them; the calls are in `Result.tool_calls`.
        tool_choice: "auto", "none", "required", or the tool that must be called.
        parallel_tool_calls: Whether one answer may call several.
        extra_headers: HTTP headers by name, besides ours.
        extra_body: Whatever else the server takes, by name: it is put into the body as it is (`top_k`, `modalities`).
    """

    temperature: float
    top_p: float
    max_tokens: int
    max_completion_tokens: int
    seed: int
    stop: str | list[str]
    frequency_penalty: float
    presence_penalty: float
    reasoning_effort: str
    logprobs: bool
    top_logprobs: int
    service_tier: str
    metadata: Mapping[str, str]
    tools: Sequence[ChatCompletionToolParam]
    tool_choice: str | Mapping[str, object]
    parallel_tool_calls: bool
    extra_headers: Mapping[str, str]
    extra_body: Mapping[str, object]


class CallOptions(Params, total=False):
    """A call: the SDK's words (all of `llm_fanout.llm.prompt.Params`), and how hard to try.

    Args:
        instructions: A system message that is put before every prompt.
        timeout: Seconds for one attempt, 600 by default (the SDK's own); time in our queue never counts. An
            `httpx2.Timeout` sets apart the seconds to connect (10) and those of silence (`read`, no bound).
        max_retries: Tries after transient failures, 5 by default; waits after a 429 do not count.
        retry_for: Seconds from its first start within which a call may start again: 300 for `call`, no bound for `map`.
        hedge: The share of calls, 0.05 say, of which a second copy may be sent: those that are under way for longer than all
            but that share take, as far as this run has seen (of single calls: the client). The first answer counts, or the
            first piece of one that is streamed; the other copy is cancelled, and what it has used is billed and counted. A
            copy goes only where nobody waits to start. By default there are none.
        fallbacks: Models or Endpoints to ask, in this order, where the one before it cannot be had: it is down, its account
            is closed, or the call has used up its tries there. What the call itself is at fault for (a bad request, a
            refusal, a filter) is asked nowhere else. Each has its own quota; `Result.model` and `.endpoint` say who
            answered.
        priority: Whether it goes before others of its scope ("interactive"), or only when nobody else on the quota wants
            to ("background").
    """

    instructions: str
    timeout: float | Timeout
    max_retries: int
    retry_for: float
    hedge: float
    fallbacks: Sequence[str | Endpoint]
    priority: Priority


class RunOptions(CallOptions, total=False):
    """A run: all that a call takes (`llm_fanout.llm.prompt.CallOptions`), and what many calls share besides.

    Args:
        deadline: Seconds from the start, or an aware datetime, after which nothing goes on. What is not done then has a
            Result that says so, and the Report's summary says `stopped`.
        progress: True for a bar, False for none, or a function that gets a Summary from time to time (if it raises, the
            run ends). By default a bar in a notebook, silence elsewhere.
        total: How many prompts will come, for the bar, where the source cannot tell.
        stream: Whether answers are read as streams: it shows the time to the first token and between tokens
            (`Result.ttft`, `Result.inter_token`), notices an answer that stalls, and keeps what came of one that was cut.
        warm_first: Whether of prompts that begin alike with 1,024 tokens or more (`instructions`, tools, all messages but
            the last; or where that is less, the first 4,096 characters of the last one) one is asked first, and the rest
            when its answer begins: then the provider has it in its cache, where it costs a fraction
            (`Summary.usage.cached_tokens`, `Summary.saved`). To Anthropic the beginning is marked as one to be cached.
        journal: The path of a file, or a `llm_fanout.journal.Journal`, in which each answer is before anybody sees it. The
            same call again, with the same journal, goes on where the last one ended, however that was: what it has an answer
            to is not asked again (`Result.source` says "journal"). One run at a time may use it. A scope has its own, for
            all that runs inside.
        budget: USD that the run may cost, with a journal all runs that had it: never more, the prices being right. What a
            call costs at most is set aside before it is sent: its prompt at a token a byte, its answer at `max_tokens`, or
            if that is not said at what the budget allows (32,768 at most; a reply cut there is an error of kind "budget").
            When there is no room for the next call, and none under way can give some back, the run ends: `summary.stopped`
            says so. What may have been paid for, though nobody says how much (a timeout, a call cut off, a process killed),
            counts as all that was set aside for it. It is a ConfigError if a model has no price: say `Endpoint(price=)` or
            `token_budget`. Images and files count as estimated, and a kept connection that breaks before the first answer to
            a call as one that the server had dropped.
        token_budget: The same in tokens, input and output together.
        dedupe: Whether prompts that ask the same, while one of them is under way, share its answer (`Result.source` says
            "shared"); also with other runs of the client that say so, and keep the same budgets. While the run that asks is
            paused, so are they; what it fails with, they fail with.
    """

    deadline: float | datetime
    stream: bool
    warm_first: bool
    progress: Progress
    total: int
    journal: str | os.PathLike[str] | Journal
    budget: float
    token_budget: int
    dedupe: bool


CALL_OPTIONS = frozenset(CallOptions.__annotations__) | frozenset(Params.__annotations__)
EFFORT = frozenset(
    {"timeout", "max_retries", "retry_for", "hedge", "priority", "extra_headers"}
)  # options that any API knows
RUN_OPTIONS = CALL_OPTIONS | frozenset(RunOptions.__annotations__)


class Prompt:
    """One prompt, and what sets it apart from the others of its run.

    Args:
        content: Text, or a list of message dicts as the SDK takes them.
        id: Comes back as `Result.id`; unique within a run. By default the position.
        model: The model for this one, "openai/gpt-5-mini", or an Endpoint.
        tag: Anything; comes back as `Result.tag`, is never sent.
        options: What this one does otherwise than its run: see `llm_fanout.llm.prompt.CallOptions`.

    Raises:
        ConfigError: The content is no prompt, or an option is unknown or out of its range.
    """

    __slots__ = ("content", "id", "model", "options", "tag")

    def __init__(
        self,
        content: str | Sequence[Message],
        *,
        id: str | int | None = None,
        model: str | Endpoint | None = None,
        tag: object = None,
        **options: Unpack[CallOptions],
    ) -> None:
        if not isinstance(content, str):
            _check_messages(content)
        if id is not None and not isinstance(id, str | int):
            raise ConfigError(f"id must be text or a whole number, got {id!r}")
        if options:
            check_options(options, CALL_OPTIONS)
        self.content = content
        self.id = id
        self.model = model
        self.tag = tag
        self.options: Mapping[str, Any] = options

    def __repr__(self) -> str:
        return f"Prompt({self.content!r}, id={self.id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle carries no headers: they may hold a key.
        options = {name: value for name, value in self.options.items() if name != "extra_headers"}
        return _restored, (self.content, {"id": self.id, "model": self.model, "tag": self.tag, **options})


def _restored(content: Any, fields: Mapping[str, Any]) -> Prompt:
    return Prompt(content, **fields)


def prompt_of(item: object) -> Prompt:
    """`item` as a Prompt: itself, or text or messages wrapped in one. Raises ConfigError for anything else."""
    return item if isinstance(item, Prompt) else Prompt(item)  # type: ignore[arg-type]  # the constructor checks it


def check_options(options: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse a word that is no option here, and a value out of its range, before anything is sent."""
    for name in options.keys() - known:
        raise ConfigError(f"there is no option {name!r} here; {REFUSED.get(name) or _nearest(name, known)}")
    timeouts_of(options.get("timeout"))
    seconds_until(options.get("deadline"))
    if options.get("priority") is not None:
        rank_of(options["priority"])
    RetryPolicy.of(options.get("max_retries", 0), options.get("retry_for"))
    _check_fallbacks(options.get("fallbacks"))
    if options.get("journal") is not None:
        Journal.of(options["journal"])
    for name in FIGURES:
        check_figure(name, options.get(name))


def check_figure(name: str, value: object) -> None:
    """Refuse a value that cannot be what that option means; None says nothing."""
    wanted, fits = FIGURES[name]
    if value is not None and not fits(value):
        raise ConfigError(f"{name} must be {wanted}, got {value!r}")


def _check_fallbacks(fallbacks: object) -> None:
    if isinstance(fallbacks, str) or not isinstance(fallbacks or (), Sequence):
        raise ConfigError(f"fallbacks must be a list of models or Endpoints, got {fallbacks!r}; write ['openai/gpt-5-mini']")


def _is_finite(value: object) -> bool:
    return is_number(value) and isfinite(value)  # type: ignore[arg-type]  # it is a number


# What a parameter must be to be sent at all. Its range is the provider's to say: it differs from model to model.
FIGURES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "temperature": ("a number", _is_finite),
    "top_p": ("a number", _is_finite),
    "frequency_penalty": ("a number", _is_finite),
    "presence_penalty": ("a number", _is_finite),
    "seed": ("a whole number", is_whole),
    "top_logprobs": ("a whole number", is_whole),
    "max_tokens": ("a whole number >= 1", is_count),
    "max_completion_tokens": ("a whole number >= 1", is_count),
    "stream": ("True or False", lambda value: isinstance(value, bool)),
    "budget": ("USD, 0 or more", lambda value: _is_finite(value) and value >= 0),  # type: ignore[operator]  # a number
    "token_budget": ("tokens, 0 or more", lambda value: _is_finite(value) and value >= 0),  # type: ignore[operator]  # too
    "hedge": ("a share, from 0 (none) to below 1", lambda value: is_number(value) and 0 <= value < 1),  # type: ignore[operator]
    "warm_first": ("True or False", lambda value: isinstance(value, bool)),
    "dedupe": ("True or False", lambda value: isinstance(value, bool)),
}


# Words that are at home elsewhere, and where; looked up before what they resemble.
REFUSED = {
    "n": "ask once per answer: one prompt, one Result; `fan.vote(prompt, votes=n)` takes the most frequent answer",
    "stream": "a single answer is streamed by `fan.stream(prompt)`, all of a run by `fan.map(..., stream=True)`",
    "messages": "hand the messages in as the prompt",
    "system": "say instructions=",
    "system_prompt": "say instructions=",
    "retries": "say max_retries=",
    "num_retries": "say max_retries=",
    "response_format": "say it to `map` or `call`; one format holds for all of a run",
    "response_model": "say response_format=",
    "output_type": "say response_format=",
} | {
    name: f"say limits=Limits({name}=...)"
    for name in ("max_concurrency", "rpm", "tpm", "itpm", "otpm", "rpd", "burst", "headroom", "adapt", "settle")
}


def _nearest(name: str, known: frozenset[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(sorted(known))}"


def _check_messages(content: object) -> None:
    if not isinstance(content, Sequence) or not content or not all(map(_is_message, content)):
        raise ConfigError(f"a prompt is text, a list of message dicts, or a Prompt; got {_short(content)}")
    for message in content:
        if isinstance(message, Mapping) and "role" not in message and "type" not in message:  # an item of Responses has that
            raise ConfigError(f"a message needs a 'role' ('user', say), got {_short(message)}")


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) or hasattr(value, "model_dump")  # a dict, or an SDK's own object


def _plain(value: Any) -> Any:
    """`value` as JSON has it, where an SDK's objects are in it: those of an answer may be sent back as they came."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, Mapping) else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one call, sorted: what is sent, and how hard to try."""

    params: Mapping[str, Any]
    system: Mapping[str, Any] | None  # the message that is put before every prompt
    timeouts: Timeouts
    retry: RetryPolicy
    rank: int | None
    fallbacks: tuple[str | Endpoint, ...]
    stream: bool
    hedge: float
    warm_first: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """The settings that these (checked) options make."""
        return cls(
            params={name: value for name, value in options.items() if name in Params.__annotations__ and value is not None},
            system={"role": "system", "content": options["instructions"]} if options.get("instructions") else None,
            timeouts=timeouts_of(options.get("timeout")),
            retry=RetryPolicy.of(options.get("max_retries", 5), options.get("retry_for")),
            rank=None if options.get("priority") is None else rank_of(options["priority"]),
            fallbacks=tuple(options.get("fallbacks") or ()),
            stream=bool(options.get("stream")),
            hedge=options.get("hedge") or 0.0,
            warm_first=bool(options.get("warm_first")),
        )


def messages_of(prompt: Prompt, settings: Settings) -> Sequence[Mapping[str, Any]]:
    """The messages of `prompt`, the instructions first."""
    content = plain_content(prompt)
    messages = [{"role": "user", "content": content}] if isinstance(content, str) else content
    return messages if settings.system is None else [settings.system, *messages]


def plain_content(prompt: Prompt) -> str | list[dict[str, Any]]:
    """The content of `prompt`, as JSON has it."""
    content: Any = prompt.content
    return content if isinstance(content, str) else [_plain(each) for each in content]
