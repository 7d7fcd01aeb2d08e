"""The thread that owns the file: it takes what waits, writes it, and tells those who handed it in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from ..errors import JournalError
from ..results import Result
from .record import Record, encoded
from .stated import Journal

if TYPE_CHECKING:
    from .file import JournalFile

AT_ONCE = 64  # results in one transaction: so many are not yet safe when the process is killed

Kept = Callable[[Result[Any], JournalError | None], None]
Loop = asyncio.AbstractEventLoop


@dataclass(slots=True, eq=False)
class ToKeep:
    """One more result to keep, and whom to tell, on which event loop, when it is on disk."""

    key: bytes
    result: Result[Any]
    charge: Sequence[float | None]
    loop: Loop
    then: Kept

    def refuse(self, failure: JournalError) -> None:
        """It is not on disk."""
        tell(self.loop, self.then, self.result, failure)


@dataclass(slots=True, eq=False)
class Errand:
    """Something else to do with the file, and whom to tell, on which event loop, what came of it; None: on the thread that
    did it, for somebody whom it concerns even when the loop that asked is gone.
    """

    do: Callable[[JournalFile], Any]
    loop: Loop | None
    then: Callable[[Any], None]

    def refuse(self, failure: JournalError) -> None:
        """It is not done; on the loop of whoever asks just now, who may be in the middle of something."""
        tell(self.loop or asyncio.get_running_loop(), self.then, failure)


class Clerk:
    """What the thread does. It refers to nobody but those who wait, so that it does not keep alive who forgot to close.

    Attributes:
        asked: What waits; None is the last of it: then the file is closed, and the thread ends.
    """

    def __init__(self, journal: Journal) -> None:
        self.asked: SimpleQueue[ToKeep | Errand | None] = SimpleQueue()
        self._journal = journal
        self._failure: JournalError | None = None

    def start(self, after: Iterable[Clerk]) -> None:
        """Begin with the file, as soon as those have ended that may have it."""
        # Not awaited at the end of the process: what it has told is on disk.
        self._thread = threading.Thread(target=self._serve, args=(after,), name="llm_fanout journal", daemon=True)
        self._thread.start()

    def _serve(self, after: Iterable[Clerk]) -> None:
        for clerk in after:
            clerk._thread.join()
        file = self._opened()
        while not self._serve_some(file, self._next()):
            pass
        if not isinstance(file, JournalError):
            tried_to_close(file)

    def _opened(self) -> JournalFile | JournalError:
        from .file import JournalFile

        try:
            return JournalFile(self._journal)
        except JournalError as exc:
            return exc
        except Exception as exc:  # as in `_tried`
            return _unusable(exc)

    def _serve_some(self, file: JournalFile | JournalError, asked: Sequence[ToKeep | Errand | None]) -> bool:
        """Do what is asked for, results first; whether it was the last. Nothing of it outlives this step."""
        self._keep(file, [each for each in asked if isinstance(each, ToKeep)])
        for each in asked:
            if isinstance(each, Errand):
                tell(each.loop, each.then, self._tried(file, each.do))
        return asked[-1] is None

    def _next(self) -> list[ToKeep | Errand | None]:
        """What is asked for: at least one, and as many as wait."""
        asked = [self.asked.get()]
        try:
            while len(asked) < AT_ONCE:
                asked.append(self.asked.get_nowait())
        except Empty:
            pass
        return asked

    def _keep(self, file: JournalFile | JournalError, results: list[ToKeep]) -> None:
        """One transaction, and then the news, once for each event loop."""
        if not results:
            return
        failure = self._tried(file, lambda file: file.add(map(self._row_of, results)))
        for loop in {each.loop for each in results}:
            tell(loop, _tell_all, [each for each in results if each.loop is loop], failure)

    def _row_of(self, kept: ToKeep) -> tuple[Record, bytes | None]:
        prompt = encoded(getattr(kept.result.prompt, "content", None)) if self._journal.store_prompts else None
        return Record.of(kept.key, kept.result, kept.charge), prompt

    def _tried(self, file: JournalFile | JournalError, do: Callable[[JournalFile], Any]) -> Any:
        """What `do` gives, or the first thing that went wrong with the file."""
        if isinstance(file, JournalError):
            return file
        if self._failure is None:
            try:
                return do(file)
            except Exception as exc:  # whatever it is, it must not end the thread: somebody waits
                self._failure = exc if isinstance(exc, JournalError) else _unusable(exc)
                tried_to_close(file)
        return self._failure


def tell(loop: Loop | None, then: Callable[..., None], *said: Any) -> None:
    """Have `then` told on its event loop, if that is still there; here, if it has none."""
    if loop is None:
        then(*said)
        return
    try:
        loop.call_soon_threadsafe(then, *said)
    except RuntimeError:
        pass  # the loop was closed: nobody is there who waits


def tried_to_close(file: JournalFile) -> None:
    """Let others have a file that went wrong, or that nobody asks for any more."""
    try:
        file.close()
    except JournalError:
        pass


def _tell_all(results: Iterable[ToKeep], failure: JournalError | None) -> None:
    waiting = iter(results)
    try:
        for each in waiting:
            each.then(each.result, failure)
    finally:  # a KeyboardInterrupt cuts this short, and not what the others are told
        for each in waiting:
            each.loop.call_soon(each.then, each.result, failure)


def _unusable(exc: Exception) -> JournalError:
    error = JournalError(f"the journal cannot be used: {type(exc).__name__}: {exc}")
    error.__cause__ = exc
    return error
