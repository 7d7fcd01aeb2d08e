"""What a streamed answer has said so far, and when."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from io import StringIO

from .. import clock

Tell = Callable[[str], object]
Begun = Callable[[], object]


class Heard:
    """Notes the pieces of one attempt's answer as they come.

    Args:
        tell: Gets each piece of text as it comes, if anybody wants it.
        first_try: Whether nothing has gone wrong with the call yet.
        begun: Called when the first piece has come, before anybody gets it.

    Attributes:
        first: Seconds from the start of the attempt to the first piece of text; None before that.
        gaps: Seconds between one piece and the next.
    """

    __slots__ = ("_began", "_gaps", "_last", "_said", "_tell", "begun", "first", "first_try", "gaps")

    def __init__(self, tell: Tell | None = None, *, first_try: bool = True, begun: Begun | None = None) -> None:
        self.first_try = first_try
        self.begun = begun
        self._tell = tell
        self._began = self._last = clock.now()
        self._said: StringIO | None = None  # compact: there may be a million pieces
        self.first: float | None = None
        self.gaps: Sequence[float] = ()

    @property
    def text(self) -> str:
        """All of it so far."""
        return "" if self._said is None else self._said.getvalue()

    @property
    def seconds(self) -> float:
        """Since the attempt began."""
        return clock.now() - self._began

    @property
    def was_told(self) -> bool:
        """Whether somebody has seen a piece: then the answer cannot be asked for anew."""
        return self._tell is not None and self.first is not None

    def hear(self, piece: str) -> None:
        """One more piece of text."""
        now = clock.now()
        if self._said is None:
            self.first = now - self._began
            self.gaps = self._gaps = array("d")
            self._said = StringIO()
            if self.begun is not None:
                self.begun()
        else:
            self._gaps.append(now - self._last)
        self._last = now
        self._said.write(piece)
        if self._tell is not None:
            self._tell(piece)
