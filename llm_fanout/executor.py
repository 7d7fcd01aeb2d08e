"""Any async function over many items: a concurrency limit, a rate, a timeout, retries, and one Result per item."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from weakref import WeakSet

from aiolimiter import AsyncLimiter

from .core.checks import check_seconds
from .core.job import Choice, Outcome
from .core.lanes import DEFAULT, Lane
from .core.quota import Quota
from .core.retry import Again, RetryPolicy
from .core.stated import Limits
from .engine import Engine
from .errors import ERROR_OF_KIND, CallError, ConfigError, Kind, RateLimited, Rejected, Stopped
from .gate import Gate
from .graph import Dependencies, Graph
from .progress import Progress
from .rate import RateGate
from .results import Result
from .run import Run, leave_all
from .task import Task, check_async
from .work import Terms, Timing

A = TypeVar("A")
R = TypeVar("R")

RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool | float]

# What these say of the code is as true the next time: trying again would only hide it for a while.
FAULTS_OF_THE_CODE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
)


def worth_a_retry(error: Exception) -> bool | float:
    """The default of `retry_on`: everything but faults of the code (TypeError, ValueError, KeyError, ...).

    An error of this package is retried if its class says so: `RateLimited`, `Unavailable` and `BadReply` are, after
    `retry_after` seconds where it names them; `Rejected` and `Stopped` are not.
    """
    if isinstance(error, CallError):
        retry = not isinstance(error, Rejected | Stopped)
        return error.retry_after if retry and error.retry_after is not None else retry
    return not isinstance(error, (*FAULTS_OF_THE_CODE, NotImplementedError))


class Executor:
    """Runs any async function many times, as fast as its limits allow; a failure is a Result, never an exception.

    One executor may be used from several runs, loops and threads; all of them share its limits. Used as a context
    manager, it cancels on leaving what is still running.

    Args:
        max_concurrency: Calls at once, >= 1. A call that waits to be tried again is not one of them, nor one that waits
            for a run of an executor that it has started itself: runs may be nested to any depth.
        rate: How often a call may start, retries included. `Limits(rpm=, rpd=, burst=, headroom=)`, or an
            `aiolimiter.AsyncLimiter`, also one that other code uses: each attempt acquires it once before it takes a slot,
            waiters are served in their order, and it belongs to one event loop.
        timeout: Seconds for one attempt, not counting any wait before it. The function is cancelled then, and its
            clean-up awaited; a timeout is tried again. None: no bound.
        max_retries: Tries after the first, >= 0, spaced by exponential backoff with full jitter (0.5 s doubled up to 8 s).
        retry_for: Seconds from its first start within which a call may be tried again. None: no bound.
        retry_on: The errors to try again after: types, or a function that gives True, False, or the seconds to wait. A
            named wait does not use up `max_retries`. By default everything but faults of the code: see `worth_a_retry`.

    Raises:
        ConfigError: An argument is out of its range.
    """

    def __init__(
        self,
        *,
        max_concurrency: int = 100,
        rate: AsyncLimiter | Limits | None = None,
        timeout: float | None = None,
        max_retries: int = 5,
        retry_for: float | None = None,
        retry_on: RetryOn = worth_a_retry,
    ) -> None:
        check_seconds("timeout", timeout)
        gate = RateGate(rate) if isinstance(rate, AsyncLimiter) else None
        limits = _limits_of(max_concurrency, None if gate is not None else rate)
        self._quota = Quota(limits, permits=None if gate is None else gate.permits)
        self._engine = Engine(None if gate is None else partial(gate.fetch, quota=self._quota))
        self._shared = _Shared((Choice(self._quota),), RetryPolicy.of(max_retries, retry_for), timeout, _again_of(retry_on))
        self._runs: WeakSet[Run[Any]] = WeakSet()

    def map(
        self, fn: Callable[[A], Awaitable[R]], items: Iterable[A] | AsyncIterable[A], /, *, progress: Progress = None
    ) -> Run[R]:
        """Call `fn` on every item: a Run with one Result per item.

        A plain `def` passes, for it may return an awaitable. If it does not, that is found out by calling it, once for each
        item: every Result is then that error.

        Raises:
            ConfigError: `fn` cannot be async: it is not callable, or it is a generator function.
        """
        check_async(fn)
        shared = self._shared
        return self._run(items, lambda index, item: _FunctionCall(shared, fn, (item,), index, item), progress)

    def run(self, tasks: Iterable[Task[R]] | AsyncIterable[Task[R]], /, *, progress: Progress = None) -> Run[R]:
        """Run every task, as many at once as the limits allow, each as soon as those that it needs have succeeded: a Run
        with one Result per task, in input order.

        All tasks are read before the first starts. Where more could start than may, those that begin the longest chains go
        first. Times count from when a task could start. One that needs a failed one, be it through others, is not started:
        its error is a `Stopped` of kind "skipped" that says whose failure it is for. The others go on.

        >>> import asyncio
        >>> from llm_fanout import Executor, Task
        >>> async def divide(left, right):
        ...     return left / right
        >>> async def main():
        ...     half, none = Task(divide, 1, 2), Task(divide, 1, 0, id="none")
        ...     return await Executor().run([half, none, Task(divide, half, 4), Task(divide, none, 4)])
        >>> for result in asyncio.run(main()):
        ...     print(result)
        <Result 0: 0.5>
        <Result 'none' failed, exception: 'ZeroDivisionError: division by zero'>
        <Result 2: 0.125>
        <Result 3 failed, skipped: "not started, for task 'none' failed: ZeroDivisionError: division by zero">

        Args:
            tasks: All tasks: what others need must be among them. An iterable is read here, and what it raises is raised.

        Raises:
            ConfigError: Two tasks have the same id, something among them is no Task, one needs a task that is not among
                them, or some need each other in a circle. Where they come from an async iterable, a second of one id and
                what is no Task cost their own Result, and the others end the run: `RunFailed`.
        """
        seen: set[str | int] = set()
        graph = None
        if not isinstance(tasks, AsyncIterable):
            tasks = list(tasks)
            check: set[str | int] = set()
            for index, task in enumerate(tasks):
                _id_of(task, index, check)
            graph = Graph(dict(enumerate(tasks)))

        def open(index: int, task: Task[R]) -> _FunctionCall[R]:
            id = _id_of(task, index, seen)
            return _FunctionCall(self._shared, task.fn, (), id, task)

        return self._run(tasks, open, progress, Dependencies(graph))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        await leave_all(self._runs, "the executor was closed")

    def _run(
        self, items: Any, open: Callable[[int, Any], _FunctionCall[R]], progress: Progress, gate: Gate | None = None
    ) -> Run[R]:
        terms = Terms(lane=Lane(), sources=(self._quota,), nests=True, gate=gate)
        run = Run(items, open, self._engine, terms, progress=progress)
        self._runs.add(run)
        return run


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all calls of an executor have in common."""

    choices: tuple[Choice]
    retry: RetryPolicy
    timeout: float | None
    again: Callable[[Exception], bool | float]


class _FunctionCall(Generic[R]):
    """One item and the function for it: the `Work` of an executor.

    Attributes:
        item: The item as handed in.
        args: What the function is called with; of a task that is held back not known yet.
        rank: As for any `Work`.
    """

    __slots__ = ("_fn", "_id", "_shared", "args", "choices", "item", "rank", "retry", "timeout")

    hedge: float = 0.0
    is_first = False

    def __init__(
        self, shared: _Shared, fn: Callable[..., Awaitable[R]], args: tuple[Any, ...], id: str | int, item: object
    ) -> None:
        self._shared = shared
        self.choices = shared.choices
        self.rank: float = DEFAULT
        self.retry = shared.retry
        self.timeout = shared.timeout
        self._fn = fn
        self.args = args
        self._id = id
        self.item: Any = item

    async def perform(self, quota: Quota) -> Outcome:
        try:
            return Outcome(value=await _awaitable(self._fn(*self.args), self._fn))
        except Exception as exc:  # whatever the user's function raises becomes the item's Result
            return _failure(as_call_error(exc), self._shared.again(exc))

    def late(self) -> Outcome:
        error = ERROR_OF_KIND["timeout"](
            f"no answer within {self.timeout:g} s; raise timeout= if it needs longer", kind="timeout"
        )
        return _failure(error, self._shared.again(TimeoutError(error.message)))

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[R]:
        error: Any = outcome.error
        return Result(
            index=index,
            id=self._id,
            prompt=self.item,
            error=error,
            attempts=timing.attempts,
            queue_time=timing.queue_time,
            service_time=timing.service_time,
            latency=timing.latency,
            returned=outcome.value,
        )


def as_call_error(exc: Exception) -> CallError:
    """`exc` as the error of one call: itself if it is one, else one of a fitting kind with `exc` as its cause."""
    if isinstance(exc, CallError):
        return exc
    kind: Kind = "timeout" if isinstance(exc, TimeoutError) else "connection" if isinstance(exc, OSError) else "exception"
    error = ERROR_OF_KIND[kind](f"{type(exc).__name__}: {exc}", kind=kind)
    error.__cause__ = exc
    return error


def _failure(error: CallError, again: bool | float) -> Outcome:
    """The outcome of a failed call. One that was refused for now slows everybody, and costs no retry."""
    if again is False or again is None:  # a predicate that forgets to answer does not say yes
        return Outcome(error=error)
    told = None if again is True else max(0.0, float(again))
    if isinstance(error, RateLimited):
        return Outcome(Again.PUSHBACK, told=told, gate=True, shrink=told is None, error=error)
    return Outcome(Again.TRANSIENT if told is None else Again.PUSHBACK, told=told, error=error)


def _limits_of(max_concurrency: int, rate: object) -> Limits:
    """The limits of an executor."""
    if rate is None:
        return Limits(max_concurrency=max_concurrency)
    if not isinstance(rate, Limits):
        raise ConfigError(f"rate must be Limits(rpm=...) or an aiolimiter.AsyncLimiter, got {rate!r}")
    if rate.tpm or rate.itpm or rate.otpm:
        raise ConfigError("a function has no tokens to count: give the executor's Limits rpm or rpd, not tokens a minute")
    if rate.max_concurrency not in (None, max_concurrency):
        raise ConfigError(f"max_concurrency is both {max_concurrency} and, in rate, {rate.max_concurrency}; say it once")
    return replace(rate, max_concurrency=max_concurrency)


def _again_of(retry_on: RetryOn) -> Callable[[Exception], bool | float]:
    if isinstance(retry_on, type | tuple):
        types = retry_on if isinstance(retry_on, tuple) else (retry_on,)
        if not all(isinstance(each, type) and issubclass(each, Exception) for each in types):
            raise ConfigError(f"retry_on must name exception types, got {retry_on!r}")
        return lambda error: isinstance(error, types)
    if not callable(retry_on):
        raise ConfigError(f"retry_on must be exception types or a function of the exception, got {retry_on!r}")
    return retry_on


def _awaitable(answer: Awaitable[R], fn: object) -> Awaitable[R]:
    if not inspect.isawaitable(answer):
        raise TypeError(f"{fn!r} is not async: it returned {answer!r}; define it with `async def`, or use asyncio.to_thread")
    return answer


def _id_of(task: Task[Any], index: int, seen: set[str | int]) -> str | int:
    if not isinstance(task, Task):
        raise ConfigError(f"item {index} is not a Task but {task!r}; wrap it: Task(fn, argument)")
    if task.id is None:
        return index
    if task.id in seen:
        raise ConfigError(f"two tasks have the id {task.id!r}; ids must be unique within a run")
    seen.add(task.id)
    return task.id
