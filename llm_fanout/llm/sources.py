"""What may be handed in as the prompts of a run: checked as far as that can be done before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from ..errors import ConfigError
from .prompt import Prompt, prompt_of


def check_source(prompts: object) -> None:
    """Refuse what is surely a mistake, before anything is sent."""
    if isinstance(prompts, str | Prompt):
        raise ConfigError("this is one prompt; ask it with `await fan.call(prompt)`, or hand in a list of prompts")
    if not isinstance(prompts, Iterable | AsyncIterable):
        raise ConfigError(f"prompts must be a list, an iterable or an async iterable of prompts, got {prompts!r}")
    if isinstance(prompts, Mapping):
        raise ConfigError("a dict is no list of prompts; hand in [Prompt(text, id=key) for key, text in prompts.items()]")
    if isinstance(prompts, Sequence | AbstractSet):  # what else has a length may be good for one pass only
        _check_rows(prompts)


def check_at_hand(prompts: object) -> None:
    """Refuse prompts that would have to be waited for, where nothing can wait."""
    if isinstance(prompts, AsyncIterable):
        raise ConfigError(
            "these prompts are an async iterable, which cannot be looked through here; "
            "hand in a list of them: [prompt async for prompt in prompts]"
        )


def _check_rows(rows: Iterable[object]) -> None:
    ids: set[str | int] = set()
    for index, row in enumerate(rows):
        if isinstance(row, str):
            continue  # there is nothing that could be wrong with it
        if isinstance(row, Mapping):
            raise ConfigError(
                f"prompt {index} is one message, a dict; a prompt is a list of messages: hand in [[message, ...], ...], "
                "or use `fan.call(messages)` for one conversation"
            )
        try:
            claim_id(prompt_of(row), ids)
        except ConfigError as exc:
            raise ConfigError(f"prompt {index}: {exc}") from exc


def claim_id(prompt: Prompt, taken: set[str | int]) -> None:
    """Note the prompt's own id, if it has one; raises ConfigError if another prompt of the run has it."""
    if prompt.id is None:
        return
    if prompt.id in taken:
        raise ConfigError(f"the id {prompt.id!r} is there twice; ids must be unique within a run")
    taken.add(prompt.id)
