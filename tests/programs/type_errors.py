"""What a type checker must refuse (marked E), and what it must see in the rest (R, with the type)."""

from typing import reveal_type

from httpx2 import Timeout

from llm_fanout import Executor, FanOut, Limits, Prompt, Task, fan_out, fan_out_sync


async def typed(fan: FanOut) -> None:
    """Never run: only looked at."""
    reveal_type(await fan.map(["a"]))  # R: llm_fanout.results.Report[str]
    reveal_type(fan.map(["a"]))  # R: llm_fanout.run.Run[str]
    reveal_type(fan_out_sync(["a"], model="m"))  # R: llm_fanout.results.Report[str]
    reveal_type((await fan.call("a")).value)  # R: str
    reveal_type(await fan_out(["a"], model="m"))  # R: llm_fanout.results.Report[str]
    fan.map(["a"], temprature=0)  # E
    fan.map("one string")  # a str is an iterable of str: refused when it runs
    fan.map(["a"], n=3)  # E
    fan.map(["a"], stream=True)  # E
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

    reveal_type(Task(a, 1))  # R: llm_fanout.executor.Task[str]
    reveal_type(Task(b, "x", "y"))  # R: llm_fanout.executor.Task[bytes]
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
