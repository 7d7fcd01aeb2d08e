"""Hand it any number of LLM calls and one quota; it finishes them as early as the provider allows, never loses a result,
and says what happened.

    from llm_fanout import fan_out_sync

    report = fan_out_sync(["What is 2 + 2?", "Name a colour."], model="sim/demo")
    print(report)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core.stated import Limits as Limits
    from .errors import BadReply as BadReply
    from .errors import CallError as CallError
    from .errors import ConfigError as ConfigError
    from .errors import FanOutError as FanOutError
    from .errors import JournalError as JournalError
    from .errors import RateLimited as RateLimited
    from .errors import Rejected as Rejected
    from .errors import RunFailed as RunFailed
    from .errors import Stopped as Stopped
    from .errors import Unavailable as Unavailable
    from .executor import Executor as Executor
    from .llm.background import fan_out_sync as fan_out_sync
    from .llm.client import FanOut as FanOut
    from .llm.client import fan_out as fan_out
    from .llm.endpoint import Endpoint as Endpoint
    from .llm.prompt import Prompt as Prompt
    from .llm.stream import Stream as Stream
    from .llm.vote import Vote as Vote
    from .results import Report as Report
    from .results import Result as Result
    from .results import ToolCall as ToolCall
    from .run import Run as Run
    from .scope import Scope as Scope
    from .spending import Usage as Usage
    from .summary import Summary as Summary
    from .task import Task as Task

# Where each public name lives; a module is imported when one of its names is first used.
_HOMES = {
    "core.stated": ("Limits",),
    "errors": (
        "BadReply",
        "CallError",
        "ConfigError",
        "FanOutError",
        "JournalError",
        "RateLimited",
        "Rejected",
        "RunFailed",
        "Stopped",
        "Unavailable",
    ),
    "executor": ("Executor",),
    "llm.background": ("fan_out_sync",),
    "llm.client": ("FanOut", "fan_out"),
    "llm.endpoint": ("Endpoint",),
    "llm.prompt": ("Prompt",),
    "llm.stream": ("Stream",),
    "llm.vote": ("Vote",),
    "results": ("Report", "Result", "ToolCall"),
    "run": ("Run",),
    "scope": ("Scope",),
    "spending": ("Usage",),
    "summary": ("Summary",),
    "task": ("Task",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605  # the list is the table above
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
