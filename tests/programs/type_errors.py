"""What a type checker must refuse (marked E), and what it must see in the rest (R, with the type)."""

from collections.abc import Sequence
from typing import reveal_type

from httpx2 import Timeout
from pydantic import BaseModel

from llm_fanout import Endpoint, Executor, FanOut, Limits, Prompt, Task, fan_out, fan_out_sync
from llm_fanout.providers import Request


class Inv(BaseModel):
    """What is asked for in the lines of the design."""

    x: int


async def f(fan: FanOut) -> None:
    """The lines of the design, in its words; the rest is below."""
    reveal_type(await fan.map(["a"]))  # R: llm_fanout.results.Report[str]
    reveal_type((await fan.map(["a"], response_format=Inv))[0].value)  # R: type_errors.Inv
    reveal_type(fan_out_sync(["a"], model="m", response_format=Inv))  # R: llm_fanout.results.Report[type_errors.Inv]
    vote = await fan.vote("a", votes=5, response_format=Inv, key=lambda i: i.x)
    reveal_type(vote)  # R: llm_fanout.llm.vote.Vote[type_errors.Inv]
    fan.map(["a"], temprature=0)  # E
    fan.map("one string")  # type-checks (str is Iterable[str]): ConfigError at run time
    fan.map(["a"], n=3)  # E
    fan.map(["a"], response_format=Inv, reuse=await fan.map(["a"]))  # E

    async def a(x: int) -> str:
        return ""

    async def b(x: str, y: str) -> bytes:
        return b""

    async def c(xs: Sequence[str]) -> bytes:
        return b""

    ta = Task(a, 1)
    reveal_type(ta)  # R: llm_fanout.task.Task[str]
    tb = Task(b, ta, "y")
    reveal_type(tb)  # R: llm_fanout.task.Task[bytes]
    tc = Task(c, [ta, ta])
    reveal_type(tc)  # R: llm_fanout.task.Task[bytes]
    bad = Task(b, tb, "y")  # E
    reveal_type(bad)  # R: llm_fanout.task.Task[bytes]
    reveal_type(Executor().run([ta, tb]))  # R: llm_fanout.run.Run[typing.Sequence[object]]
    reveal_type(Executor().map(a, [1, 2]))  # R: llm_fanout.run.Run[str]
    async for r in fan.map(["a"], response_format=Inv):
        reveal_type(r)  # R: llm_fanout.results.Result[type_errors.Inv]
    reveal_type(await fan.reduce(["a"], lambda p: "x", context=5))  # R: llm_fanout.results.Result[str]


class Invoice(BaseModel):
    """What is asked for."""

    total: int


async def mine(request: Request) -> str:
    """A provider in three lines."""
    return str(request.messages)


async def typed(fan: FanOut) -> None:  # noqa: PLR0915  # a line a mistake
    """Never run: only looked at."""
    reveal_type(await fan.map(["a"]))  # R: llm_fanout.results.Report[str]
    reveal_type(fan.map(["a"]))  # R: llm_fanout.run.Run[str]
    reveal_type(fan_out_sync(["a"], model="m"))  # R: llm_fanout.results.Report[str]
    reveal_type((await fan.call("a")).value)  # R: str
    reveal_type(await fan_out(["a"], model="m"))  # R: llm_fanout.results.Report[str]
    fan.map(["a"], temprature=0)  # E
    fan.map("one string")  # a str is an iterable of str: refused when it runs
    fan.map(["a"], n=3)  # E
    fan.call("a", stream=True)  # E
    reveal_type(await fan.map(["a"], response_format=Invoice))  # R: llm_fanout.results.Report[type_errors.Invoice]
    reveal_type((await fan.map(["a"], response_format=Invoice))[0].value)  # R: type_errors.Invoice
    reveal_type(fan_out_sync(["a"], model="m", response_format=Invoice))  # R: llm_fanout.results.Report[type_errors.Invoice]
    reveal_type((await fan.call("a", response_format=Invoice)).value)  # R: type_errors.Invoice
    fan.map(["a"], response_format=dict)  # E
    fan.map(["a"], fallbacks="m")  # a str is a sequence of str: refused when it runs
    fan.map(["a"], fallbacks=[5])  # E
    reveal_type((await fan.embed(["a"]))[0].value)  # R: list[float]
    async with fan.stream("a", max_tokens=5) as pieces:
        reveal_type(pieces)  # R: llm_fanout.llm.stream.Stream[str]
        async for piece in pieces:
            reveal_type(piece)  # R: str
    fan.stream("a", n=3)  # E
    reveal_type((await fan.race(["a"], accept=lambda result: result.value == "a")).value)  # R: str
    fan.race(["a"], journal="j")  # E
    fan.race([1])  # E
    reveal_type(await fan.vote("a", votes=5, lead=2, key=len))  # R: llm_fanout.llm.vote.Vote[str]
    vote = fan.vote("a", votes=5, response_format=Invoice, key=lambda i: i.total)
    reveal_type(await vote)  # R: llm_fanout.llm.vote.Vote[type_errors.Invoice]
    fan.vote("a", votes=5, response_format=Invoice, key=len)  # E
    fan.vote("a")  # E
    reveal_type((await fan.reduce(["a"], lambda parts: "x", context=5)).value)  # R: str
    reveal_type((await fan.reduce(fan.map(["a"]), lambda parts: "x".join(parts), context=5)).value)  # R: str
    invoices = fan.map(["a"], response_format=Invoice)
    reveal_type((await fan.reduce(invoices, str, context=5, response_format=Invoice)).value)  # R: type_errors.Invoice
    fan.reduce(["a"], str)  # E
    fan.reduce(["a"], len, context=5)  # E
    Endpoint("mine/x", provider=mine, price=(1.0, 2.0))
    Endpoint("mine/x", provider=len)  # E
    fan.map([1, 2])  # E
    fan.call("a", progress=True)  # E
    Prompt("a", temperature="hot")  # E
    fan.map(["a"], priority="urgent")  # E
    fan.map(["a"], deadline="tomorrow")  # E
    fan.map(["a"], timeout=Timeout(None, connect=2.0), deadline=60)
    Prompt("a", deadline=60)  # E
    reveal_type((await fan.call("a", deadline=60, priority="interactive")).value)  # R: str
    async with fan.scope("agent", weight=2, priority="background", max_concurrency=3) as scope:
        reveal_type(scope)  # R: llm_fanout.scope.Scope
        reveal_type(scope.summary.cost)  # R: float
    fan.scope("agent", wieght=2)  # E
    fan.limits["m"] = Limits(rpm=60)
    fan.limits["m"] = 60  # E
    reveal_type(fan.limits["m"])  # R: llm_fanout.core.stated.Limits

    async def a(x: int) -> str:
        return str(x)

    async def b(x: str, y: str) -> bytes:
        return (x + y).encode()

    async def c(xs: Sequence[str]) -> bytes:
        return "".join(xs).encode()

    async def d(xs: list[str], y: str, z: int = 0) -> int:
        return len(xs) + len(y) + z

    ta = Task(a, 1)
    tb = Task(b, ta, "y")
    reveal_type(tb)  # R: llm_fanout.task.Task[bytes]
    reveal_type(Task(c, [ta, ta]))  # R: llm_fanout.task.Task[bytes]
    reveal_type(Task(c, ["x", "y"]))  # R: llm_fanout.task.Task[bytes]
    reveal_type(Task(d, [ta], "y"))  # R: llm_fanout.task.Task[int]
    reveal_type(Task(d, [ta], ta, 5, id="d", after=[ta, tb]))  # R: llm_fanout.task.Task[int]
    Task(b, tb, "y")  # E
    Task(c, [ta, tb])  # E
    Task(d, [tb], "y")  # E
    Task(d, [ta], [ta])  # E
    Task(d, [ta], tb, 5)  # E
    Task(a, 1, after=ta)  # E
    reveal_type(Executor().run([ta, Task(a, 2, after=[ta])]))  # R: llm_fanout.run.Run[str]
    reveal_type(Executor().run([ta, Task(d, [ta], "y")]))  # R: llm_fanout.run.Run[object]
    reveal_type(Task(a, 1))  # R: llm_fanout.task.Task[str]
    reveal_type(Task(b, "x", "y"))  # R: llm_fanout.task.Task[bytes]
    Task(b, 1, "y")  # E
    Task(a)  # E
    reveal_type(Executor().map(a, [1, 2]))  # R: llm_fanout.run.Run[str]
    Executor().map(a, ["x"])  # E
    reveal_type((await Executor().run([Task(a, 1)]))[0].value)  # R: str
    Executor(max_concurency=5)  # E
    Executor(rate=Limits(rpm=60))
    Executor(rate=60)  # E
    async for result in fan.map(["a"]):
        reveal_type(result)  # R: llm_fanout.results.Result[str]
