"""The shape of the house: who may import whom, and what the public face is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import cast

import pytest

import llm_fanout
from llm_fanout.sim import Box, SimConfig

PACKAGE = Path(llm_fanout.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))

ROWS = {
    0: ("errors", "hooks", "results", "rowfiles", "spending", "spread", "summary", "types"),
    1: ("core",),
    2: (
        "budgets",
        "call",
        "clock",
        "engine",
        "executor",
        "feed",
        "flow",
        "gate",
        "graph",
        "hedging",
        "journal",
        "loops",
        "memory",
        "nesting",
        "notes",
        "openings",
        "passage",
        "progress",
        "quotas",
        "rate",
        "run",
        "scope",
        "sharing",
        "shelf",
        "shell",
        "sink",
        "tally",
        "task",
        "till",
        "underway",
        "vigil",
        "warmup",
        "work",
    ),
    3: ("llm", "providers", "transport"),
    4: ("__main__", "acceptance", "cli", "excerpts", "pytest_plugin", "report", "rows", "sim", "testing", "tool"),
}
ROW_OF = {name: row for row, names in ROWS.items() for name in names}
PURE = {"__future__", "collections", "dataclasses", "enum", "heapq", "math", "re", "typing", "weakref"}
FORMATS_MAY_USE = {"anthropic", "base64", "functools", "io", "itertools", "json", "msgspec", "openai", "pydantic", "struct"}
SIM_MAY_USE = {"errors", "core"}  # a server has no business in the client


def imports_of(module: Path) -> Iterator[tuple[str, bool]]:
    """What a module imports when it is imported or used: (name, whether it is ours). Types-only imports do not count."""
    tree = ast.parse((PACKAGE / module).with_suffix(".py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body.clear()
    depth = len(module.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*module.parts[: depth - node.level]]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                yield ".".join([*base, *name.split(".")]), True
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, False
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, False


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_downward(module: Path) -> None:
    """A module imports from lower rows, its own row's modules, or its own package: never from above."""
    top = module.parts[0]
    if top == "__init__":
        return
    above = [name for name, ours in imports_of(module) if ours and ROW_OF[name.split(".")[0]] > ROW_OF[top]]

    assert above == []


@pytest.mark.parametrize("module", [module for module in MODULES if module.parts[0] == "core"], ids=str)
def test_the_core_is_pure(module: Path) -> None:
    """The core imports itself, errors, spreads, and a few modules of the standard library: no clock, asyncio or I/O."""
    foreign = {name.split(".")[0] for name, ours in imports_of(module) if not ours} - PURE
    other = {name.split(".")[0] for name, ours in imports_of(module) if ours} - {"core", "errors", "spread"}

    assert (foreign, other) == (set(), set())


@pytest.mark.parametrize("module", [module for module in MODULES if module.parts[0] == "providers"], ids=str)
def test_the_formats_are_pure(module: Path) -> None:
    """What is written and read is decided without a clock, a loop or a connection; an SDK gives its types, when asked."""
    foreign = {name.split(".")[0] for name, ours in imports_of(module) if not ours} - PURE - FORMATS_MAY_USE
    other = {name.split(".")[0] for name, ours in imports_of(module) if ours} - {
        "core",
        "errors",
        "providers",
        "results",
        "spending",
    }

    assert (foreign, other) == (set(), set())


@pytest.mark.parametrize("module", [module for module in MODULES if module.parts[0] == "sim"], ids=str)
def test_the_simulated_provider_knows_nothing_of_the_client(module: Path) -> None:
    """The server is written against the wire's format, so it can be a witness against the client."""
    ours = {name.split(".")[0] for name, ours in imports_of(module) if ours}

    assert ours <= SIM_MAY_USE | {"sim"}


MAY_JUDGE = {Path("llm/reactions"), Path("llm/signals")}
LLM = [module for module in MODULES if module.parts[0] in ("llm", "providers") and module not in MAY_JUDGE]


def is_a_status(node: ast.AST) -> bool:
    """Whether an expression is called a status, or the first of some that are."""
    name = getattr(node, "attr", getattr(node, "id", ""))
    return name in ("status", "status_code") or (isinstance(node, ast.Tuple) and any(map(is_a_status, node.elts)))


def judges_a_status(node: ast.AST) -> bool:
    """Whether it compares a status, matches on it, or looks it up."""
    if isinstance(node, ast.Compare):
        return any(map(is_a_status, [node.left, *node.comparators]))
    if isinstance(node, ast.Match):
        return is_a_status(node.subject)
    if isinstance(node, ast.Subscript):
        return is_a_status(node.slice)
    if isinstance(node, ast.BinOp):
        return is_a_status(node.left) or is_a_status(node.right)
    looks_up = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("get", "pop", "index")
    return looks_up and any(map(is_a_status, node.args))


@pytest.mark.parametrize("module", LLM, ids=str)
def test_one_place_looks_at_a_status(module: Path) -> None:
    """What a status means is the table's to say: elsewhere in the LLM layer it is passed on, and not looked at."""
    tree = ast.parse((PACKAGE / module).with_suffix(".py").read_text())

    assert [ast.unparse(node) for node in ast.walk(tree) if judges_a_status(node)] == []


@pytest.mark.parametrize(
    "code",
    ["200 <= status < 300", "answer.status_code == 429", "status in TABLE", "TABLE[exc.status]", "TABLE.get(status)",
     "status // 100", "(status, kind) == (429, None)", "match status:\n    case 429: pass"],
)  # fmt: skip
def test_a_look_at_a_status_is_noticed(code: str) -> None:
    """The check above would see it, however it is written."""
    assert any(map(judges_a_status, ast.walk(ast.parse(code))))


def test_every_module_has_a_row() -> None:
    """A new module is placed before it is used."""
    assert {module.parts[0] for module in MODULES} - {"__init__"} == set(ROW_OF)


def test_every_public_name_can_be_imported() -> None:
    """`__all__` is what can be had, and each name is at home where the table says."""
    assert [name for name in llm_fanout.__all__ if not hasattr(llm_fanout, name)] == []
    assert set(llm_fanout.__all__) <= set(dir(llm_fanout))
    assert len(llm_fanout.__all__) <= 27


def test_what_type_checkers_see_is_what_can_be_imported() -> None:
    """The names under TYPE_CHECKING are those of `__all__`."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    assert typed - {None} == set(llm_fanout.__all__)


def test_what_a_client_gives_can_be_named() -> None:
    """The classes that users meet without making them are public, too, for annotations."""
    assert {"Report", "Result", "Run", "Scope", "Summary"} <= set(llm_fanout.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    """A name that is not there says so, as with any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = llm_fanout.nothing  # type: ignore[attr-defined]  # the mistake under test


HEAVY = ("openai", "anthropic", "aiohttp", "httpx", "httpx2", "pydantic", "rich", "typer", "genai_prices")


def heavy_after(code: str) -> list[str]:
    """What is heavy and imported in a new process that has done `code`."""
    script = f"import sys, llm_fanout\n{dedent(code)}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return cast("list[str]", ast.literal_eval(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("use", ["llm_fanout.Executor", "import llm_fanout.providers"])
def test_importing_the_package_imports_nothing_heavy(use: str) -> None:
    """`import llm_fanout`, an executor, and the formats need no SDK, no HTTP library, no pydantic and no rich."""
    assert heavy_after(use) == []


def test_a_run_that_wants_text_imports_nothing_but_the_wire() -> None:
    """Whoever answers: text, failures, tokens and times are read without the SDKs and pydantic. A cost is not asked for,
    which the price list would have to be imported for."""
    with Box(SimConfig(latency=0.01, jitter=0)) as box:
        heavy = heavy_after(f"""
            import asyncio

            async def consume(run):
                return await run

            prompts = ["[[answer:x]]", "[[faults:500,ok]] [[answer:x]]", "[[fault:400]]", "[[fault:malformed]]"]
            for model, api, options in [
                ("openai/gpt-5-mini", "chat", {{}}),
                ("openai/gpt-5-mini", "chat", {{"stream": True, "instructions": "Be brief."}}),
                ("openai/gpt-5-mini", "responses", {{"progress": lambda summary: repr(summary.eta)}}),
                ("anthropic/claude-haiku-4-5", "chat", {{}}),
                ("gemini/gemini-2.5-flash", "chat", {{}}),
            ]:
                endpoint = llm_fanout.Endpoint(model, base_url={box.url!r}, api_key="k", api=api)
                run = llm_fanout.fan_out(prompts, model=endpoint, max_retries=1, **options)
                report = asyncio.run(consume(run))
                assert repr(run).startswith("<Run: 4 calls in "), repr(report)
                assert [result.text for result in report][:2] == ["x", "x"], report
                assert len(report.failures) == 2 and report.summary.usage.output_tokens and report.quantile(0.5), report
        """)

    assert heavy == ["aiohttp"]


def test_a_report_without_prices_is_printed_without_the_price_list() -> None:
    """Nobody has a price for simulated answers: rows, text and cell need nothing that their run did not."""
    heavy = heavy_after("""
        report = llm_fanout.fan_out_sync(["[[latency:0]]"], model="sim/x")
        report.to_dicts(), str(report), report._repr_html_()
    """)

    assert heavy == ["aiohttp"]
