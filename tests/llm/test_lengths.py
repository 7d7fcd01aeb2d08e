"""What models say when they are asked for too long an answer."""

from __future__ import annotations

import pytest

from llm_fanout.llm.lengths import Named, named_in

ASKED = 32_768

REFUSALS = {
    # OpenAI, gpt-4o
    "max_tokens is too large: 32768. This model supports at most 16384 completion tokens, whereas you provided "
    "32768.": Named(16384),
    # OpenAI, o-series
    "Invalid 'max_completion_tokens': integer above maximum value. Expected a value <= 16384, but got "
    "32768 instead.": Named(16384),
    # Anthropic, whose models have a date in their names
    "max_tokens: 32768 > 8192, which is the maximum allowed number of output tokens for "
    "claude-3-5-sonnet-20241022": Named(8192),
    "max_tokens: 32768 > 4096, which is the maximum allowed number of output tokens for "
    "claude-3-haiku-20240307": Named(4096),
    "input length and `max_tokens` exceed context limit: 180000 + 32768 > 200000, decrease input length or `max_tokens` "
    "and try again": Named(20000, 200000),
    # vLLM, older and newer; OpenAI's older models say the same
    "This model's maximum context length is 4096 tokens. However, you requested 32790 tokens (22 in the messages, 32768 in "
    "the completion). Please reduce the length of the messages or completion.": Named(4074, 4096),
    "'max_tokens' or 'max_completion_tokens' is too large: 32768. This model's maximum context length is 4096 tokens and "
    "your request has 22 input tokens (32768 > 4096 - 22). None": Named(4074, 4096),
    # Hugging Face TGI, and Together on it
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 22 `inputs` tokens and 32768 "
    "`max_new_tokens`": Named(4075, 4097),
    # OpenRouter
    "This endpoint's maximum context length is 8192 tokens. However, you requested about 32790 tokens (22 of text input, "
    "32768 in the output). Please reduce the length of either one.": Named(8170, 8192),
    # Groq, DeepSeek, DashScope, Gemini, Bedrock
    "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
    "`context_window` for this model": Named(8192),
    "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]": Named(8192),
    "Range of max_tokens should be [1,8192]": Named(8192),
    "Unable to submit request because it has a maxOutputTokens value of 32768 but the supported range is from 1 (inclusive) "
    "to 8193 (exclusive). Update the value and try again.": Named(8192),
    "The maximum tokens you requested exceeds the model limit of 8,192. Try again with a maximum tokens value that is "
    "lower than 8,192.": Named(8192),
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSALS)
def test_what_a_refusal_names(said: str) -> None:
    """Each provider's wording, as our errors quote it: how long an answer may be, beside this prompt if that is why."""
    assert named_in(f"400 from the provider: {said}", ASKED) == REFUSALS[said]


@pytest.mark.parametrize(
    "said",
    [
        "Invalid 'top_logprobs': must be at most 20, whatever tokens there are",
        "max_tokens and max_completion_tokens cannot both be set",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.",
        "This model's maximum context length is 4096 tokens. However, you requested 37768 tokens (5000 in the messages, "
        "32768 in the completion).",
        "max_tokens must be at least 1, got 0",
        "max_tokens: 40000 is wrong for claude-3-5-sonnet-20241022",
        "unknown field 123",
        "",
    ],
)
def test_what_says_nothing_of_that(said: str) -> None:
    """A refusal for another reason, or of a prompt that is too long by itself, is final."""
    assert named_in(f"400 from the provider: {said}", ASKED) is None


def test_what_was_not_too_much_is_refused_for_another_reason() -> None:
    """A model that takes 16,384 and was asked for 8,192 means something else."""
    said = "max_tokens is too large: this model supports at most 16384 completion tokens"

    assert named_in(said, 8_192) is None
    assert named_in(said, 16_384) is None
