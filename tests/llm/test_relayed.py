"""What an SDK gets in the end: `tests/llm/test_relay.py` and `tests/test_transport.py` show most of it."""

from __future__ import annotations

from typing import get_args

from llm_fanout.errors import ERROR_OF_KIND, Kind, Stopped
from llm_fanout.llm.relayed import INSTEAD


def test_failures_without_an_answer_have_a_status() -> None:
    """Of all kinds that a provider is at fault for; what else there may be is ours."""
    ours = {"exception", "schema", "length", "refusal", "filtered", "invalid", "auth", "credit", "empty"}
    stopped = {kind for kind, error in ERROR_OF_KIND.items() if error is Stopped}

    assert set(get_args(Kind)) - stopped - ours == INSTEAD.keys()
