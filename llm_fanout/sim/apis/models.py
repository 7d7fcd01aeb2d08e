"""The models that there are, with the fields that OpenAI gives them and those that Anthropic does."""

from __future__ import annotations

from typing import Any

MODEL = "gpt-sim"
BORN = "2026-11-24T00:00:00Z"


def models() -> dict[str, Any]:
    """A list of one: any other name is served as well."""
    return {"object": "list", "data": [model(MODEL)], "has_more": False, "first_id": MODEL, "last_id": MODEL}


def model(name: str) -> dict[str, Any]:
    """The model of that name."""
    openai = {"object": "model", "created": 0, "owned_by": "llm_fanout"}
    return {"id": name, **openai, "type": "model", "display_name": name, "created_at": BORN, "lifecycle": "active"}
