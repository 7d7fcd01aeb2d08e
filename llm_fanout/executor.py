"""Any async function over many items: a concurrency limit, a rate, a timeout, retries, and one Result per item."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sized
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, TypeVarTuple
from weakref import WeakSet

from aiolimiter import AsyncLimiter

from .core.checks import check_seconds
from .core.quota import Cost, Limits, Quota
from .core.retry import Again, RetryPolicy
from .core.schedule import ONE_REQUEST, Outcome
from .engine import Engine
from .errors import ERROR_OF_KIND, CallError, ConfigError, Kind, Rejected, Stopped
from .flow import Timing
from .progress import Progress
from .rate import RateGate
from .results import Result
from .run import Run

A = TypeVar("A")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Ts = TypeVarTuple("Ts")

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


class Task(Generic[R_co]):
    """One call of an async function, to be run by `Executor.run`.

    Args:
        fn: An async function.
        args: Its arguments.
        id: A name for it, unique in its run; by default its position.

    Raises:
        ConfigError: `fn` is not callable or not async.
    """

    __slots__ = ("args", "fn", "id")

    def __init__(self, fn: Callable[[*Ts], Awaitable[R_co]], /, *args: *Ts, id: str | None = None) -> None:
        _check_async(fn)
        if any(isinstance(arg, Task) for arg in args):
            raise ConfigError(
                "a Task as an argument of a Task is not supported; await the first run, then hand in its value"
            )
        self.fn: Callable[..., Awaitable[R_co]] = fn
        self.args: tuple[Any, ...] = args
        self.id = id


class Executor:
    """Runs any async function many times, as fast as its limits allow; a failure is a Result, never an exception.

    One executor may be used from several runs, loops and threads; all of them share its limits. Used as a context
    manager, it cancels on leaving what is still running.

    Args:
        max_concurrency: Calls at once, >= 1. A call that waits to be tried again is not one of them.
        rate: An `aiolimiter.AsyncLimiter`, also one that other code uses: each attempt, retries too, acquires it once
            before it takes a slot. Waiters are served in their order. It belongs to one event loop.
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
        rate: AsyncLimiter | None = None,
        timeout: float | None = None,
        max_retries: int = 5,
        retry_for: float | None = None,
        retry_on: RetryOn = worth_a_retry,
    ) -> None:
        check_seconds("timeout", timeout)
        gate = None if rate is None else RateGate(rate)
        self._quota = Quota(Limits(max_concurrency=max_concurrency), permits=None if gate is None else gate.permits)
        self._engine = Engine(None if gate is None else partial(gate.fetch, quota=self._quota))
        self._width = max_concurrency
        self._timeout = timeout
        self._retry = RetryPolicy.of(max_retries, retry_for)
        self._again = _again_of(retry_on)
        self._runs: WeakSet[Run[Any]] = WeakSet()

    def map(
        self, fn: Callable[[A], Awaitable[R]], items: Iterable[A] | AsyncIterable[A], /, *, progress: Progress = None
    ) -> Run[R]:
        """Call `fn` on every item: a Run with one Result per item.

        Raises:
            ConfigError: `fn` is not async.
        """
        _check_async(fn)
        return self._run(items, lambda index, item: self._call(fn, (item,), index, item), progress)

    def run(self, tasks: Iterable[Task[R]] | AsyncIterable[Task[R]], /, *, progress: Progress = None) -> Run[R]:
        """Run every task: a Run with one Result per task.

        Raises:
            ConfigError: Two tasks have the same id, or something among them is no Task.
        """
        seen: set[str | int] = set()
        if isinstance(tasks, Sized) and isinstance(tasks, Iterable):
            check: set[str | int] = set()
            for index, task in enumerate(tasks):
                _id_of(task, index, check)

        def open(index: int, task: Task[R]) -> _FunctionCall[R]:
            id = _id_of(task, index, seen)
            return self._call(task.fn, task.args, id, task)

        return self._run(tasks, open, progress)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        for run in list(self._runs):
            await run.leave()

    def _run(self, items: Any, open: Callable[[int, Any], _FunctionCall[R]], progress: Progress) -> Run[R]:
        run = Run(items, open, self._engine, width=lambda: self._width, progress=progress)
        self._runs.add(run)
        return run

    def _call(self, fn: Callable[..., Awaitable[R]], args: tuple[Any, ...], id: str | int, item: object) -> _FunctionCall[R]:
        return _FunctionCall(fn, args, id, item, self._quota, self._retry, self._timeout, self._again)


@dataclass(slots=True, eq=False)
class _FunctionCall(Generic[R]):
    """One item and the function for it: the `Work` of an executor."""

    fn: Callable[..., Awaitable[R]]
    args: tuple[Any, ...]
    id: str | int
    item: Any
    quota: Quota
    retry: RetryPolicy
    timeout: float | None
    again: Callable[[Exception], bool | float]
    cost: Cost = ONE_REQUEST

    async def perform(self) -> Outcome:
        try:
            async with asyncio.timeout(self.timeout) as scope:
                return Outcome(value=await _awaited(self.fn(*self.args), self.fn))
        except Exception as exc:  # whatever the user's function raises becomes the item's Result
            late = scope.expired() and isinstance(exc, TimeoutError)
            error = _timed_out(self.timeout, exc) if late else as_call_error(exc)
            return _failure(error, True if late else self.again(exc))

    def result(self, index: int, outcome: Outcome, timing: Timing) -> Result[R]:
        error: Any = outcome.error
        return Result(
            index=index,
            id=self.id,
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


def _timed_out(timeout: float | None, exc: Exception) -> CallError:
    error = ERROR_OF_KIND["timeout"](f"no answer within {timeout:g} s; raise timeout= if it needs longer", kind="timeout")
    error.__cause__ = exc
    return error


def _failure(error: CallError, again: bool | float) -> Outcome:
    if again is True:
        return Outcome(Again.TRANSIENT, error=error)
    if again is False or again is None:  # a predicate that forgets to answer does not say yes
        return Outcome(error=error)
    return Outcome(Again.PUSHBACK, told=max(0.0, float(again)), error=error)


def _again_of(retry_on: RetryOn) -> Callable[[Exception], bool | float]:
    if isinstance(retry_on, type | tuple):
        types = retry_on if isinstance(retry_on, tuple) else (retry_on,)
        if not all(isinstance(each, type) and issubclass(each, Exception) for each in types):
            raise ConfigError(f"retry_on must name exception types, got {retry_on!r}")
        return lambda error: isinstance(error, types)
    if not callable(retry_on):
        raise ConfigError(f"retry_on must be exception types or a function of the exception, got {retry_on!r}")
    return retry_on


def _check_async(fn: object) -> None:
    """Refuse what cannot be async. A plain `def` passes, for it may return an awaitable: only its calls can tell."""
    if not callable(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigError(f"an async function is needed, got {fn!r}; define it with `async def` and `return`")


async def _awaited(answer: Awaitable[R], fn: object) -> R:
    if not inspect.isawaitable(answer):
        raise TypeError(f"{fn!r} is not async: it returned {answer!r}; define it with `async def`, or use asyncio.to_thread")
    return await answer


def _id_of(task: Task[Any], index: int, seen: set[str | int]) -> str | int:
    if not isinstance(task, Task):
        raise ConfigError(f"item {index} is not a Task but {task!r}; wrap it: Task(fn, argument)")
    if task.id is None:
        return index
    if task.id in seen:
        raise ConfigError(f"two tasks have the id {task.id!r}; ids must be unique within a run")
    seen.add(task.id)
    return task.id
