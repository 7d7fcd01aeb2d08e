"""The programs in the docstring of the transport run as they are written."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from llm_fanout import FanOut, Limits, transport


async def test_programs_in_the_docstring() -> None:
    """Each by itself, on simulated answers; one for each framework, and what they have in common."""
    blocks = [block for block in re.findall(r"(?:^    .*\n?)+", transport.__doc__ or "", re.MULTILINE) if "FanOut" in block]
    printed: list[str] = []
    programs = []
    for block in blocks:
        scope: dict[str, Any] = {"FanOut": FanOut, "Limits": Limits, "print": printed.append}
        exec(f"async def main():\n{block}", scope)
        programs.append(scope["main"])

    await asyncio.gather(*(main() for main in programs))

    assert len(blocks) == 4
    assert [text.startswith("[simulated answer]") for text in printed] == [True] * 3
