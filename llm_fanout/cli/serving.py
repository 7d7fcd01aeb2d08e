"""The Model Context Protocol: one tool, offered to one client over standard input and output."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import redirect_stdout
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import anyio
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool, ToolAnnotations

from ..rowfiles.lines import json_text
from ..scope import SCOPE
from ..tool import ABOUT, NAME

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.session import ServerSession
    from mcp.types import CallToolRequestParams, PaginatedRequestParams

    from ..excerpts import Entry
    from ..scope import Scope
    from ..summary import Summary
    from ..tool import FanOutTool

T = TypeVar("T")

TEXT: Mapping[str, object] = {"type": "string"}
NUMBER: Mapping[str, object] = {"type": "integer"}
ENTRY: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "index": NUMBER,
        "answer": TEXT,
        "from": NUMBER,
        "characters": NUMBER,
        "rest": TEXT,
        "incomplete": TEXT,
        "error": TEXT,
        "why": TEXT,
    },
    "required": ["index"],
}
REPORT: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "answered": NUMBER,
        "failed": NUMBER,
        "tokens": NUMBER,
        "cost_usd": {"type": "number"},
        "left": {"type": "object", "properties": {"usd": {"type": "number"}, "tokens": NUMBER}},
        "note": TEXT,
        "results": {"type": "array", "items": ENTRY},
    },
    "required": ["answered", "failed", "results"],
}


async def serve(tool: FanOutTool, scope: Scope) -> None:
    """Offer `tool` on standard input and output until nothing more comes in; what is under way then is cancelled. Whatever
    else is printed meanwhile goes to standard error.

    Args:
        tool: What is offered.
        scope: Where its calls belong.
    """
    server = server_of(tool, scope)
    try:
        async with stdio_server(stdin=cast("anyio.AsyncFile[str]", _Lines(_stdin()))) as (reading, writing):
            with redirect_stdout(sys.stderr):  # the SDK diverts the file, too, but not what Python holds back until the end
                await server.run(reading, writing, server.create_initialization_options())
    except* BrokenPipeError:
        pass  # the client has gone, though our input is open still: nobody hears us


def server_of(tool: FanOutTool, scope: Scope) -> Server[Any]:
    """A server whose only tool it is."""

    async def offer(ctx: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[_offered(tool)])

    async def call(ctx: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        SCOPE.set(scope)  # the context is that of whoever has sent the message
        report = await _apart(_answered(tool, params, _Teller(ctx.session)))
        is_error = "error" in report
        return CallToolResult(
            content=[TextContent(type="text", text=json_text(report))],
            structured_content=None if is_error else report,
            is_error=is_error,
        )

    return Server("llm-fanout", version=version("llm-fanout"), on_list_tools=offer, on_call_tool=call)


async def _answered(tool: FanOutTool, params: CallToolRequestParams, teller: _Teller) -> Entry:
    arguments = params.arguments or {}
    if params.name != NAME:
        return {"error": f"there is no tool {params.name!r}; the only one is {NAME!r}"}
    if unknown := sorted(set(arguments) - set(tool.arguments)):
        return {"error": f"there is no argument {unknown[0]!r}; those of {NAME} are {', '.join(tool.arguments)}"}
    report = await tool.answer(**{"prompts": [], **arguments}, progress=teller.hear)
    await teller.done()
    return report


def _offered(tool: FanOutTool) -> Tool:
    return Tool(
        name=NAME,
        title="Ask many prompts at once",
        description=ABOUT,
        input_schema=_arguments_of(tool),
        output_schema=dict(REPORT),
        annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=True),  # it costs money
    )


def _arguments_of(tool: FanOutTool) -> dict[str, Any]:
    """The JSON schema of its arguments."""
    fields = {name: {**TEXT, "description": said, "default": ""} for name, said in tool.arguments.items()}
    fields["prompts"] = {
        "type": "array",
        "items": TEXT,
        "maxItems": tool.most_prompts,
        "description": tool.arguments["prompts"],
    }
    return {"type": "object", "properties": fields, "required": ["prompts"], "additionalProperties": False}


async def _apart(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, done as a task of its own. Cancelled, it is waited for: the protocol's SDK cancels what it runs at
    each step once more, until it has ended, and no clean-up could be awaited there."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        raise


class _Teller:
    """Tells the client how far its call is, if it has asked to be told: no faster than it can hear it."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session
        self._told = 0
        self._telling: asyncio.Task[None] | None = None

    def hear(self, summary: Summary) -> None:
        """Tell what is new, unless something is being told just now."""
        if summary.done <= self._told or not (self._telling is None or self._telling.done()):
            return
        self._told = summary.done
        said = f"{summary.done:,} of {summary.total:,} done"
        self._telling = asyncio.ensure_future(self._session.report_progress(summary.done, summary.total, said))

    async def done(self) -> None:
        """Nothing is told after this."""
        if self._telling is not None:
            await self._telling


class _Lines:
    """Lines of a file, read by a thread that nobody has to wait for: a read cannot be interrupted, and a command that was
    told to end must not wait for one more line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def __aiter__(self) -> AsyncIterator[str]:
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop, lines), name="llm_fanout-stdin", daemon=True).start()
        while line := await lines.get():
            yield line.decode(errors="replace")

    def _read(self, loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[bytes]) -> None:
        line = b"-"
        while line:
            line = self._file.readline()
            try:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            except RuntimeError:
                return  # the loop is closed: nobody listens


def _stdin() -> BinaryIO:
    """Standard input for bytes. Our own: at the end of the process Python takes the lock of its own, in which a thread may
    be reading."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except OSError:  # it is no file: somebody calls us from within Python
        return sys.stdin.buffer
