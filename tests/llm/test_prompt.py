"""What is asked, and with which options."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from llm_fanout import ConfigError, Prompt
from llm_fanout.core.lanes import BACKGROUND
from llm_fanout.llm.prompt import (
    CALL_OPTIONS,
    RUN_OPTIONS,
    CallOptions,
    Params,
    RunOptions,
    Settings,
    check_options,
    messages_of,
    prompt_of,
)


def test_text_messages_and_prompts_are_prompts() -> None:
    """Each form becomes a Prompt; one that is one already stays itself."""
    ready = Prompt("x", id=1)

    assert prompt_of(ready) is ready
    assert prompt_of("x").content == "x"
    assert prompt_of([{"role": "user", "content": "x"}]).content == [{"role": "user", "content": "x"}]
    assert repr(ready) == "Prompt('x', id=1)"


@pytest.mark.parametrize("content", [None, 5, [], ["x"], {"role": "user"}, b"bytes", [{"content": "no role"}], object()])
def test_anything_else_is_refused(content: Any) -> None:
    """What is neither is a ConfigError that shows it."""
    with pytest.raises(ConfigError, match=r"prompt is text|needs a 'role'"):
        Prompt(content)


def test_long_values_are_shortened_in_messages() -> None:
    """A ConfigError does not print a book."""
    with pytest.raises(ConfigError) as caught:
        Prompt([{"content": "x" * 10_000}])

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"temprature": 1}, "did you mean temperature"),
        ({"n": 3}, "ask once per answer"),
        ({"stream": True}, r"streamed by `fan\.stream\(prompt\)`"),
        ({"max_concurrency": 5}, r"say limits=Limits\(max_concurrency=\.\.\.\)$"),
        ({"rpm": 5}, r"say limits=Limits\(rpm=\.\.\.\)$"),
        ({"tpm": 5}, r"say limits=Limits\(tpm="),
        ({"itpm": 5}, r"say limits=Limits\(itpm="),
        ({"otpm": 5}, r"say limits=Limits\(otpm="),
        ({"rpd": 5}, r"say limits=Limits\(rpd="),
        ({"burst": 5}, r"say limits=Limits\(burst="),
        ({"system": "x"}, "here; say instructions=$"),
        ({"system_prompt": "x"}, "here; say instructions=$"),
        ({"response_format": {}}, "here; say it to `map` or `call`"),
        ({"response_model": dict}, "say response_format="),
        ({"retries": 3}, "here; say max_retries=$"),
        ({"num_retries": 3}, "here; say max_retries=$"),
        ({"zzz": 1}, "known are"),
        ({"timeout": 0}, "timeout must be seconds > 0"),
        ({"timeout": inf}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"retry_for": 0}, "retry_for"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"max_tokens": True}, "max_tokens must be a whole number >= 1"),
        ({"temperature": "hot"}, "temperature must be a number, got 'hot'"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"top_p": [0.5]}, "top_p must be a number"),
        ({"frequency_penalty": True}, "frequency_penalty"),
        ({"presence_penalty": "0"}, "presence_penalty"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"top_logprobs": "3"}, "top_logprobs must be a whole number"),
        ({"priority": "urgent"}, "priority must be one of 'interactive'"),
        ({"deadline": 5}, "no option 'deadline'"),
    ],
)
def test_options_are_checked_when_they_are_given(options: dict[str, Any], match: str) -> None:
    """A misspelt word or a value out of its range is refused, with what to do."""
    with pytest.raises(ConfigError, match=match):
        Prompt("x", **options)


@pytest.mark.parametrize(("options", "base"), [(Params, None), (CallOptions, Params), (RunOptions, CallOptions)])
def test_every_option_is_described(options: Any, base: Any) -> None:
    """The docstring of each set of options has a line for each of its own, and says where a user finds the others."""
    own = options.__annotations__.keys() - (base.__annotations__.keys() if base else set())

    lines = [line.strip() for line in options.__doc__.splitlines()]
    assert [name for name in own if not any(line.startswith(f"{name}: ") for line in lines)] == []
    assert base is None or f"`{base.__module__}.{base.__name__}`" in options.__doc__


def test_figures_may_be_left_open() -> None:
    """None is as good as not said; whole numbers do for fractions, and zero is a number."""
    Prompt("x", temperature=0, top_p=1, seed=-1, top_logprobs=0)
    Prompt("x", temperature=None, max_tokens=None, seed=None)  # type: ignore[arg-type]  # what a table may hold


def test_ids_are_text_or_numbers() -> None:
    """An id joins rows: nothing else will do."""
    with pytest.raises(ConfigError, match="id must be"):
        Prompt("x", id=1.5)  # type: ignore[arg-type]  # the mistake under test


def test_a_run_takes_more_options_than_a_call() -> None:
    """`progress` belongs to a run."""
    check_options({"progress": True, "total": 5}, RUN_OPTIONS)

    with pytest.raises(ConfigError, match="progress"):
        check_options({"progress": True}, CALL_OPTIONS)


def test_settings_sort_the_options() -> None:
    """What is sent, and how hard to try; what is None is left out."""
    settings = Settings.of({"temperature": 0.5, "seed": None, "timeout": 3, "max_retries": 1, "instructions": "brief"})

    assert settings.params == {"temperature": 0.5}
    assert (settings.timeouts.total, settings.system) == (3, {"role": "system", "content": "brief"})
    assert (settings.retry.max_retries, settings.retry.retry_for) == (1, inf)
    assert Settings.of({}).timeouts.total == 600
    assert (Settings.of({}).rank, Settings.of({"priority": "background"}).rank) == (None, BACKGROUND)


def test_instructions_come_first() -> None:
    """Text is one message of the user's, messages are as they were handed in, and instructions go before them."""
    settings = Settings.of({"instructions": "be brief"})

    assert messages_of(Prompt("hello"), Settings.of({})) == [{"role": "user", "content": "hello"}]
    assert messages_of(Prompt([{"role": "user", "content": "hi"}]), settings) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]


def test_fallbacks_are_a_list() -> None:
    """Models in their order; one text would be taken for its letters."""
    assert Settings.of({"fallbacks": ["openai/a", "openai/b"]}).fallbacks == ("openai/a", "openai/b")
    assert Settings.of({}).fallbacks == ()
    with pytest.raises(ConfigError, match="fallbacks must be a list of models"):
        Prompt("x", fallbacks="openai/a")


def test_an_answer_may_be_sent_back_as_it_came() -> None:
    """The SDK's own objects, also within lists and dicts, and the items of Responses, which have a type and no role."""
    message = ChatCompletionMessage.model_validate({"role": "assistant", "content": "hi"})
    items: list[Any] = [message, {"type": "reasoning", "id": "r"}, {"role": "user", "content": [message]}]

    assert messages_of(Prompt(items), Settings.of({})) == [
        {"role": "assistant", "content": "hi"},
        {"type": "reasoning", "id": "r"},
        {"role": "user", "content": [{"role": "assistant", "content": "hi"}]},
    ]
