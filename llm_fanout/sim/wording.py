"""The words of providers: the shapes of their errors, the pages of what stands before them, how they write a time.

Each shape is what that provider's own guide to errors shows, or what its users quote in issues; read 2026-11.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from math import ceil

JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}

CLOUDFLARE = {  # developers.cloudflare.com, "Cloudflare 5xx errors"
    520: "Web server is returning an unknown error",
    521: "Web server is down",
    522: "Connection timed out",
    523: "Origin is unreachable",
    524: "A timeout occurred",
}


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An answer that is an error."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def openai_error(message: str, kind: str, code: str | None) -> bytes:
    """OpenAI's error object, which most others have copied."""
    return _json({"error": {"message": message, "type": kind, "param": None, "code": code}})


def azure_error(message: str, code: str, **more: object) -> bytes:
    """Azure's: the code comes first, and may be the status in quotes."""
    return _json({"error": {"code": code, "message": message, **more}})


def anthropic_error(message: str, kind: str, **details: object) -> bytes:
    """Anthropic's: an object that says of itself that it is an error."""
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    return _json({"type": "error", "error": error, "request_id": "req_simulated"})


def google_error(status: int, name: str, message: str, *details: Mapping[str, object]) -> bytes:
    """Google's, as Gemini's OpenAI-compatible endpoint says it: in a list."""
    return _json([{"error": {"code": status, "message": message, "status": name, "details": details}}])


def quota_failure(*quotas: str) -> Mapping[str, object]:
    """The detail of Google's errors that names the quotas that were hit."""
    violations = [{"quotaMetric": "generativelanguage.googleapis.com/simulated", "quotaId": quota} for quota in quotas]
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}


def retry_info(delay: str) -> Mapping[str, object]:
    """The detail of Google's errors that says when to come back, such as "27s"."""
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def mistral_error(message: str, kind: str, code: str) -> bytes:
    """Mistral's: flat, with a code of its own."""
    return _json({"object": "error", "message": message, "type": kind, "param": None, "code": code})


def openrouter_error(message: str, status: int, **metadata: object) -> bytes:
    """OpenRouter's: the code is the status, what happened is in the metadata."""
    return _json({"error": {"message": message, "code": status, "metadata": metadata}})


def litellm_error(message: str, kind: str, status: int) -> bytes:
    """LiteLLM's proxy: OpenAI's shape, with the status in quotes for a code."""
    return _json({"error": {"message": message, "type": kind, "param": "None", "code": str(status)}})


def llamacpp_error(message: str, kind: str, status: int, **more: object) -> bytes:
    """llama.cpp's server: the code is the status, and what it knows stands beside it."""
    return _json({"error": {"code": status, "message": message, "type": kind, **more}})


def fastapi_error(detail: object) -> bytes:
    """FastAPI's, as vLLM and others have it from their framework."""
    return _json({"detail": detail})


def nginx_page(status: int) -> bytes:
    """What a proxy says in the provider's place."""
    return f"<html><head><title>{status}</title></head><body><center>nginx</center></body></html>".encode()


def cloudflare_page(status: int) -> bytes:
    """What Cloudflare says when the provider behind it does not; `status` is one of `CLOUDFLARE`."""
    title = f"api.example.com | {status}: {CLOUDFLARE[status]}"
    return f'<!DOCTYPE html><html><head><title>{title}</title></head><body id="cf-wrapper">Cloudflare</body></html>'.encode()


def go_duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: "6m0s", "1.5s", "12ms"."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"


def rfc3339(wall: float) -> str:
    """An instant, in seconds since the epoch, as Anthropic writes it: whole seconds, rounded up, in UTC."""
    return datetime.fromtimestamp(ceil(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def http_date(wall: float) -> str:
    """An instant, in seconds since the epoch, as HTTP writes it (RFC 9110): whole seconds, rounded up."""
    return formatdate(ceil(wall), usegmt=True)


def _json(body: object) -> bytes:
    return json.dumps(body).encode()
