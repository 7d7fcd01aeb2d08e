"""What `llm_fanout.testing` gives to people who test their own agents."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

from llm_fanout import testing

pytest_plugins = ["pytester"]

STRICT = """
    [pytest]
    addopts = --strict-markers -p no:cacheprovider
    filterwarnings = error
    asyncio_default_fixture_loop_scope = function
"""

TEST_OF_A_USER = """
    import pytest

    @pytest.mark.box(rpm=60, seed=7)
    class TestAgent:
        def test_is_quick(self, box):
            assert box.stats["requests"] == 0
            assert (box.config.rpm, box.config.seed, box.config.latency) == (60, 7, 0.01)

        @pytest.mark.box(rpm=30, latency=0.5)
        def test_has_the_last_word(self, box):
            assert (box.config.rpm, box.config.seed, box.config.latency) == (30, 7, 0.5)

    @pytest.mark.box("rpm=60")
    def test_says_it_wrongly(box):
        pass

    @pytest.mark.box(faults={"none such": 1})
    def test_says_nonsense(box):
        pass
"""


def files_of_the_example() -> dict[str, str]:
    """The files that the docstring shows, by name without their ending."""
    blocks = dedent(testing.__doc__.split("\n\n", 1)[1].split("The fixture")[0]).split("# ")
    return {name.removesuffix(".py"): code for name, _, code in (block.partition("\n") for block in blocks if block.strip())}


def test_the_example_runs(pytester: pytest.Pytester) -> None:
    """What the docstring shows is a test suite that passes, also where warnings are errors and markers strict."""
    files = files_of_the_example()
    pytester.makeini(STRICT)
    pytester.makepyfile(**files)

    result = pytester.runpytest_subprocess()

    assert set(files) == {"conftest", "test_agent"}
    result.assert_outcomes(passed=1)


def test_the_markers_say_what_the_box_is_like(pytester: pytest.Pytester) -> None:
    """Fields of all markers hold, the nearest one's first; what SimConfig does not know is an error of the test."""
    pytester.makeini(STRICT)
    pytester.makeconftest('pytest_plugins = ["llm_fanout.testing"]')
    pytester.makepyfile(TEST_OF_A_USER)

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*the marker box takes fields by name, got ('rpm=60',)*", "*knows no 'none such'*"])


def test_the_module_needs_no_pytest() -> None:
    """It can be imported where pytest is not installed."""
    code = "import sys; sys.modules['pytest'] = None; import llm_fanout.testing"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
