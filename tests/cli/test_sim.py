"""`llm-fanout sim`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from commands import invoke, main

from llm_fanout.sim import Box, SimConfig
from llm_fanout.sim.faults import FAULTS


def test_sim_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sim` says where it is, and what it was told reaches it."""
    served: list[Any] = []

    def serve(config: SimConfig, port: int, on_ready: Callable[[str], object]) -> None:
        on_ready("http://127.0.0.1:1/v1")
        served.append((config, port))

    monkeypatch.setattr("llm_fanout.sim.serve", serve)

    chaos = "429=0.05,hang=0.01,headers=groq,outage=10-70:503"
    result = invoke("sim", "--port", "0", "--rpm", "500", "--tpm", "50000", "--chaos", chaos, "--latency", "0.5")

    faults = {"429": 0.05, "hang": 0.01}
    expected = SimConfig(rpm=500, tpm=50_000, latency=0.5, headers="groq", outage="10-70:503", faults=faults)
    assert "http://127.0.0.1:1/v1" in result.stdout
    assert served == [(expected, 0)]


def test_sim_lists_its_faults() -> None:
    """`sim --faults` names each, with its meaning, and the marks of prompts; it serves nothing."""
    listed = invoke("sim", "--faults")

    lines = listed.stdout.splitlines()
    assert listed.exit_code == 0
    assert {line.split()[0] for line in lines if line} >= {*FAULTS, "[[fault:500]]"}
    assert next(line for line in lines if line.startswith("429-date ")).endswith("a rate limit that names a date")


def test_a_port_that_is_taken_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`sim` names the port, and the option that finds a free one; exit code 2."""
    with Box() as box:
        port = box.url.split(":")[2].split("/")[0]
        code = main(monkeypatch, "sim", "--port", port)

    assert code == 2
    assert capsys.readouterr().err.startswith(f"error: cannot serve on port {port}: ")
