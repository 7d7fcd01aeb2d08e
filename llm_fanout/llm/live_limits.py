"""The limits of a client's quotas, as a mapping that can be read and written while calls are under way."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from ..core.stated import Limits
from ..errors import ConfigError
from .endpoint import Endpoint
from .plan import Route
from .routes import Routes


class LiveLimits(MutableMapping[str, Limits]):
    """By the name of an Endpoint's quota, or else its model: the limits in force.

    Args:
        routes: The client's routes.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def __getitem__(self, name: str) -> Limits:
        found = self._named(name)
        if not found:
            raise KeyError(f"no limits of {name!r}: nothing was sent to it yet; there are those of {list(self)}")
        return found[0].hold.quota.limits()

    def __setitem__(self, name: str, limits: Limits) -> None:
        if not isinstance(limits, Limits):
            raise ConfigError(f"limits must be Limits(...), got {limits!r}")
        for route in self._named(name) or [self._routes.route(Endpoint(name))]:
            route.hold.state(limits)

    def __delitem__(self, name: str) -> None:
        _ = self[name]  # or a KeyError
        self[name] = Limits()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(_name_of(endpoint) for endpoint, _ in self._routes))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))

    def _named(self, name: str) -> list[Route]:
        return [route for endpoint, route in self._routes if _name_of(endpoint) == name]


def _name_of(endpoint: Endpoint) -> str:
    return endpoint.quota or endpoint.model
