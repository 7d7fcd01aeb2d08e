"""Errors that were raised into a body and swallowed or wrapped there: they come out where it ends."""

from __future__ import annotations

import asyncio
import gc
import traceback
import weakref

import pytest

from llm_fanout.errors import Stopped
from llm_fanout.notes import Notes


def noted(notes: Notes, message: str = "spent") -> Stopped:
    error = Stopped(message, kind="budget")
    notes.add(error)
    return error


def test_what_was_swallowed_is_raised_at_the_end() -> None:
    """A body that goes on as if nothing had happened ends by the first error that it was told."""
    notes = Notes()
    first = noted(notes, "first")
    with pytest.raises(Stopped) as caught, notes:
        noted(notes, "second")

    assert caught.value is first


def test_a_body_that_was_told_nothing() -> None:
    """Nothing is raised where nothing was noted, and an exception goes on."""
    with Notes():
        pass
    with pytest.raises(ZeroDivisionError), Notes():
        raise ZeroDivisionError


def wrap(error: Stopped, *, hidden: bool = False) -> None:
    """What a framework makes of `error`, which a call in it raises."""
    try:
        raise error
    except Stopped as exc:
        if hidden:
            raise KeyError("framework") from None
        raise ValueError("framework") from exc


def wrap_again(error: Stopped, *, hidden: bool) -> None:
    """What another framework makes of that."""
    try:
        wrap(error, hidden=hidden)
    except (ValueError, KeyError) as exc:
        raise RuntimeError("agent failed") from exc


@pytest.mark.parametrize("hidden", [False, True])
def test_what_was_wrapped_is_raised_from_its_wrapping(hidden: bool) -> None:
    """An error of a framework's own, raised from a noted one or while it was handled, however deep: that one comes out."""
    notes = Notes()
    with pytest.raises(Stopped, match="spent") as caught, notes:
        wrap_again(noted(notes), hidden=hidden)

    assert (caught.value.kind, str(caught.value.__cause__)) == ("budget", "agent failed")
    assert "agent failed" in "".join(traceback.format_exception(caught.value))


def test_the_chain_has_no_circle() -> None:
    """Whoever walks the chain of what is raised comes to an end: the error in it is another than the one at its head."""
    notes = Notes()
    with pytest.raises(Stopped) as caught, notes:
        wrap(noted(notes))

    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__cause__ is not caught.value


def test_a_group_of_nothing_else_counts() -> None:
    """Tasks of a group that were all told so: the group is the wrapping. Another error among them goes on."""
    notes = Notes()
    with pytest.raises(Stopped, match="spent"), notes:
        raise ExceptionGroup("tasks", [noted(notes), ExceptionGroup("more", [noted(notes)])])
    with pytest.raises(ExceptionGroup), notes:
        raise ExceptionGroup("tasks", [noted(notes), ZeroDivisionError()])


@pytest.mark.parametrize("other", [ZeroDivisionError(), asyncio.CancelledError(), Stopped("another's"), KeyboardInterrupt()])
def test_anything_else_goes_on(other: BaseException) -> None:
    """An exception that has nothing to do with what was noted is not replaced, nor a cancellation, nor another Stopped."""
    notes = Notes()
    noted(notes)
    with pytest.raises(type(other)) as caught, notes:
        raise other

    assert caught.value is other


@pytest.mark.parametrize("cls", [asyncio.CancelledError, Stopped])
def test_what_is_raised_while_one_is_handled_goes_on(cls: type[BaseException]) -> None:
    """A task that is cancelled while it handles a noted error is cancelled, and another Stopped says enough itself."""
    notes = Notes()

    def body() -> None:
        try:
            raise noted(notes)
        except Stopped as exc:
            raise cls("mine") from exc

    with pytest.raises(cls, match="mine"), notes:
        body()


def test_a_noted_error_that_leaves_the_body_is_itself() -> None:
    """Nobody in between: the error that was raised is the one that comes out, with nothing around it."""
    notes = Notes()
    error = noted(notes)
    with pytest.raises(Stopped) as caught, notes:
        raise error

    assert caught.value is error
    assert caught.value.__cause__ is None


def test_memory_is_flat_for_a_body_that_does_not_listen() -> None:
    """Of the errors after the first nothing is kept, once whoever was told has dropped them."""
    notes = Notes()
    noted(notes)
    later = weakref.ref(noted(notes))
    gc.collect()

    assert later() is None
