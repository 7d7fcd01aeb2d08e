"""The box as a thing that starts and stops."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen

import pytest
from support import post_chat

from llm_fanout import ConfigError
from llm_fanout.sim import Box, SimConfig, embedded, serve
from llm_fanout.sim import box as module

QUICK = SimConfig(latency=0, jitter=0)

Answer = tuple[int, dict[str, str], bytes]


def under_way(pool: ThreadPoolExecutor, box: Box, text: str) -> Future[Answer]:
    """A call that the box has seen and not answered."""
    before = box.stats["requests"]
    call = pool.submit(post_chat, box.url, text)
    while box.stats["requests"] == before:  # the other thread's count is all there is to look at
        pass
    return call


def test_a_box_that_is_not_started_has_no_url() -> None:
    """Asking too early says what to do."""
    for ask in (lambda box: box.url, lambda box: box.stats, lambda box: box.fail()):
        with pytest.raises(ConfigError, match="not started"):
            ask(Box())


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


def test_a_failed_box_refuses_connections_until_it_recovers() -> None:
    """While it is down nobody connects; afterwards the same port serves, and nothing is forgotten."""
    with Box(SimConfig(rpm=60, burst=5, latency=0)) as box:
        url, first = box.url, post_chat(box.url, "a")
        box.fail()
        with pytest.raises(ConnectionRefusedError):
            post_chat(url, "b")
        box.recover()
        second = post_chat(url, "c")
        stats = box.stats

    assert (first[0], second[0]) == (200, 200)
    assert second[1]["x-ratelimit-remaining-requests"] == "3"
    assert (stats["requests"], stats["answered"], len(stats["outages"])) == (2, 2, 1)


def test_a_failing_box_cuts_the_calls_under_way() -> None:
    """They end without an answer, and are counted as cut off, not as clients that hung up; their places are free again."""
    with ThreadPoolExecutor() as pool, Box(SimConfig(latency=600, max_in_flight=2)) as box:
        calls = [under_way(pool, box, text) for text in ("a", "b")]
        box.fail()
        errors = [call.exception() for call in calls]
        box.recover()
        box.retune(latency=0)
        afterwards = post_chat(box.url, "again")[0]
        stats = box.stats

    assert all(isinstance(error, OSError) for error in errors)
    assert afterwards == 200
    assert (stats["cut_off"], stats["disconnected"], stats["refused"]) == (2, 0, 0)


def test_a_box_may_fail_with_503() -> None:
    """The port stays open, every request is told, nothing is charged, and what was under way is answered."""
    with ThreadPoolExecutor() as pool, Box(SimConfig(rpm=600, latency=600, jitter=0)) as box:
        call = under_way(pool, box, "[[latency:0.2]]")
        box.fail("503")
        told = post_chat(box.url, "a")[0]
        with pytest.raises(OSError, match="503"):
            urlopen(f"{box.url}/models")
        early = call.result()[0]
        box.recover()
        late = post_chat(box.url, "[[latency:0]]")[0]
        stats = box.stats

    assert (told, early, late) == (503, 200, 200)
    assert (stats["faults"], stats["refused"], stats["admitted"]) == ({"outage": 1}, 0, 2)
    assert stats["outages"][0]["first_answer_after"] >= stats["outages"][0]["end"]


def test_an_outage_may_change_its_kind() -> None:
    """Failing twice is one outage, which goes on as the kind said last; recovering twice does no harm."""
    with Box(QUICK) as box:
        box.fail()
        box.fail()
        box.fail("503")
        told = post_chat(box.url, "a")[0]
        box.recover()
        box.recover()
        afterwards = post_chat(box.url, "a")[0]
        stats = box.stats

    assert (told, afterwards, len(stats["outages"])) == (503, 200, 1)


def test_a_box_that_is_down_can_be_stopped() -> None:
    """Its port is free afterwards."""
    with Box(QUICK) as box:
        port = int(box.url.split(":")[2].split("/")[0])
        box.fail()

    with Box(QUICK, port=port) as again:
        assert post_chat(again.url, "a")[0] == 200


@pytest.mark.parametrize(
    ("limits", "lifted"), [({"rpm": 60, "burst": 1}, {"rpm": 6_000_000}), ({"tpm": 1_000}, {"tpm": None})]
)
def test_capacity_changes_while_it_runs(limits: dict[str, float], lifted: Any) -> None:
    """What was refused passes when there is more; what is left out of `retune` stays."""
    with Box(SimConfig(latency=0, **limits)) as box:  # type: ignore[arg-type]  # figures by their names
        statuses = [post_chat(box.url, "a", max_tokens=150)[0] for _ in range(2)]
        box.retune(**lifted)
        statuses.append(post_chat(box.url, "a", max_tokens=150)[0])

    assert statuses == [200, 429, 200]
    assert box.config == SimConfig(latency=0, **{**limits, **lifted})


def test_places_and_latency_change_while_it_runs() -> None:
    """A higher cap lets the next one in, and a new latency is that of the next call."""
    with ThreadPoolExecutor() as pool, Box(SimConfig(latency=600, jitter=0, max_in_flight=1)) as box:
        call = under_way(pool, box, "a")
        refused = post_chat(box.url, "b")
        box.retune(max_in_flight=2, latency=0)
        admitted = post_chat(box.url, "b")
        still = box.stats["in_flight"]
        box.fail()
        call.exception()

    assert (refused[0], admitted[0], still) == (429, 200, 1)
    assert b"max_parallel_requests" in refused[2]


def test_a_change_that_cannot_be_is_refused() -> None:
    """The caller hears of it, and everything stays as it was."""
    with Box(SimConfig(rpm=60)) as box, pytest.raises(ConfigError, match="rpm"):
        box.retune(rpm=-1)

    assert box.config == SimConfig(rpm=60)
