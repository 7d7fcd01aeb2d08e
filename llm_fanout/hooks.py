"""The few doors upward: what a low row needs from a higher one, named here and imported on first use."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Literal

Hook = Literal["decode", "response", "rates", "text", "html", "bar", "embedded"]

_PLACES: dict[Hook, tuple[str, str]] = {
    "decode": ("llm_fanout.providers.vendors", "decode"),  # reply bytes, API -> text, usage, finish reason
    "response": ("llm_fanout.providers.vendors", "response"),  # reply bytes, API -> the SDK's own object
    "rates": ("llm_fanout.llm.prices", "rates"),  # model -> USD per token
    "text": ("llm_fanout.report.text", "render"),  # Report, Summary, Estimate, Scope -> lines for a terminal
    "html": ("llm_fanout.report.html", "render"),  # Report, Summary, Estimate, Scope -> a notebook cell
    "bar": ("llm_fanout.report.bar", "bar"),  # progress in a terminal or a notebook
    "embedded": ("llm_fanout.sim", "embedded"),  # the provider in a box
}


@cache
def hook(name: Hook) -> Any:
    """The function behind `name`; its module is imported now, and not before."""
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
