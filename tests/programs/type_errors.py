"""What a type checker must refuse (marked E), and what it must see in the rest (R, with the type)."""

from typing import reveal_type

from llm_fanout import Executor, FanOut, Prompt, Task, fan_out, fan_out_sync


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
    async for result in fan.map(["a"]):
        reveal_type(result)  # R: llm_fanout.results.Result[str]
