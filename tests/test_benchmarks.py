"""The benchmarks keep running: their arithmetic, and every caller against the provider in a box. No times are judged."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest

from benchmarks import added, imports, journal, load_server, measured, overhead, streaming
from benchmarks.callers import Caller
from benchmarks.child import play
from benchmarks.contest import Player, compete
from benchmarks.environments import NotInstalled, python_of
from benchmarks.load_server import LoadServer, NoServer, Seen
from benchmarks.measured import Spread, Target
from benchmarks.memory import resident
from benchmarks.roster import ALL, CALLERS, STREAMERS
from benchmarks.scores import Score, costs, reached
from benchmarks.turn import Taken, Turn
from llm_fanout.sim import Box, SimConfig

SCRIPTS = (
    "added",
    "core",
    "executor",
    "imports",
    "journal",
    "lag",
    "latency_100",
    "makespan",
    "memory",
    "overhead",
    "quotas",
    "streaming",
    "transport",
)
# The floor reads nothing but what nginx sends; peers are in environments of their own.
HERE = [name for name, kind in ALL.items() if not kind.packages and name != "floor"]


class LocalServer(LoadServer):
    """A load server that needs no nginx: the box answers, and nothing is counted."""

    def __enter__(self) -> LocalServer:
        self._box = Box(SimConfig(latency=0.0))
        self._box.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._box.__exit__(None, None, None)

    def url(self, latency: float, *, stream: bool = False) -> str:
        return self._box.url

    @property
    def seen(self) -> Seen:
        return Seen(0, 0, 0.0)


def test_a_spread_is_the_middle_and_the_ends() -> None:
    """Of an even number of rounds the median is between the two in the middle; another unit changes all three."""
    spread = Spread.of([4.0, 1.0, 3.0, 2.0]).times(10)

    assert spread == Spread(25.0, 10.0, 40.0)
    assert f"{spread:.1f}" == "25.0 (10.0 to 40.0)"


def test_a_ratio_is_of_one_round() -> None:
    """A round that is slow for both has the ratio of the others."""
    assert measured.ratio([2.0, 20.0, 2.2], [1.0, 10.0, 1.0]) == Spread(2.0, 2.0, 2.2)


@pytest.mark.parametrize(
    ("sign", "must", "verdict"), [("<=", 2.0, ""), ("<=", 1.9, "MISSED"), (">=", 2.0, ""), (">=", 2.1, "MISSED")]
)
def test_a_target_is_reached_or_missed(sign: str, must: float, verdict: str) -> None:
    """The median decides, in the direction that the target has."""
    row = Target("a / b", "a", "b", must, 1.5, sign).row({"a": [2.0, 8.0, 1.0], "b": [1.0, 1.0, 1.0]})

    assert row == ["a / b", "2.00 (1.00 to 8.00)", f"{sign} {must:g}", "1.5", verdict]


def test_what_was_not_measured_is_not_judged() -> None:
    """A target of a caller that was left out has no row, and no row is no table."""
    assert reached([Target("a / b", "a", "b", 1.0)], {"a": [1.0]}) == ""


def test_a_table_is_markdown() -> None:
    """Columns are as wide as their widest cell; the first leans left, the others right."""
    assert measured.table(("name", "us"), [["a", "1.0"]]) == "| name |  us |\n| ---- | --: |\n| a    | 1.0 |"


def test_figures_are_written_with_their_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file says when, how, with what and where; what is printed says so, too."""
    file = tmp_path / "figures.json"
    run = measured.setting("aiohttp")
    measured.write(file, run, scores={"ours": Score(10, [Taken(cpu=1.0, seconds=2.0)])})
    written = json.loads(file.read_text())

    assert written["scores"]["ours"]["taken"] == [{"cpu": 1.0, "seconds": 2.0, "waited": 0.0, "late": 0.0}]
    assert run["versions"].keys() == {"llm-fanout", "aiohttp"}
    assert written["date"] in capsys.readouterr().out


def test_a_server_that_costs_more_is_called_out() -> None:
    """Figures that the server limits are marked; those that it does not are not."""
    assert load_server.share(Seen(1, 1, 0.5), 1.0) == "50%"
    assert "THE SERVER COST MORE" in load_server.share(Seen(1, 1, 1.5), 1.0)


@pytest.mark.parametrize("there", [(), ("nginx",)])
def test_no_nginx_says_what_to_install(there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nginx, or without its echo module, the message names Debian's packages."""
    monkeypatch.setattr(shutil, "which", lambda name, path=None: name if name in there else None)
    monkeypatch.setattr(load_server, "MODULES", ())

    with pytest.raises(NoServer, match="nginx-light libnginx-mod-http-echo"), LoadServer():
        pass


def test_nginx_answers_for_every_latency(tmp_path: Path) -> None:
    """Each latency has an answer and a stream; a core is bound by its mask, and none by none."""
    text = load_server.configuration(tmp_path, 8080, tmp_path / "echo.so", 1)

    assert text.count("/chat/completions {") == 2 * len(load_server.LATENCIES)
    assert "echo_sleep 0.05; echo -n '{" in text
    assert "worker_cpu_affinity 10;" in text
    assert "worker_cpu_affinity" not in load_server.configuration(tmp_path, 8080, tmp_path / "echo.so", None)


@pytest.mark.parametrize("name", HERE)
async def test_every_caller_is_answered(name: str) -> None:
    """Each asks all its prompts, two at once, and reads a text of each; the time and the CPU that it took are there."""
    with Box(SimConfig(latency=0.0)) as box:
        taken = await play(ALL[name], Turn(url=box.url, calls=5, width=2, ticks=name == "aiohttp"))
        asked = box.stats["requests"]

    assert asked == 5
    assert taken.cpu > 0
    assert taken.seconds > 0


async def test_an_unanswered_prompt_is_no_figure() -> None:
    """A caller that loses prompts fails its turn: a figure over fewer calls would flatter it."""

    class Loses(Caller):
        async def ask(self, prompts: list[str]) -> int:
            return len(prompts) - 1

    with pytest.raises(RuntimeError, match="1 of 3 prompts were not answered"):
        await play(Loses, Turn(url="http://127.0.0.1:1", calls=3, width=1))


def test_callers_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    """In processes of their own: one round does not count, who fails is left out and told of, the table has the others."""
    python = python_of((), (3, 11))
    with LocalServer() as server:
        good = Turn(url=server.url(0.0), calls=3, width=2)
        bad = Turn(url="http://127.0.0.1:1/v1", calls=1, width=1)
        with Player("ours", python, None) as ours, Player("aiohttp", python, None) as other:
            scores = compete((ours, other), {"ours": good, "aiohttp": bad}, server, 2)
    table = costs("3 calls", scores, "ours")

    assert scores.keys() == {"ours"}
    assert len(scores["ours"].cpu) == len(scores["ours"].seconds) == 2
    assert "aiohttp is left out: aiohttp ended" in capsys.readouterr().out
    assert "1.00 (1.00 to 1.00)" in table
    assert "2 x 3" in table


def test_a_peer_for_a_newer_python_is_not_installed(tmp_path: Path) -> None:
    """What needs a Python that this is not is left out before anything is downloaded."""
    with pytest.raises(NotInstalled, match=r"needs Python 9\.0"):
        python_of(("peer==1",), (9, 0), tmp_path)


def test_every_width_of_the_overhead_has_its_callers() -> None:
    """Targets and the callers of the widest rounds are in the roster."""
    targets = [target for each in overhead.TARGETS.values() for target in each]

    assert {name for target in targets for name in (target.of, target.to)} | set(overhead.WIDE) <= CALLERS.keys()
    assert {name for target in streaming.TARGETS for name in (target.of, target.to)} <= STREAMERS.keys()


def test_resident_memory_is_bytes() -> None:
    """A Python with this package takes more than 10 MB, and less than 10 GB."""
    assert 10e6 < resident() < 10e9


def test_what_is_added_is_above_the_bare_loop() -> None:
    """Every contender answers all calls, and the table has what each adds."""
    seconds = added.measure(50, 1)

    assert all(len(taken) == 1 for taken in seconds.values())
    assert added.report(seconds).count("\n") == 1 + len(added.CONTENDERS)


def test_what_a_journal_adds(tmp_path: Path) -> None:
    """Both threads, with a journal and without; then all that is in it, from its opening to the last Result."""
    costs = journal.measure(50, 1, tmp_path)
    seconds = journal.reopened(70, 1, tmp_path)

    assert all(cost.loop > 0 < cost.whole for taken in costs.values() for cost in taken)
    assert journal.report(costs, 475.0).count("\n") == 3
    assert 0 < seconds["ready"][0] < seconds["delivered"][0]
    assert journal.report_reopening(seconds, 70).count("\n") == 3


def test_imports_say_what_they_load(tmp_path: Path) -> None:
    """A fresh interpreter tells what a statement took and which heavy packages are there afterwards."""
    found = imports.timed("import llm_fanout, aiohttp", tmp_path)

    assert found["heavy"] == ["aiohttp"]
    assert found["seconds"] > 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_what_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` of each script has its question's first line and its arguments."""
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as exit:
        module.main()

    assert exit.value.code == 0
    assert "--json" in capsys.readouterr().out
