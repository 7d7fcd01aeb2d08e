"""The limits of a client's quotas, as a mapping that can be read and written while calls are under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping

from ..core.stated import Limits
from ..errors import ConfigError
from .calls import Route
from .endpoint import Endpoint


class LiveLimits(MutableMapping[str, Limits]):
    """By the name of an Endpoint's quota, or else its model: the limits in force.

    Args:
        routes: The client's routes by endpoint; read as a copy each time, for other threads may add to them.
        route_to: Makes the route to a model that was not used yet.
    """

    def __init__(self, routes: Mapping[Endpoint, Route], route_to: Callable[[str], Route]) -> None:
        self._routes = routes
        self._route_to = route_to

    def __getitem__(self, name: str) -> Limits:
        found = self._named(name)
        if not found:
            raise KeyError(f"no limits of {name!r}: nothing was sent to it yet; there are those of {list(self)}")
        return found[0].hold.quota.limits()

    def __setitem__(self, name: str, limits: Limits) -> None:
        if not isinstance(limits, Limits):
            raise ConfigError(f"limits must be Limits(...), got {limits!r}")
        for route in self._named(name) or [self._route_to(name)]:
            route.hold.state(limits)

    def __delitem__(self, name: str) -> None:
        _ = self[name]  # or a KeyError
        self[name] = Limits()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(_name_of(endpoint) for endpoint in list(self._routes)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))

    def _named(self, name: str) -> list[Route]:
        return [route for endpoint, route in list(self._routes.items()) if _name_of(endpoint) == name]


def _name_of(endpoint: Endpoint) -> str:
    return endpoint.quota or endpoint.model
