"""The box as a thing that starts and stops."""

from __future__ import annotations

import os
import signal
import threading
from urllib.request import urlopen

import pytest

from llm_fanout import ConfigError
from llm_fanout.sim import Box, SimConfig, embedded, serve
from llm_fanout.sim import box as module


def test_a_box_that_is_not_started_has_no_url() -> None:
    """Asking too early says what to do."""
    with pytest.raises(ConfigError, match="not started"):
        _ = Box().url


def test_starting_and_stopping_twice_does_no_harm() -> None:
    """A second start is the first, a second stop is none; no thread is left."""
    box = Box()
    before = set(threading.enumerate())

    urls = {box.start().url, box.start().url}
    serving = set(threading.enumerate()) - before
    box.stop()
    box.stop()

    assert len(urls) == 1
    assert [thread.name for thread in serving] == ["llm_fanout.sim"]
    assert not any(thread.is_alive() for thread in serving)


def test_a_port_that_is_taken_is_an_os_error() -> None:
    """The reason reaches whoever starts the box, who may try again."""
    with Box() as first:
        port = int(first.url.split(":")[2].split("/")[0])
        second = Box(port=port)
        with pytest.raises(OSError, match="address"):
            second.start()

    with pytest.raises(ConfigError):
        _ = second.url


def test_the_embedded_box_is_one_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everyone who asks gets the same box; a process that was forked gets its own."""
    first, second = embedded(), embedded()
    monkeypatch.setattr(module.os, "getpid", lambda: -1)
    child = embedded()
    child.stop()

    assert first is second
    assert child is not first


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_on_a_signal(sign: signal.Signals) -> None:
    """In the foreground it serves until it is told to stop, and ends in good order."""
    seen: list[int] = []

    def look_and_stop(url: str) -> None:
        with urlopen(f"{url}/models") as answer:
            seen.append(answer.status)
        os.kill(os.getpid(), sign)

    serve(SimConfig(latency=0), 0, lambda url: threading.Thread(target=look_and_stop, args=(url,)).start())

    assert seen == [200]


def test_config_is_kept() -> None:
    """A box knows what it was told."""
    config = SimConfig(rpm=5)

    assert Box(config).config is config
    assert Box().config == SimConfig()
