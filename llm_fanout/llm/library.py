"""What the HTTP library of a client is given: objects and errors of its own, be it httpx or httpx2.

The two have the same classes under the same names, so one piece of code serves both; neither is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import Any

from ..errors import CallError, Stopped
from ..scope import SCOPE
from .background import wait_for
from .relayed import Answered, Flowing

LIBRARIES = ("httpx", "httpx2")


def library_of(request: Any) -> str:
    """The library whose request it is."""
    cls: Any = type(request)
    named: str = _named(cls)
    return named


@cache
def _named(cls: Any) -> Any:
    return next(name for each in cls.__mro__ if (name := each.__module__.partition(".")[0]) in LIBRARIES)


def response_of(library: str, answered: Answered, api: str, flowing: Callable[[str], type[Any]]) -> Any:
    """An answer as a Response of `library`.

    Args:
        library: Its name.
        answered: The answer.
        api: The API that gave it.
        flowing: Gives the class of a body that flows: `body` or `async_body`.
    """
    make: Any = sys.modules[library].Response
    status, headers, said = answered
    if isinstance(said, bytes):
        return make(status, headers=headers, content=said)
    return make(status, headers=headers, stream=flowing(library)(said, api))


@cache
def async_body(library: str) -> type[Any]:
    """The class of a body that is iterated over with `async for`."""
    module: Any = sys.modules[library]

    class Body(module.AsyncByteStream):  # type: ignore[misc]  # of either library
        def __init__(self, body: Flowing, api: str) -> None:
            self._body = body
            self._api = api

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                while chunk := await self._body.take():
                    yield chunk
            except CallError as exc:
                raise _broken(module, exc, self._api) from None

        async def aclose(self) -> None:
            await self._body.aclose()

    return Body


@cache
def body(library: str) -> type[Any]:
    """The class of a body that is iterated over."""
    module: Any = sys.modules[library]

    class Body(module.SyncByteStream):  # type: ignore[misc]  # of either library
        def __init__(self, body: Flowing, api: str) -> None:
            self._body = body
            self._api = api

        def __iter__(self) -> Iterator[bytes]:
            try:
                while chunk := wait_for(self._body.take()):
                    yield chunk
            except CallError as exc:
                raise _broken(module, exc, self._api) from None

        def close(self) -> None:
            wait_for(self._body.aclose())

    return Body


def _broken(library: Any, error: CallError, api: str) -> Exception:
    """What is raised where a stream has broken off: what the library itself would raise, unless it was ended by us."""
    if isinstance(error, Stopped):
        return told(error, api)
    kind = library.ReadTimeout if error.kind == "timeout" else library.RemoteProtocolError
    broken: Exception = kind(error.message)
    return broken


def told(error: Stopped, api: str) -> Stopped:
    """`error` as it is to be raised; the scope knows of it now, for code in between may swallow it."""
    if api == "messages" and "anthropic" in sys.modules:
        error = _of_anthropic()(error)
    scope = SCOPE.get()
    if scope is not None:
        scope.note(error)
    return error


@cache
def _of_anthropic() -> type[Any]:
    """A Stopped that Anthropic's SDK (2.14) lets pass: what is no error of its own it takes for a broken connection, wraps,
    and tries again.
    """
    from anthropic import AnthropicError

    class Passing(Stopped, AnthropicError):
        def __init__(self, error: Stopped) -> None:
            super().__init__(**error.to_dict(), partial=error.partial)
            self._error = error

        def __reduce__(self) -> tuple[Any, ...]:
            return self._error.__reduce__()

    Passing.__name__ = Passing.__qualname__ = Stopped.__name__
    return Passing
