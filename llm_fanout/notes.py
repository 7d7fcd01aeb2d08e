"""What was raised into a body because of a bound that was set for it, and is raised again where the body ends.

An agent framework may swallow an error that a call raises, or wrap it in one of its own; whoever set the bound wants to know
all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from types import TracebackType
from weakref import WeakSet

from .errors import Stopped


class Notes:
    """The errors that were raised into the body of `with notes:`, which raises one of them at its end.

    It does if the body ended normally (the first of them), or by an exception that was raised from one of them, or while one
    was handled (that one, from the exception). An exception group counts if all that are in it do. Any other exception goes
    on as it is: a Stopped, whosever it is, and what is no Exception, such as the cancellation of a task.
    """

    __slots__ = ("_first", "_others")

    def __init__(self) -> None:
        self._first: Stopped | None = None
        self._others: WeakSet[Stopped] = WeakSet()  # a body that goes on regardless is told with every call

    def add(self, error: Stopped) -> None:
        """`error` is, or was, raised into the body."""
        if self._first is None:
            self._first = error
        else:
            self._others.add(error)

    def __enter__(self) -> None:
        pass

    def __exit__(self, t: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._first is None:
            return
        if exc is None:
            raise self._first
        if isinstance(exc, Exception) and not isinstance(exc, Stopped) and (noted := self._behind(exc)) is not None:
            # A copy: `exc` leads to the original, and there is code that walks chains of exceptions to their end.
            raise copy(noted) from exc

    def _behind(self, exc: BaseException) -> Stopped | None:
        """The one that `exc` was raised from."""
        for each in _chain(exc):
            if isinstance(each, Stopped) and (each is self._first or each in self._others):
                return each
        if not isinstance(exc, ExceptionGroup):
            return None
        behind = [self._behind(each) for each in exc.exceptions]
        return behind[0] if all(each is not None for each in behind) else None


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """`exc`, what it was raised from, or while it was handled, and so on; each once."""
    met: dict[int, BaseException] = {}
    rest: list[BaseException | None] = [exc]
    while rest:
        each = rest.pop()
        if each is not None and id(each) not in met:
            met[id(each)] = each
            rest += [each.__context__, each.__cause__]
            yield each
