"""Tasks that need each other: which may start, what each is given, and which never can.

Theory of operation. A graph is read from its tasks once, when all of them are there; what is done to their lists later
changes nothing. Each value is handed on, as soon as it is there, to those that wait for it, and kept nowhere else: it goes
with the last of them. A task that failed takes all with it that need it, be it through others, in one step: nothing here
calls itself, for a chain may be as long as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from .call import Call
from .core.lanes import DEFAULT
from .errors import CallError, ConfigError, Stopped
from .results import Result
from .task import Task

SHOWN = 8  # tasks of a circle that a message names


class Graph:
    """What tasks wait for.

    Args:
        tasks: All of them, by their positions. One that is there several times is run as often; those that need it get the
            value of the first.

    Raises:
        ConfigError: One needs a task that is not among them, or some need each other in a circle.
    """

    def __init__(self, tasks: Mapping[int, Task[Any]]) -> None:
        self._tasks = tasks
        places: dict[Task[Any], int] = {}
        for index, task in tasks.items():
            places.setdefault(task, index)
        self._waiting = {index: _Wants(task) for index, task in tasks.items()}
        self._dependents: dict[int, list[int]] = {index: [] for index in tasks}
        self._sorter = TopologicalSorter({index: self._places_of(index, places) for index in tasks})
        self._chains = self._longest_chains()
        self._longest = max(self._chains.values(), default=1)
        self._sorter.prepare()

    def ready(self) -> tuple[int, ...]:
        """Those that may start and were not named before."""
        return self._sorter.get_ready()

    def lateness(self, index: int) -> float:
        """How late a task may go: 0 for those that begin the longest chains, nearly 1 for those that nobody needs."""
        return 1 - self._chains[index] / self._longest

    def take(self, index: int) -> tuple[Any, ...]:
        """The arguments of a task that starts; they are let go of here."""
        return self._waiting.pop(index).arguments()

    def succeeded(self, index: int, value: object) -> None:
        """A task has ended, with this value."""
        task = self._tasks[index]
        for dependent in self._dependents.pop(index, ()):
            if dependent in self._waiting:
                self._waiting[dependent].give(task, value)
        self._sorter.done(index)

    def failed(self, index: int) -> list[int]:
        """A task has failed: all that can never start for that, each named once."""
        lost = [index]
        for each in lost:  # it grows meanwhile
            for dependent in self._dependents.pop(each, ()):
                if self._waiting.pop(dependent, None) is not None:
                    lost.append(dependent)
        return lost[1:]

    def name_of(self, index: int) -> str:
        """What a message calls a task."""
        task = self._tasks[index]
        return f"task {index} ({task.name})" if task.id is None else f"task {task.id!r}"

    def _places_of(self, index: int, places: Mapping[Task[Any], int]) -> list[int]:
        """Where those are that a task needs, each of which is told of it."""
        found = []
        for needed in self._waiting[index].needs():
            place = places.get(needed)
            if place is None:
                raise ConfigError(f"{self.name_of(index)} needs {needed!r}, which is not among the tasks; add it to them")
            self._dependents[place].append(index)
            found.append(place)
        return found

    def _longest_chains(self) -> dict[int, int]:
        """How many tasks are in the longest chain that begins with each, itself included."""
        chains: dict[int, int] = {}
        try:
            for index in TopologicalSorter(self._dependents).static_order():
                chains[index] = 1 + max((chains[dependent] for dependent in self._dependents[index]), default=0)
        except CycleError as exc:
            circle = [self.name_of(index) for index in exc.args[1]]
            if len(circle) > SHOWN:
                circle[SHOWN - 1 : -1] = ["..."]
            raise ConfigError(f"tasks need each other in a circle: {' needs '.join(circle)}") from None
        return chains


class _Listed(tuple[Any, ...]):
    """A list or tuple with tasks in it, as it was when the graph was read."""

    __slots__ = ()


class _Wants:
    """What a task that has not started wants of others, and what it has got of that."""

    __slots__ = ("_after", "_args", "_values")

    def __init__(self, task: Task[Any]) -> None:
        self._args = tuple(_Listed(arg) if _has_tasks(arg) else arg for arg in task.args)
        self._values: dict[Task[Any], Any] = dict.fromkeys(_tasks_in(self._args))
        self._after = tuple(task.after)

    def needs(self) -> Iterable[Task[Any]]:
        """Those that have to succeed first, each once."""
        return dict.fromkeys([*self._values, *self._after])

    def give(self, task: Task[Any], value: object) -> None:
        """One of those has succeeded."""
        if task in self._values:
            self._values[task] = value

    def arguments(self) -> tuple[Any, ...]:
        """What its function is called with, once all are done."""
        return tuple(self._argument(arg) for arg in self._args)

    def _argument(self, arg: Any) -> Any:
        return [self._value(each) for each in arg] if isinstance(arg, _Listed) else self._value(arg)

    def _value(self, each: Any) -> Any:
        return self._values[each] if isinstance(each, Task) else each


def _has_tasks(arg: object) -> bool:
    """Whether it is a list or tuple with tasks in it; told by the types of what is in it, for it may be long."""
    return isinstance(arg, list | tuple) and any(issubclass(each, Task) for each in set(map(type, arg)))


def _tasks_in(args: Iterable[object]) -> Iterator[Task[Any]]:
    for arg in args:
        yield from (each for each in (arg if isinstance(arg, _Listed) else (arg,)) if isinstance(each, Task))


class Dependencies:
    """The gate of a run of tasks: each waits there for those that it needs.

    Args:
        graph: What they wait for, where that was read before; else it is read when all have come.
    """

    takes_all = True

    def __init__(self, graph: Graph | None = None) -> None:
        self._graph = graph
        self._held: dict[int, Call[Any]] = {}

    def sift(self, calls: list[Call[Any]]) -> list[Call[Any]]:
        """None goes on before all are there."""
        self._held.update((call.index, call) for call in calls)
        return []

    def complete(self) -> list[Call[Any]]:
        """Those that need no other.

        Raises:
            ConfigError: As for a Graph.
        """
        if self._graph is None:
            self._graph = Graph({index: call.work.item for index, call in self._held.items()})
        return self._let_go(self._graph)

    def begun(self, call: Call[Any]) -> list[Call[Any]]:
        """A value is there at the end."""
        return []

    def over(self, call: Call[Any], result: Result[Any]) -> list[Call[Any]]:
        """Those that need no other any more, or those that need `call` in vain."""
        graph = self._graph
        if graph is None or not self._held:
            return []
        if result.error is not None:
            return self._give_up(graph.failed(call.index), f"{graph.name_of(call.index)} failed", result.error)
        graph.succeeded(call.index, result.value)
        return self._let_go(graph)

    def send_away(self) -> list[Call[Any]]:
        """All that wait; those that are under way find nobody here any more."""
        gone = list(self._held.values())
        self._held.clear()
        self._graph = None
        return gone

    def _let_go(self, graph: Graph) -> list[Call[Any]]:
        """Those that may start, with their arguments."""
        calls = []
        for index in graph.ready():
            call = self._held.pop(index)
            call.work.args = graph.take(index)
            call.work.rank = DEFAULT + graph.lateness(index)
            calls.append(call)
        return calls

    def _give_up(self, lost: list[int], what: str, error: CallError) -> list[Call[Any]]:
        """Those that can never start, with the reason."""
        calls = [self._held.pop(index) for index in lost]
        for call in calls:
            call.stopped = Stopped(f"not started, for {what}: {error.message}", kind="skipped")
            call.stopped.__cause__ = error
        return calls
