"""What tests share: virtual time, and loops that must be left clean."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import count
from typing import Any, TypeVar

import looptime
import pytest
from hypothesis import settings
from support import FakeProvider, Simulate

from llm_fanout import FanOut, Limits, clock
from llm_fanout.llm.wire import AiohttpWire

T = TypeVar("T")


# On Python 3.11 the asyncio plugin of pytest asks for the main thread's loop, which makes one that nobody closes.
MAIN_LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(MAIN_LOOP)


def pytest_unconfigure() -> None:
    """Close the main thread's loop."""
    MAIN_LOOP.close()


# A shared machine stalls now and then: no deadlines. The default number of examples; the same ones in every run.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many histories the simulations run, or which one alone."""
    parser.addoption("--seeds", type=int, default=None, help="simulate the first so many seeds")
    parser.addoption("--seed", type=int, default=None, help="simulate this seed alone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Deal the seeds out to a simulation in chunks, as its module's SEEDS and CHUNK say."""
    if "seeds" in metafunc.fixturenames:
        metafunc.parametrize("seeds", _chunks(metafunc.config, metafunc.module), ids=lambda chunk: f"from_{chunk.start}")


def _chunks(config: pytest.Config, module: Any) -> list[range]:
    alone = config.getoption("seed")
    if alone is not None:
        return [range(alone, alone + 1)]
    number = config.getoption("seeds") or module.SEEDS
    return [range(first, min(first + module.CHUNK, number)) for first in range(0, number, module.CHUNK)]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Simulate[Any]:
    """Runs an async function on a loop whose time passes at once: sleeps cost nothing, and are exact."""

    def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        loop = looptime.new_event_loop(start=1_000.0)
        monkeypatch.setattr(clock, "now", loop.time)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main())

    return run


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """A provider that answers in virtual time: whatever a client asks goes there."""
    provider = FakeProvider()
    monkeypatch.setattr("llm_fanout.llm.routes.lanes.WireLane", lambda wire, place, form: provider)
    return provider


@pytest.fixture
async def wire() -> AsyncIterator[AiohttpWire]:
    """A wire that is closed at the end."""
    wire = AiohttpWire()
    yield wire
    await wire.aclose()


@pytest.fixture(params=["uvloop", "asyncio"])
def our_loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the loops come from that are ours to make; a test with this runs with uvloop, and as where it is missing."""
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)  # importing it raises ImportError
    return str(request.param)


NUMBERS = count()


@pytest.fixture
def fan_of(provider: FakeProvider) -> Callable[..., FanOut]:
    """Makes clients of `provider`, all on one account that is new for each test."""
    key = f"key-of-test-{next(NUMBERS)}"

    def make(limits: Limits | None = None, **options: Any) -> FanOut:
        url = "http://127.0.0.1:1/v1"
        return FanOut("openai/fake", base_url=url, api_key=key, limits=limits or Limits(), **options)

    return make


@pytest.fixture(autouse=True)
def _collected() -> Any:
    """What a test forgets to close is found in that test, not in a later one."""
    yield
    gc.collect(1)  # the young generations: what a test has made
