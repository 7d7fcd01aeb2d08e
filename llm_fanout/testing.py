"""For people who test their own agents, a provider in a box for each test; for those who write a provider, `check_provider`.

    # conftest.py
    pytest_plugins = ["llm_fanout.testing"]

    # test_agent.py
    import pytest
    from llm_fanout import Endpoint, fan_out_sync

    @pytest.mark.box(rpm=6_000, faults={"429-retry-after-ms": 0.2})
    def test_every_question_is_answered(box):
        prompts = [*(f"Question {number}" for number in range(20)), "[[faults:500,503,ok]] Question 20"]
        report = fan_out_sync(prompts, model=Endpoint("sim/any", base_url=box.url))

        assert not report.failures
        assert box.stats["answered"] == 21

The fixture `box` is a started `llm_fanout.sim.Box`, which answers within milliseconds; your agent needs its `url`, and any
key. The marker `box` takes what `SimConfig` takes, and the one nearest to the test has the last word. A prompt may ask for
its own fate: with "[[faults:500,503,ok]]" in its text two tries fail, and the third is answered; `llm-fanout sim --faults`
lists what there is.

(PYTEST_DONT_REWRITE: without this word pytest warns where a conftest.py has imported the module before.)
"""

from __future__ import annotations

from .acceptance import check_provider

__all__ = ["check_provider", "pytest_plugins"]

pytest_plugins = ("llm_fanout.pytest_plugin",)  # a module of its own, so that this one needs no pytest
