"""What the journal keeps of one result: plain JSON, the reply as the bytes that came, and a check over both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from ..errors import ERROR_OF_KIND, CallError, JournalError
from ..results import Result
from ..spending import Spending, Usage

REMEDY = "name another file, or restore this one from a copy"


class Record(NamedTuple):
    """One result as it lies in the file.

    Attributes:
        key: Which call it is of.
        ok: Whether it has an answer.
        body: All but the reply, as JSON.
        reply: The reply's bytes.
        check: CRC-32 of all that: SQLite notices damage to its structure, not to what it holds.
    """

    key: bytes
    ok: int
    body: bytes
    reply: bytes
    check: int

    @classmethod
    def of(cls, key: bytes, result: Result[Any], charge: Sequence[float | None] = ()) -> Record:
        """That of `result`, of which budgets were charged so many USD and tokens."""
        raw = isinstance(result.reply, bytes)
        said = {
            "index": result.index,
            "id": result.id,
            "error": None if result.error is None else {**result.error.to_dict(), "partial": result.error.partial},
            "model": result.model,
            "endpoint": result.endpoint,
            "via": result.via,
            "api": result.api,
            "attempts": result.attempts,
            "spending": result.spending,
            "times": (result.queue_time, result.service_time, result.latency),
            "ttft": result.ttft,
            "inter_token": list(result.inter_token),
            "charge": charge,
            "reply": None if raw else result.reply,
        }
        ok, body, reply = int(result.ok), encoded(said), result.reply if isinstance(result.reply, bytes) else b""
        return cls(key, ok, body, reply, _check_of(key, ok, body, reply))

    def said(self) -> Mapping[str, Any]:
        """What `body` says.

        Raises:
            JournalError: It is not what was written.
        """
        try:
            is_whole = self.check == _check_of(self.key, self.ok, self.body, self.reply)
        except TypeError:  # text or a number, where there were bytes
            is_whole = False
        if not is_whole:
            raise JournalError(f"the journal is damaged: a result in it is not what was written there; {REMEDY}")
        return decoded(self.body)

    def fields(self) -> dict[str, Any]:
        """The fields of the Result that it was made of, as `Result` takes them: all but index, id, prompt, tag and value. A
        reply that was no bytes is a dict of its own fields.
        """
        said = self.said()
        queue_time, service_time, latency = said["times"]
        return {
            "error": None if said["error"] is None else _error_of(said["error"]),
            "model": said["model"],
            "endpoint": said["endpoint"],
            "via": said["via"],
            "source": "journal",
            "api": said["api"],
            "attempts": said["attempts"],
            "spending": spending_in(said),
            "queue_time": queue_time,
            "service_time": service_time,
            "latency": latency,
            "ttft": said["ttft"],
            "inter_token": said["inter_token"],
            "reply": self.reply if said["reply"] is None else said["reply"],
        }


def spending_in(said: Mapping[str, Any]) -> list[Spending]:
    """What the attempts have used, going by what a record says."""
    return [_spending_of(each) for each in said["spending"]]


def encoded(said: object) -> bytes:
    """`said` as JSON; half of a surrogate pair, as in a text that was cut within an emoji, is written as an escape."""
    try:
        return msgspec.json.encode(said, enc_hook=_plain)
    except (UnicodeEncodeError, OverflowError):  # or a whole number of more than 64 bits
        return json.dumps(msgspec.to_builtins(said, enc_hook=_plain)).encode()


def decoded(text: bytes) -> dict[str, Any]:
    """The object that `encoded` wrote."""
    try:
        said: dict[str, Any] = msgspec.json.decode(text)
    except msgspec.DecodeError:  # it knows no half of a pair
        said = json.loads(text)
    return said


def _plain(value: Any) -> Any:
    """What JSON does not have: an SDK's object within a prompt."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else repr(value)


def _check_of(key: bytes, ok: int, body: bytes, reply: bytes) -> int:
    return crc32(reply, crc32(body, crc32(b"%b%d" % (key, ok))))


def _error_of(said: Mapping[str, Any]) -> CallError:
    known = {name: said[name] for name in ("kind", "status", "retry_after", "partial")}
    return ERROR_OF_KIND[said["kind"]](said["message"], **known)


def _spending_of(said: Sequence[Any]) -> Spending:
    model, size, calls, usage, price = said
    return Spending(model, size, calls, Usage(*usage), None if price is None else tuple(price))
