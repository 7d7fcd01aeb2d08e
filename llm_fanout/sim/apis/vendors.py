"""What all APIs of one vendor have in common: where the key is, what an error looks like, whose headers there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import Dialect
from ..wording import ErrorAnswer

FAILED = "The model failed after the answer had begun."

# docs.anthropic.com/en/api/errors; 2026-11
ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor's manners.

    Attributes:
        dialect: Whose rate limit headers its APIs have whatever the config says, unless that is "none"; None: the config's.
        key_in: The API key in a request's headers; None if there is none.
        error: An error, which comes in OpenAI's shape, in its own; the text is the request's id.
    """

    dialect: Dialect | None
    key_in: Callable[[Mapping[str, str]], str | None]
    error: Callable[[ErrorAnswer, str], ErrorAnswer]


def bearer(headers: Mapping[str, str]) -> str | None:
    """The key in `Authorization: Bearer ...`."""
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    return key if scheme == "Bearer" else None


def x_api_key(headers: Mapping[str, str]) -> str | None:
    """The key in `x-api-key`, or else the bearer's."""
    return headers.get("x-api-key") or bearer(headers)


def in_openais_shape(answer: ErrorAnswer, request_id: str) -> ErrorAnswer:
    """The error itself: it comes so."""
    return answer


def in_anthropics_shape(answer: ErrorAnswer, request_id: str) -> ErrorAnswer:
    """OpenAI's error object turned into Anthropic's, which names the request; a page, say, is left as it is."""
    error = _error_in(answer)
    if error is None:
        return answer
    body = {"type": "error", "error": error, "request_id": request_id}
    return ErrorAnswer(answer.status, {**answer.headers, "request-id": request_id}, json.dumps(body).encode())


OPENAI = Vendor(None, bearer, in_openais_shape)
ANTHROPIC = Vendor("anthropic", x_api_key, in_anthropics_shape)


def _error_in(answer: ErrorAnswer) -> object:
    """Anthropic's error object for what OpenAI's says, or the one that is there already; None for any other shape."""
    try:
        body: Any = json.loads(answer.body)
    except ValueError:
        return None
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None
    if body.get("type") == "error":
        return error
    kind = ANTHROPIC_ERRORS.get(answer.status, "invalid_request_error" if 400 <= answer.status < 500 else "api_error")
    return {"type": kind, "message": error.get("message")}
