"""Tasks: calls of async functions that may need the values of others."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, overload

from .errors import ConfigError

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R_co = TypeVar("R_co", covariant=True)


class Task(Generic[R_co]):
    """One call of an async function, to be run by `Executor.run`, perhaps with the values of other tasks.

    A task that is given as an argument is a dependency, and the function gets its value. So is each task in a list or tuple
    that is an argument: the function gets a list, in the same order. Nobody looks for tasks further inside.

    >>> import asyncio
    >>> from llm_fanout import Executor, Task
    >>> async def length(text):
    ...     return len(text)
    >>> async def total(lengths):
    ...     return sum(lengths)
    >>> async def main():
    ...     lengths = [Task(length, text) for text in ("one", "three")]
    ...     return await Executor().run([*lengths, Task(total, lengths)])
    >>> asyncio.run(main()).values
    [3, 5, 8]

    Args:
        fn: An async function. A plain `def` passes, for it may return an awaitable; if it does not, the task's Result is
            that error.
        args: Its arguments.
        id: A name for it, unique in its run; by default its position.
        after: Tasks that have to succeed before this one starts, though it needs no value of theirs.

    Raises:
        ConfigError: `fn` cannot be async: it is not callable, or it is a generator function. Or `after` is not a list of
            tasks.
    """

    __slots__ = ("after", "args", "fn", "id")

    # One for each number of arguments and, for one and two, each place of a list of tasks. There is no way to say this of
    # any number of them: of three and four, what is in a list is not checked; of more, nothing is.
    @overload
    def __init__(self, fn: Callable[[], Awaitable[R_co]], /, *, id: str | None = ..., after: Tasks = ...) -> None: ...
    @overload
    def __init__(
        self, fn: Callable[[A], Awaitable[R_co]], a: Given[A], /, *, id: str | None = ..., after: Tasks = ...
    ) -> None: ...
    @overload
    def __init__(
        self, fn: Callable[[list[A]], Awaitable[R_co]], a: Sequence[Task[A]], /, *, id: str | None = ..., after: Tasks = ...
    ) -> None: ...
    @overload
    def __init__(
        self, fn: Callable[[A, B], Awaitable[R_co]], a: Given[A], b: Given[B], /, *, id: str | None = ..., after: Tasks = ...
    ) -> None: ...
    @overload
    def __init__(
        self,
        fn: Callable[[list[A], B], Awaitable[R_co]],
        a: Sequence[Task[A]],
        b: Given[B],
        /,
        *,
        id: str | None = ...,
        after: Tasks = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        fn: Callable[[A, list[B]], Awaitable[R_co]],
        a: Given[A],
        b: Sequence[Task[B]],
        /,
        *,
        id: str | None = ...,
        after: Tasks = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        fn: Callable[[list[A], list[B]], Awaitable[R_co]],
        a: Sequence[Task[A]],
        b: Sequence[Task[B]],
        /,
        *,
        id: str | None = ...,
        after: Tasks = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        fn: Callable[[A, B, C], Awaitable[R_co]],
        a: GivenOrList[A],
        b: GivenOrList[B],
        c: GivenOrList[C],
        /,
        *,
        id: str | None = ...,
        after: Tasks = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        fn: Callable[[A, B, C, D], Awaitable[R_co]],
        a: GivenOrList[A],
        b: GivenOrList[B],
        c: GivenOrList[C],
        d: GivenOrList[D],
        /,
        *,
        id: str | None = ...,
        after: Tasks = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        fn: Callable[..., Awaitable[R_co]],
        a: object,
        b: object,
        c: object,
        d: object,
        e: object,
        /,
        *more: object,
        id: str | None = ...,
        after: Tasks = ...,
    ) -> None: ...
    def __init__(self, fn: Callable[..., Awaitable[R_co]], /, *args: Any, id: str | None = None, after: Tasks = ()) -> None:
        check_async(fn)
        _check_tasks(after)
        self.fn = fn
        self.args: tuple[Any, ...] = args
        self.id = id
        self.after: list[Task[Any]] = list(after)

    @property
    def name(self) -> str:
        """The name of its function."""
        return str(getattr(self.fn, "__qualname__", None) or repr(self.fn))

    def __repr__(self) -> str:
        return f"<Task {self.name}>" if self.id is None else f"<Task {self.id!r}: {self.name}>"


Tasks: TypeAlias = Sequence[Task[object]]
Given: TypeAlias = A | Task[A]
GivenOrList: TypeAlias = A | Task[A] | Sequence[Task[Any]]


def check_async(fn: object) -> None:
    """Refuse what cannot be async. A plain `def` passes, for it may return an awaitable: only its calls can tell."""
    if not callable(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigError(f"an async function is needed, got {fn!r}; define it with `async def` and `return`")


def _check_tasks(after: object) -> None:
    if not isinstance(after, Sequence) or not all(isinstance(each, Task) for each in after):
        raise ConfigError(f"after must be a list of tasks, got {after!r}; a single one is [task]")
