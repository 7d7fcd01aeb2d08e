"""How long an answer a model gives at most, going by what it says when it refuses to be asked for a longer one.

Sources of the wordings, read 2026-11: OpenAI, Chat Completions; Anthropic, Messages; vLLM, `serving_engine.py`; Hugging Face
text-generation-inference, `validation.rs`; Groq, DeepSeek, Gemini, Bedrock and OpenRouter, as issues on GitHub quote them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

LEAST = 16  # tokens: no model gives fewer, so a smaller number in a message is about something else

_NUMBER = r"([0-9]{1,3}(?:[,_][0-9]{3})+|[0-9]+)"
# "max_tokens", "max_completion_tokens", "maxOutputTokens", "the maximum tokens you requested", "16384 completion tokens"
_ABOUT_LENGTH = re.compile(r"max(?:imum)?[_ ]?(?:(?:output|completion|new)[_ ]?)?tokens|(?:output|completion) tokens", re.I)
# A number by itself: no part of a model's name.
_STANDING = re.compile(rf"(?<![\w.-]){_NUMBER}(?![\w-])(\s*\(exclusive\))?")
# "maximum context length is 4096 tokens", "`inputs` tokens + `max_new_tokens` must be <= 4096"
_TOGETHER = re.compile(rf"(?:context (?:length|window|size)|max_new_tokens` must be)\D{{0,30}}?{_NUMBER}", re.I)
# "(22 in the messages, ...)", "your request has 22 input tokens", "22 `inputs` tokens", "(22 of text input, ...)"
_INPUT = re.compile(rf"{_NUMBER} (?:in (?:the|your) (?:messages|prompt|input)|`?inputs?`? tokens|of (?:text )?input)", re.I)
_SUM = re.compile(rf"context limit: {_NUMBER} \+ {_NUMBER} > {_NUMBER}", re.I)  # Anthropic: input + max_tokens > context


class Named(NamedTuple):
    """What a refusal names.

    Attributes:
        output: The most tokens of this answer.
        together: The most tokens of any prompt and its answer, if that is what the call was too long for.
    """

    output: int
    together: int | None = None


def named_in(message: str, asked: int) -> Named | None:
    """What a model can be asked for instead, which refused to be asked for so many tokens; None if it does not say.

    Args:
        message: How it refused.
        asked: Tokens of an answer, more than what it names.
    """
    said = message.rpartition("from the provider: ")[2]
    named = _room_in(said) or _most_in(said, asked)
    return named if named is not None and 0 < named.output < asked else None


def _room_in(said: str) -> Named | None:
    """What a context leaves beside the prompt."""
    if (found := _SUM.search(said)) is not None:
        input, together = _int(found[1]), _int(found[3])
    elif (context := _TOGETHER.search(said)) is not None and (prompt := _INPUT.search(said)) is not None:
        input, together = _int(prompt[1]), _int(context[1])
    else:
        return None
    return Named(together - input, together)


def _most_in(said: str, asked: int) -> Named | None:
    """The largest number that is smaller than what was asked for, in a message about that."""
    if _ABOUT_LENGTH.search(said) is None or _TOGETHER.search(said) is not None:
        return None
    most = max((number for number in _numbers(said) if LEAST <= number < asked), default=0)
    return Named(most) if most else None


def _numbers(said: str) -> Iterator[int]:
    for number, exclusive in _STANDING.findall(said):
        yield _int(number) - bool(exclusive)


def _int(digits: str) -> int:
    return int(re.sub("[,_]", "", digits))
