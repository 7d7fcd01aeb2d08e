"""When a provider is down, and how: written "10-70+100-110:503"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError

OutageKind = Literal["refused", "503"]  # the port is closed and connections are cut, or every request is answered 503

_SPAN = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)(?::(refused|503))?")


@dataclass(frozen=True, slots=True)
class Outage:
    """One outage, in seconds from the start of the provider."""

    begin: float
    end: float
    kind: OutageKind


def outages_in(text: str) -> tuple[Outage, ...]:
    """The outages that `text` says, in the order of time.

    Raises:
        ConfigError: It is not FROM-TO, FROM-TO:503 or several of them joined by +, or they overlap.
    """
    outages = tuple(_outage(part) for part in text.split("+")) if text else ()
    ends = [0.0, *(each.end for each in outages)]
    if any(each.begin < before or each.end <= each.begin for each, before in zip(outages, ends, strict=False)):
        raise ConfigError(f"outage must name times that rise, got {text!r}; write 10-70 or 10-70+100-110:503")
    return outages


def _outage(part: str) -> Outage:
    match = _SPAN.fullmatch(part.strip())
    if match is None:
        raise ConfigError(f"outage must be seconds FROM-TO, got {part!r}; write 10-70, 10-70:503 or 10-70+100-110")
    kind: OutageKind = "503" if match[3] == "503" else "refused"
    return Outage(float(match[1]), float(match[2]), kind)
