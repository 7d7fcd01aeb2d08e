"""The synchronous twin."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llm_fanout import Endpoint, RunFailed, Summary, fan_out, fan_out_sync
from llm_fanout.llm import background
from llm_fanout.sim import Box, SimConfig


@pytest.fixture(autouse=True)
def thread(our_loops: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[background._LoopThread]:
    """A thread for each test, once with either kind of loop."""
    monkeypatch.setattr(background, "_current", None)
    thread = background._thread()
    yield thread
    thread.stop()
    atexit.unregister(thread.stop)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A quick provider."""
    with Box(SimConfig(latency=0.01, jitter=0)) as box:
        yield Endpoint("sim/sync", base_url=box.url)


def test_the_thread_has_a_loop_of_ours(thread: background._LoopThread, our_loops: str) -> None:
    """uvloop's where that is installed, for code that uses the twin chose no loop; else asyncio's."""

    async def say_where(request: object) -> str:
        return type(asyncio.get_running_loop()).__module__

    report = fan_out_sync(["anything"], model=Endpoint("own/x", provider=say_where))

    assert report.values[0].partition(".")[0] == our_loops


def test_threads_share_it(endpoint: Endpoint) -> None:
    """Any number of threads may wait for runs of their own at once."""
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda name: fan_out_sync([f"[[answer:{name}]]"] * 5, model=endpoint), range(8)))

    assert [report.values for report in reports] == [[str(name)] * 5 for name in range(8)]


def test_ctrl_c_brings_the_report_along(endpoint: Endpoint) -> None:
    """KeyboardInterrupt, when the calls under way have been cleaned up; `.report` has one Result for every prompt."""
    answered = threading.Event()

    def interrupt() -> None:
        answered.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        fan_out_sync(["[[answer:done]]", "[[latency:60]]"], model=endpoint, progress=lambda summary: answered.set())

    report: Any = caught.value.report  # type: ignore[attr-defined]  # what the twin puts there
    assert [result.ok for result in report] == [True, False]
    assert report[0].value == "done"
    assert caught.value.__notes__ == ["1 of 2 calls were done; they are in this exception's .report"]


def test_an_interrupt_says_how_much_was_done() -> None:
    """Of how many where that is known; what was cancelled is not among it."""
    cancelled = Summary(total=2_000, done=2_000, succeeded=450, failed=1_550, errors={"timeout": 8, "not_attempted": 1_542})

    assert background._note_of(cancelled).startswith("458 of 2,000 calls were done; ")
    assert background._note_of(Summary(done=1_001)).startswith("1,001 calls were done; ")


def test_errors_of_the_run_come_through(endpoint: Endpoint) -> None:
    """What breaks the run is raised here as it is with `await`."""

    def source() -> Iterator[str]:
        yield "[[answer:a]]"
        raise OSError("gone")

    with pytest.raises(RunFailed, match="gone") as caught:
        fan_out_sync(source(), model=endpoint)

    assert caught.value.report[0].value == "a"


def test_a_forked_process_gets_its_own_thread(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork copies no threads: the child starts another, and does not stop its parent's."""
    parents = background._thread()

    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        childs = background._thread()
        parents.stop()
        alive = parents._thread.is_alive()
        childs.stop()
    monkeypatch.setattr(background, "_current", parents)

    assert childs is not parents
    assert alive
    assert fan_out_sync(["[[answer:still here]]"], model=endpoint).values == ["still here"]


def test_stopping_cancels_what_still_runs(endpoint: Endpoint) -> None:
    """A thread that is stopped in the middle of a run ends that run in good order."""
    thread = background._LoopThread()
    run = fan_out(["[[latency:60]]"], model=endpoint)
    future = asyncio.run_coroutine_threadsafe(background._report_of(run), thread.loop)
    while not run.summary.in_flight:
        time.sleep(0.005)

    thread.stop()

    assert future.cancelled()
    assert run.report[0].error is not None
    assert thread.loop.is_closed()


def test_the_interpreter_ends_without_a_word(our_loops: str) -> None:
    """A script that used the twin and an open client ends at once, with nothing on standard error."""
    script = "from llm_fanout import fan_out_sync; print(fan_out_sync(['[[answer:x]] [[latency:0]]'], model='sim/x').values)"
    if our_loops == "asyncio":
        script = f"import sys; sys.modules['uvloop'] = None; {script}"

    done = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "['x']\n"
    assert [line for line in done.stderr.splitlines() if "took" not in line] == []
