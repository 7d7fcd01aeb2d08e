"""How reports look."""

from __future__ import annotations

import io
import re
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from llm_fanout import BadReply, Rejected, Report, Result, Stopped, Summary, Unavailable, Usage
from llm_fanout.report.bar import _says, bar
from llm_fanout.spending import NO_USAGE, Spending
from llm_fanout.tally import Tally
from llm_fanout.types import Estimate

NASTY = "evil \x1b[31m<script>alert(1)</script>\r\n\x07"


def whole() -> Report[Any]:
    results: list[Result[Any]] = [
        Result(index=0, id="a", returned="<b>bold</b>", latency=2.0, service_time=1.5, queue_time=0.5),
        Result(index=1, id="b", error=Rejected(NASTY, kind="invalid")),
        Result(index=2, id="c", error=BadReply("nothing in it", kind="empty")),
        *(Result(index=index, id=index, returned="x") for index in range(3, 9)),
    ]
    spending = [
        Spending("openai/gpt-4o-mini", 0, 1, Usage(1_000, 500, cached_tokens=100)),
        Spending("sim/x", 0, 6, Usage(1, 1)),
    ]
    summary = Summary(
        total=9, done=9, succeeded=7, failed=2, attempts=12, elapsed=3.0, spending=spending,
        errors={"invalid": 1, "empty": 1}, binding="requests",
    )  # fmt: skip
    return Report(results, summary)


def test_text_has_the_facts() -> None:
    """Counts, tokens, cost, what was waited for, percentiles, and each kind of error with an example."""
    text = str(whole())

    assert text.startswith("9 calls in 3 s: 7 succeeded, 2 failed\n")
    assert re.search(r"attempts +12\n", text)
    assert re.search(r"tokens +1,001 in \(100 cached\), 501 out\n", text)
    assert re.search(r"cost +\$0\.000\d; that of 6 answers is not known\n", text)
    assert re.search(r"waited for +the requests a minute \(rpm\)\n", text)
    assert re.search(r"latency +0 ms +800 ms +1\.88 s +2 s\n", text)
    assert re.search(r"empty +1 call, id c: nothing in it$", text)


def test_what_was_not_done_is_no_failure() -> None:
    """Calls that were cancelled, or never started, are told apart from those that failed: in the headline and the bar."""
    stopped = Summary(
        total=50, done=50, succeeded=12, failed=38, errors={"not_attempted": 30, "cancelled": 2, "deadline": 1, "timeout": 5}
    )
    only = Summary(total=3, done=3, failed=3, errors={"cancelled": 3})

    assert stopped.not_done == 33
    assert str(stopped).startswith("50 calls in 0 ms: 12 succeeded, 5 failed, 33 not done\n")
    assert str(only).startswith("3 calls in 0 ms: 0 succeeded, 0 failed, 3 not done\n")
    assert _says(stopped) == ["0 in flight", "5 failed", "33 not done"]
    assert _says(only) == ["0 in flight", "3 not done"]


def test_the_sdk_is_named_where_it_carried_calls() -> None:
    """In text and in a cell; that our own wire carried all of them needs no words."""

    def carried_by(*carriers: Any) -> str:
        results = [Result[str](index=index, id=index, returned="x", via=via) for index, via in enumerate(carriers)]
        report = Report(results, Summary(total=len(carriers), done=len(carriers), succeeded=len(carriers)))
        said = re.search(r"carried by +(.+)\n", str(report))
        assert (said is None) == ("carried by" not in report._repr_html_())
        return "" if said is None else said[1]

    assert carried_by("sdk", "sdk") == "the SDK"
    assert carried_by("wire", "sdk", "", "sdk") == "the SDK 2, the wire 1"
    assert carried_by("wire", "wire", "function", "") == ""


def test_calls_that_were_not_made_are_counted() -> None:
    """How many an earlier run has answered, and how many an identical call; nothing is said where there are none."""
    results: list[Result[Any]] = [Result(index=index, id=index, returned="x", source="shared") for index in range(3)]
    report = Report(results, Summary(total=13, done=13, succeeded=13, replayed=10))

    assert re.search(r"replayed +10 calls, which an earlier run has answered\n", str(report))
    assert re.search(r"shared +3 calls, answered with an identical one\n", str(report))
    assert "replayed" not in str(whole())
    assert "shared" not in str(whole())


def test_one_call_is_one_call() -> None:
    """And two are calls."""
    assert str(Summary(total=1, done=1)).startswith("1 call in ")
    assert str(Summary(total=2, done=2)).startswith("2 calls in ")
    assert str(Summary(total=2, done=1)).startswith("1 of 2 calls in ")
    assert re.search(r"timeout +2 calls$", str(Summary(done=2, failed=2, errors={"timeout": 2})))


def test_the_first_of_many_errors_is_called_so() -> None:
    """Where a kind came more than once, the example says that it is the first of them."""
    errors = [Result[Any](index=index, id=index, error=Unavailable("slow", kind="timeout")) for index in (625, 700)]
    whole = Report(errors, Summary(total=2, done=2, failed=2, errors={"timeout": 2}))

    assert re.search(r"timeout +2 calls, first id 625: slow$", str(whole))


def test_where_nothing_was_tried_nothing_is_said_of_it() -> None:
    """An empty run, or one that was stopped before its first start: no attempts, and no talk of waiting for answers."""
    assert str(Summary(total=0)) == "0 calls in 0 ms: 0 succeeded, 0 failed"
    assert str(Summary(total=0, elapsed=0.1)) == "0 calls in 100 ms: 0 succeeded, 0 failed"
    assert "waited" not in str(Summary(total=1, attempts=1))
    assert re.search(r"waited for +nothing but the answers", str(Summary(total=1, attempts=1, elapsed=1.0)))
    assert re.search(r"waited for +the provider, which was down$", str(Summary(total=1, binding="outage")))


def test_a_report_says_the_same_everywhere_in_the_middle_of_a_run() -> None:
    """The text, the cell and the one line of a debugger: 40 of 200 are done."""
    some = Report([Result[Any](index=index, id=index) for index in range(40)], Summary(total=200, done=40, succeeded=40))

    assert repr(some) == "<Report: 40 of 200 calls done, 40 succeeded>"
    assert str(some).startswith("40 of 200 calls in ")
    assert "<b>40 of 200 calls in " in some._repr_html_()


def test_what_is_cut_says_so() -> None:
    """A long message ends in dots in a terminal, a long answer in a cell."""
    results = [
        Result(index=0, id=0, error=Rejected("m" * 500, kind="invalid")),
        Result(index=1, id=1, returned="a" * 500),
    ]
    whole = Report[Any](results, Summary(done=2, errors={"invalid": 1}))

    assert re.search(r"m{50,}\.\.\.$", str(whole))
    assert "aaa...</td>" in whole._repr_html_()


def test_a_cell_shows_answers_on_one_line_without_tricks() -> None:
    """What turns the direction of writing around, or breaks a line, is blank."""
    whole = Report[Any]([Result(index=0, id="\u202eid", returned="one\ntwo\u202e")], Summary(done=1))

    assert ">one two <" in whole._repr_html_()
    assert "\u202e" not in whole._repr_html_()


def test_text_cannot_drive_a_terminal() -> None:
    """What came from outside has no control characters left."""
    text = str(whole())

    assert [character for character in text if not character.isprintable() and character != "\n"] == []


def test_a_summary_prints_without_results() -> None:
    """A live or iterated run has numbers only; how it was stopped is told."""
    text = str(Summary(total=10, done=4, succeeded=4, stopped=Stopped("the run was cancelled", kind="cancelled")))

    assert text.startswith("4 of 10 calls in 0 ms: 4 succeeded, 0 failed; stopped: the run was cancelled")
    assert "latency" not in text
    assert "tokens" not in text


def test_a_summary_knows_times_and_examples() -> None:
    """Where no Results are kept, percentiles are told to a per cent, and what the first error of each kind said."""
    tally = Tally()
    tally.begin()
    for index in range(100):
        tally.count(Result(index=index, id=index, returned="x", latency=2.0, service_time=1.0, queue_time=1.0, ttft=0.5))
    tally.count(Result(index=100, id="a", error=Rejected(NASTY, kind="invalid")))
    tally.count(Result(index=101, id="b", error=Rejected("no", kind="invalid")))
    text = str(tally.summary())

    assert re.search(r"latency +2 s +2 s +2 s +2 s\n", text)
    assert re.search(r"first token +500 ms", text)
    assert re.search(r"invalid +2 calls, first id a: evil  \[31m", text)
    assert "\x1b" not in text


def test_unpriced_answers_have_no_cost() -> None:
    """Where no price is known the cost is not said to be zero."""
    text = str(Summary(done=1, succeeded=1, spending=[Spending("sim/x", 0, 1, Usage(1, 1))]))

    assert "$" not in text
    assert re.search(r"cost +not known", text)


def test_html_escapes_everything() -> None:
    """Ids, answers and messages come out as text; a few answers are shown, the rest counted."""
    html = whole()._repr_html_()

    assert "<script>" not in html
    assert "<b>bold" not in html
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert "and 4 more" in html
    assert html.count("<table ") == html.count("</table>") == 4


def test_html_of_a_small_report_and_of_a_summary() -> None:
    """Nothing is said of what is not there."""
    small = Report([Result(index=0, id=0, returned="x")], Summary(done=1, succeeded=1))

    assert "more" not in small._repr_html_()
    assert "[1, 2]</td>" in Report([Result(index=0, id=0, returned=[1, 2])], Summary(done=1))._repr_html_()
    assert "failed</th>" not in small._repr_html_()
    assert "first</th>" not in Summary(done=1, errors={"timeout": 1})._repr_html_()
    assert Summary()._repr_html_().count("<table ") == 0
    assert Summary(attempts=1)._repr_html_().count("<table ") == 1


def looked_up() -> None:
    """Return when the bar knows the prices."""
    for thread in threading.enumerate():
        if thread.name == "llm_fanout.prices":
            thread.join()


def test_the_bar_shows_where_things_stand() -> None:
    """Done, total, in flight, failed, cost and time left; it is taken down at the end."""
    screen = io.StringIO()
    draw = bar(Console(file=screen, force_terminal=True, width=120))
    spending = [Spending("openai/gpt-4o-mini", 0, 1, Usage(10**6, 10**6))]

    draw(Summary(total=10, done=2, failed=1, in_flight=5, eta=4.4, spending=spending))
    looked_up()
    draw(Summary(total=10, done=3, failed=1, in_flight=5, eta=4.2, spending=spending))
    draw(Summary(total=10, done=10))

    shown = screen.getvalue()
    assert "3/10" in shown or "10/10" in shown
    assert "5 in flight, 4.2 s left" in shown
    assert "1 failed" in shown
    assert "$0.75" in shown
    assert "10/10" in shown


def test_a_cell_has_one_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook it is a line of HTML, shown once and then updated in place: no widgets, nothing to install."""
    shown: list[Any] = []
    moved: list[Any] = []

    def display(what: Any, *, display_id: bool) -> Any:
        shown.append(what.data)
        return SimpleNamespace(update=lambda what: moved.append(what.data))

    monkeypatch.setattr("IPython.display.display", display)
    draw = bar(Console(force_jupyter=True))

    draw(Summary(in_flight=2))
    draw(Summary(total=10, done=3, failed=1, in_flight=5, eta=4.2))
    draw(Summary(total=10, done=10, failed=1, elapsed=3.0))

    assert shown == ["<progress></progress> 0, 0 ms, 2 in flight"]
    assert moved == [
        '<progress max="10" value="3"></progress> 3/10, 0 ms, 5 in flight, 4.2 s left, 1 failed',
        '<progress max="10" value="10"></progress> 10/10, 3 s, 0 in flight, 1 failed',
    ]


def test_the_bar_does_not_wait_for_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws in the event loop of the calls, and the price list takes a second to import: the cost of a model that is new
    is looked up in another thread, and shown when it is there."""
    screen = io.StringIO()
    draw = bar(Console(file=screen, force_terminal=True, width=120))
    imported = threading.Event()
    looking: set[str] = set()

    def rates(model: str, size: int) -> tuple[float, float, float]:
        looking.add(threading.current_thread().name)
        assert imported.wait(30)
        return 1.0, 1.0, 1.0

    monkeypatch.setattr("llm_fanout.spending.hook", lambda name: rates)
    spending = [Spending("openai/a", 0, 1, NO_USAGE), Spending("openai/b", 0, 1, Usage(3, 4))]

    draw(Summary(total=10, done=1, spending=spending[:1]))
    draw(Summary(total=10, done=2, spending=spending))
    draw(Summary(total=10, done=3, spending=spending))
    before = screen.getvalue()
    looked_in = set(looking)
    imported.set()
    looked_up()
    draw(Summary(total=10, done=10, spending=spending))

    assert "$" not in before
    assert looked_in <= {"llm_fanout.prices"}
    assert "$7.00" in screen.getvalue()


def test_the_bar_ends_once() -> None:
    """A run says its last numbers when its last call is done, and when it has ended: they are drawn once."""
    screen = io.StringIO()
    draw = bar(Console(file=screen, force_terminal=True, width=120))

    draw(Summary(total=10, done=10))
    ended = screen.getvalue()
    draw(Summary(total=10, done=10))

    assert screen.getvalue() == ended


def test_the_bar_goes_on_if_more_comes() -> None:
    """A total that was too low does not end it."""
    screen = io.StringIO()
    draw = bar(Console(file=screen, force_terminal=True, width=120))

    draw(Summary(total=10, done=10))
    draw(Summary(total=20, done=15))
    draw(Summary(total=20, done=20))

    assert "15/20" in screen.getvalue()
    assert "20/20" in screen.getvalue()


def test_the_bar_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is for rows and reports."""
    bar()(Summary(total=1, done=1))

    assert capsys.readouterr().out == ""


def test_an_estimate_says_what_would_be() -> None:
    """Calls and the earliest finish, tokens, the range of the cost, and what would be waited for."""
    estimate = Estimate(
        calls=1_000, input_tokens=12_345, output_tokens=500_000, cost=(1.25, 20.5), earliest_finish=1_000.0, binding="tokens"
    )

    text = str(estimate)

    assert text.startswith("1,000 calls: done in 16 min 40 s at the earliest\n")
    assert re.search(r"tokens +about 12,345 in, 500,000 out\n", text)
    assert re.search(r"cost +about \$1\.2500, at most \$20\.5000\n", text)
    assert re.search(r"waits for +the tokens a minute \(tpm\)$", text)
    assert "<b>1,000 calls: done in 16 min 40 s at the earliest</b>" in estimate._repr_html_()


def test_an_estimate_says_what_it_does_not_know() -> None:
    """Prices that nobody knows; and prompts that would fail unsent."""
    estimate = Estimate(
        calls=3, refused=2, input_tokens=1, output_tokens=1, cost=None, earliest_finish=0.5, binding="provider"
    )

    assert str(estimate).startswith("3 calls, 2 of them refused: done in 500 ms at the earliest\n")
    assert re.search(r"cost +not known.*Endpoint\(price=\)", str(estimate))
