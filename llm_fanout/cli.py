"""The command line: `llm-fanout demo`, `run` and `sim`. It only gathers arguments, calls the library, and prints."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from enum import StrEnum
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import ConfigError, RunFailed
from .loops import new_event_loop

if TYPE_CHECKING:
    from .llm.endpoint import Endpoint
    from .llm.prompt import Prompt
    from .results import Report
    from .rows import RowReader
    from .run import Run
    from .summary import Summary

LONGEST_LINE = 64 * 2**20  # bytes of one row on standard input
OK, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    help="Hand it any number of LLM calls and one quota.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show local variables, and with them keys and prompts
)


class OnBadRow(StrEnum):
    """What a bad row does: it ends the command before anything is sent, or is left out."""

    fail = "fail"
    skip = "skip"


@app.command()
def run(  # noqa: PLR0917  # the parameters are the command's options
    prompts: Annotated[
        str,
        typer.Argument(
            metavar="PROMPTS.jsonl", help="A JSON object with 'prompt' or 'messages', or a string, per line; - reads stdin."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Provider and model: openai/gpt-5-mini, anthropic/..., gemini/..., or sim/x to try without a key."
        ),
    ],
    output: Annotated[
        str, typer.Option(help="Where the rows go, in input order: x.jsonl, x.csv or x.parquet; - is standard output.")
    ] = "-",
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server; default OPENAI_BASE_URL.")] = None,
    rpm: Annotated[float | None, typer.Option(help="Requests a minute.")] = None,
    tpm: Annotated[float | None, typer.Option(help="Tokens a minute, input and output together.")] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(help="Calls at once; by default 64 and more as they prove useful.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for one attempt; default 600.")] = None,
    max_retries: Annotated[int | None, typer.Option(help="Tries after transient failures; default 5.")] = None,
    instructions: Annotated[str | None, typer.Option(help="A system message before every prompt.")] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(metavar="<str>", help="A model to ask where the others cannot be had; may be said several times."),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read answers as streams, and report the time to the first token.")
    ] = False,
    sim: Annotated[
        str | None,
        typer.Option(
            help="How the provider in a box is, with a model sim/...: rpm=300,burst=20, 500=0.05,hang=0.02,429=0.05."
        ),
    ] = None,
    on_bad_row: Annotated[OnBadRow, typer.Option(help="What a bad row does.")] = OnBadRow.fail,
) -> None:
    """Ask every prompt of a file and write one row per answer. The key comes from OPENAI_API_KEY, or ANTHROPIC_API_KEY,
    GEMINI_API_KEY, as the model's provider has it.

    Exit code 0: every call succeeded.
    1: some failed; their rows say why.
    2: bad input; nothing was sent (of standard input: nothing after it).
    130: interrupted; what was done is written.
    """
    from .core.stated import Limits
    from .llm.client import fan_out
    from .rows import RowReader

    _check_output(output, prompts)
    options: dict[str, Any] = _given(
        timeout=timeout, max_retries=max_retries, instructions=instructions, fallbacks=fallback, stream=stream or None
    )
    limits = Limits(**_given(rpm=rpm, tpm=tpm, max_concurrency=max_concurrency))
    with ExitStack() as stack:
        endpoint = _endpoint(model, base_url, sim, stack)
        reader = RowReader(skip=on_bad_row is OnBadRow.skip, endpoint=endpoint)
        source, total = _source(prompts, reader, endpoint)
        fan = fan_out(source, model=endpoint, limits=limits, progress=_bar(), **_given(total=total), **options)
        code = _consume(fan)
    written = _write(fan.report, output)
    for fault in reader.faults:
        _say(f"left out: {fault}")
    _say(fan.report, to_stdout=written and output != "-")
    raise typer.Exit(code if written else code or SOME_FAILED)


@app.command()
def demo(
    calls: Annotated[int, typer.Option(min=100, max=1000, help="How many calls of about a second each.")] = 120,
    seed: Annotated[int, typer.Option(help="Another seed, other faults.")] = 1,
) -> None:
    """A hundred calls and more of about a second each, against a quota, with refusals, hangs and errors: no key needed."""
    from .core.stated import Limits
    from .llm.client import fan_out
    from .llm.endpoint import Endpoint
    from .sim import Box, SimConfig

    faults = {"429": 0.04, "500": 0.04, "hang": 0.02}
    config = SimConfig(rpm=600, burst=40, latency=1.0, faults=faults, seed=seed)
    _say(f"{calls} calls to a simulated provider: {config.rpm:g} requests a minute; 4 % refused, 4 % fail, 2 % hang.")
    with Box(config) as box:
        endpoint = Endpoint("sim/demo", base_url=box.url, limits=Limits(rpm=600, burst=30))
        prompts = [f"Say something about the number {number}." for number in range(calls)]
        fan = fan_out(prompts, model=endpoint, timeout=4, progress=_bar())
        code = _consume(fan)
        met = _troubles(box.stats)
    report = fan.report
    _say(report, to_stdout=True)
    _say(met, to_stdout=True)
    if report.successes:
        _say(_comparison(report), to_stdout=True)
    raise typer.Exit(code)


@app.command()
def sim(  # noqa: PLR0917  # the parameters are the command's options
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")] = 8000,
    rpm: Annotated[float | None, typer.Option(help="Requests a minute.")] = None,
    tpm: Annotated[float | None, typer.Option(help="Tokens a minute.")] = None,
    burst: Annotated[float | None, typer.Option(help="Requests that may come at once.")] = None,
    latency: Annotated[float, typer.Option(help="Mean seconds of an answer.")] = 1.0,
    chaos: Annotated[
        str,
        typer.Option(
            help="Shares of faults (--faults lists them), and whatever else SimConfig has: 429=0.05,hang=0.01, rpd=, "
            "itpm=, otpm=, max_in_flight=, window=minute, settle=reserved, hints=retry-after|none|nginx, "
            "headers= the name of a provider (azure, anthropic, groq, gemini, mistral, openrouter, litellm) or none, "
            "outage=10-70+90-95:503."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="The same seed decides the same faults.")] = 0,
    faults: Annotated[bool, typer.Option("--faults", help="List the faults and what they mean, and exit.")] = False,
) -> None:
    """Run the provider in a box: an OpenAI-compatible server whose answers are simulated. Ctrl-C ends it."""
    from .sim import SimConfig, serve

    if faults:
        _say(_listed_faults(), to_stdout=True)
        return
    given = _given(rpm=rpm, tpm=tpm, burst=burst, latency=latency, seed=seed)
    config = SimConfig.parse(",".join([*(f"{name}={value}" for name, value in given.items()), *filter(None, [chaos])]))
    try:
        serve(
            config,
            port,
            lambda url: _say(f"simulated provider at {url}; try --model sim/x --base-url {url}", to_stdout=True),
        )
    except OSError as exc:
        raise ConfigError(f"cannot serve on port {port}: {os.strerror(exc.errno or 0)}; --port 0 picks a free one") from exc


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Hand it any number of LLM calls and one quota."""
    if version:
        _say(version_of("llm-fanout"), to_stdout=True)
        raise typer.Exit(OK)


def main() -> None:
    """The console script."""
    try:
        app()
    except ConfigError as exc:
        _say(f"error: {exc}")
        sys.exit(BAD_INPUT)


def _consume(run: Run[str]) -> int:
    """Wait for `run`, come what may; its report has what was done. The exit code says how it ended."""
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            report = runner.run(_report_of(run))
    except KeyboardInterrupt:
        _say("interrupted; what was done is kept")
        return INTERRUPTED
    except RunFailed as exc:
        _say(f"error: {exc.__cause__ or exc}")
        return BAD_INPUT if isinstance(exc.__cause__, ConfigError) else SOME_FAILED
    return SOME_FAILED if report.failures else OK


async def _report_of(run: Run[str]) -> Report[str]:
    return await run


def _source(path: str, reader: RowReader, endpoint: Endpoint) -> tuple[Iterable[Prompt] | AsyncIterable[Prompt], int | None]:
    """The prompts of a file, after a first pass that checks it, and how many; or those of standard input as they come."""
    from .rows import RowReader

    if path == "-":
        return _from_stdin(reader), None
    total = sum(1 for _ in reader.read_all(_lines_of(path)))
    return RowReader(skip=True, endpoint=endpoint).read_all(_lines_of(path)), total


def _lines_of(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as lines:
            yield from lines
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc


async def _from_stdin(reader: RowReader) -> AsyncIterator[Prompt]:
    """Prompts as their lines arrive; waiting for one blocks nothing else."""
    async for line in _stdin_lines():
        if (prompt := reader.read(line)) is not None:
            yield prompt


async def _stdin_lines() -> AsyncIterator[bytes]:
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or sys.stdin.isatty()):  # a file, /dev/null: never waits, no polling
        for line in sys.stdin.buffer:
            yield line
        return
    stream = asyncio.StreamReader(limit=LONGEST_LINE)
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), sys.stdin)
    with closing(pipe):  # at its end, too: uvloop leaves it open, and cannot be closed itself then
        while line := await stream.readline():
            yield line


def _endpoint(model: str, base_url: str | None, sim: str | None, stack: ExitStack) -> Endpoint:
    from .llm.endpoint import Endpoint

    if sim is None:
        return Endpoint(model, base_url=base_url)
    if base_url is not None or not model.startswith("sim/"):
        raise ConfigError(f"--sim starts the simulated provider: use it with --model sim/..., got {model} {base_url or ''}")
    from .sim import Box, SimConfig

    return Endpoint(model, base_url=stack.enter_context(Box(SimConfig.parse(sim))).url)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _check_output(path: str, prompts: str) -> None:
    """Refuse a place that cannot be written to while nothing has been paid for yet."""
    from .rowfile import RowFile

    if path == "-":
        return
    place = Path(path)
    if place.is_file() and Path(prompts).exists() and place.samefile(prompts):
        raise ConfigError(f"cannot write {path}: the prompts are in it; name another file")
    with RowFile(path):
        pass


def _write(report: Report[str], output: str) -> bool:
    """Write the rows, come what may: if not to the file then to standard output. Whether they are where they should be."""
    from .lines import json_line

    if output != "-":
        try:
            with _undisturbed():
                report.write(output)
            return True
        except (ConfigError, OSError) as exc:
            _say(f"error: {output} is not written: {exc}; the rows are on standard output instead")
    for row in report.to_dicts():
        sys.stdout.write(json_line(row))
    return output == "-"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C is not heard in here: who presses it twice wants to leave, not to lose what is done."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _bar() -> Callable[[Summary], None] | bool:
    from .hooks import hook

    drawn: Callable[[Summary], None] | bool = hook("bar")() if _is_terminal() else False
    return drawn


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def _listed_faults() -> str:
    """A line for each fault of the simulated provider, and how to ask for one."""
    from .sim.faults import FAULTS, MARKS

    return "\n".join(
        [*_columns(FAULTS), "", "A prompt that has such a mark in its text asks for its fate:", *_columns(MARKS)]
    )


def _columns(meanings: Mapping[str, str]) -> list[str]:
    width = max(map(len, meanings))
    return [f"{name:<{width}}  {meaning}" for name, meaning in meanings.items()]


def _troubles(stats: Mapping[str, Any]) -> str:
    """What the simulated provider did to the calls, by its own count; the report shows how little came of it."""
    faults = stats["faults"]
    refused = stats["refused"] + faults.get("429", 0)
    return f"the provider refused {refused}, failed {faults.get('500', 0)} and left {faults.get('hang', 0)} hanging"


def _comparison(report: Report[str]) -> str:
    """What the same calls would have taken one by one, going by the times that their answers took."""
    from .clock import in_words

    alone = sum(result.service_time for result in report.successes)
    elapsed = report.summary.elapsed
    return f"one by one about {in_words(alone)}, here {in_words(elapsed)}: {alone / elapsed:.1f} times as fast"


def _say(what: object, *, to_stdout: bool = False) -> None:
    typer.echo(str(what), err=not to_stdout)
