"""What can go wrong, one class per reaction.

FanOutError
|- ConfigError (also ValueError)   a wrong argument; raised before anything starts
|- CallError                       one call failed; on `Result.error`, raised by `Result.value`
|  |- RateLimited                  the provider asked for patience: retried, and everyone on that quota slows down
|  |- Unavailable                  timeout, connection, server error: retried
|  |- BadReply                     an answer that cannot be used (cut, empty, malformed ...): retried on a small budget
|  |- Rejected                     the call itself is at fault: final
|  `- Stopped                      not, or not fully, attempted: cancelled, out of time or budget, in need of what failed
`- RunFailed                       what broke a whole run; `.report` holds what was done
   `- JournalError                 its journal cannot be used: in use elsewhere, damaged, not ours, or no room on the disk
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar, get_args

Kind = Literal[
    "rate_limited",  # RateLimited
    "timeout",
    "connection",
    "server",  # Unavailable
    "truncated",
    "empty",
    "malformed",
    "schema",  # BadReply (truncated: ended without a finish reason)
    "refusal",
    "filtered",
    "invalid",
    "too_large",
    "auth",
    "credit",
    "length",
    "exception",  # Rejected (length: a cut answer that breaks its schema)
    "budget",
    "deadline",
    "cancelled",
    "not_attempted",
    "skipped",  # Stopped
]


class FanOutError(Exception):
    """The root of everything that this package raises on purpose."""


class ConfigError(FanOutError, ValueError):
    """An argument that cannot work. Raised before anything starts; correct the call."""


class CallError(FanOutError):
    """One call failed; the subclass says what may be done about it.

    Attributes:
        kind: What happened, one word: see `llm_fanout.errors.Kind`. Each class has a default, here "exception".
        status: The HTTP status of the last answer, where there was one.
        retry_after: Seconds the provider told us to wait, where it told.
        partial: Text that had arrived before the failure; empty if none.

    Raises:
        ConfigError: `kind` is none of those that there are.
    """

    kind: Kind = "exception"

    def __init__(
        self,
        message: str,
        *,
        kind: Kind | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        partial: str = "",
    ) -> None:
        super().__init__(message)
        self.kind = self.kind if kind is None else kind
        if self.kind not in get_args(Kind):
            raise ConfigError(f"kind must be one of {', '.join(map(repr, get_args(Kind)))}; got {self.kind!r}")
        self.status = status
        self.retry_after = retry_after
        self.partial = partial

    @property
    def message(self) -> str:
        """What happened, in one sentence."""
        return str(self.args[0])

    def reading(self, message: str) -> Self:
        """The same error, in other words."""
        if message == self.message:
            return self
        error = _restored(type(self), {**self.to_dict(), "message": message}, self.partial)
        error.__cause__ = self.__cause__
        return error

    def keeping(self, partial: str) -> Self:
        """The same error, with text that had arrived; itself if it has some already, or there is none."""
        if self.partial or not partial:
            return self
        error = _restored(type(self), self.to_dict(), partial)
        error.__cause__ = self.__cause__
        return error

    def to_dict(self) -> dict[str, Any]:
        """`kind`, `status`, `message` and `retry_after`: what a row of output says of a failure."""
        return {"kind": self.kind, "status": self.status, "message": self.message, "retry_after": self.retry_after}

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle carries plain values only: never __cause__, whose request objects may hold an API key.
        return _restored, (type(self), self.to_dict(), self.partial)


_Error = TypeVar("_Error", bound=CallError)


def _restored(cls: type[_Error], said: Mapping[str, Any], partial: str) -> _Error:
    error = cls.__new__(cls)  # not by its constructor: a subclass of the user's may take other arguments
    known = {name: said[name] for name in ("kind", "status", "retry_after")}
    CallError.__init__(error, said["message"], partial=partial, **known)
    return error


class RateLimited(CallError):
    """The provider refused for now (429): wait, then try again. `kind` is "rate_limited"."""

    kind: Kind = "rate_limited"


class Unavailable(CallError):
    """No usable answer came: timeout, broken connection, server error. May work later. `kind` is "server" unless it
    is said to be "timeout" or "connection".
    """

    kind: Kind = "server"


class BadReply(CallError):
    """An answer came and cannot be used: cut off, empty, malformed or not of its schema. May work when asked again.
    `kind` is "malformed" unless it is said to be "truncated", "empty" or "schema".
    """

    kind: Kind = "malformed"


class Rejected(CallError):
    """The provider refused this very call; the same call will be refused again. `kind` is "exception" unless it is said
    to be "refusal", "filtered", "invalid", "too_large", "auth", "credit" or "length".
    """

    kind: Kind = "exception"


class Stopped(CallError):
    """The call was not, or not fully, attempted, because it was cancelled, ran out of time or budget, or depends on one
    that failed. `kind` is "cancelled" unless it is said to be "budget", "deadline", "not_attempted" or "skipped".
    """

    kind: Kind = "cancelled"


class RunFailed(FanOutError):
    """A run could not go on: its source raised. `__cause__` says why, `.report` holds every result so far.

    `report` is a `Report` with the results that were there, in input order.
    """

    def __init__(self, message: str, report: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.report = report


class JournalError(RunFailed):
    """A run's journal cannot be used: another run has it, it is damaged or not ours, or the disk is full. What was delivered
    before is in it; what could not be written was not reported as done.
    """


ERROR_OF_KIND: dict[Kind, type[CallError]] = {
    "rate_limited": RateLimited,
    "timeout": Unavailable,
    "connection": Unavailable,
    "server": Unavailable,
    "truncated": BadReply,
    "empty": BadReply,
    "malformed": BadReply,
    "schema": BadReply,
    "refusal": Rejected,
    "filtered": Rejected,
    "invalid": Rejected,
    "too_large": Rejected,
    "auth": Rejected,
    "credit": Rejected,
    "length": Rejected,
    "exception": Rejected,
    "budget": Stopped,
    "deadline": Stopped,
    "cancelled": Stopped,
    "not_attempted": Stopped,
    "skipped": Stopped,
}
