"""The ways to models that a client knows: made on first use, put together to steps, let go of at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from ..core.pool import Pool
from ..core.stated import Limits
from ..errors import ConfigError
from ..providers.format import Format
from ..providers.vendors import vendor_at
from ..quotas import QuotaKey, quotas
from . import lanes
from .asking import FunctionProvider, HttpProvider, Provider
from .endpoint import Endpoint, Place, place_of
from .plan import Route, Step
from .proxies import is_socks
from .sent import Sent
from .socks import SocksLane, check_installed
from .wire import Wire

NO_LIMITS = Limits()

Model = str | Endpoint


class Routes:
    """A client's routes by endpoint; iterated over, the pairs of both that are there.

    Args:
        own: The endpoints of the client's own model.
        wire: What carries their requests.
    """

    def __init__(self, own: Sequence[Endpoint], wire: Wire) -> None:
        self.own = tuple(own)
        self._wire = wire
        self._routes: dict[Endpoint, Route] = {}
        self._steps: dict[tuple[Endpoint, ...], Step] = {}
        self._socks: list[SocksLane] = []

    def steps(self, model: Model | None, fallbacks: Sequence[Model] = ()) -> Sequence[Step]:
        """Where a call to `model` (None: the client's own) may be asked, one after another.

        Raises:
            ConfigError: One of them is not known, or has no key.
        """
        return [self._step(self.own if each is None else (self._endpoint(each),)) for each in (model, *fallbacks)]

    def route(self, endpoint: Endpoint) -> Route:
        """The way to `endpoint`, and a hold on its quota.

        Raises:
            ConfigError: It is not known, or has no key.
        """
        if endpoint not in self._routes:
            place = place_of(endpoint)
            provider = _providers(endpoint, place, self._wire, self._socks)
            hold = quotas.join(place.quota, endpoint.limits or NO_LIMITS, self)
            self._routes[endpoint] = Route(place, provider, hold, endpoint.price)
        return self._routes[endpoint]

    def endpoint_of(self, sent: Sent) -> Endpoint:
        """Where `sent` goes: to an endpoint that is known here, by its base URL, key and model, or else to one more, whose
        quota is learnt.
        """
        for endpoint in self.own:
            self.route(endpoint)
        key = QuotaKey.of(sent.base_url, sent.key, sent.request.model)
        known = [(endpoint, route.place) for endpoint, route in self]
        for endpoint, place in known:
            if place.model == key.name and place.base_url == key.base_url and place.quota.is_opened_by(key):
                return endpoint
        beside = next((place.name for _, place in known if place.base_url == key.base_url), None)
        vendor = vendor_at(key.base_url, sent.form) if beside is None else beside.partition("/")[0]
        return Endpoint(f"{vendor}/{key.name}", base_url=key.base_url, api_key=sent.key)

    async def aclose(self) -> None:
        """Close the running loop's connections that are not the wire's, and let go of all quotas; the next use joins them
        again.
        """
        socks = self._socks.copy()
        self._socks.clear()
        for route in self._routes.values():
            route.hold.leave()
        self._routes.clear()
        self._steps.clear()
        for lane in socks:
            await lane.aclose()

    def __iter__(self) -> Iterator[tuple[Endpoint, Route]]:
        return iter(list(self._routes.items()))  # a copy, for other threads may add to them

    def _endpoint(self, model: Model) -> Endpoint:
        """What `model` means here: a name of the client's own is its endpoint, with its limits and its key."""
        if isinstance(model, Endpoint):
            return model
        if not isinstance(model, str):
            raise ConfigError(f"model must be 'provider/model' or an Endpoint, got {model!r}")
        return next((each for each in self.own if each.model == model), Endpoint(model))

    def _step(self, endpoints: tuple[Endpoint, ...]) -> Step:
        step = self._steps.get(endpoints)
        if step is None:
            routes = [self.route(each) for each in endpoints]
            quotas = [route.hold.quota for route in routes]
            step = self._steps[endpoints] = Step(routes, quotas[0] if len(quotas) == 1 else Pool(quotas))
        return step


def _providers(endpoint: Endpoint, place: Place, wire: Wire, socks: list[SocksLane]) -> Callable[[str | None], Provider]:
    """Who answers at `endpoint`, by the name of the API; lanes through a SOCKS proxy are added to `socks`."""
    if endpoint.provider is not None:
        answers: Provider = FunctionProvider(endpoint.provider)
        return lambda api: answers
    if is_socks(place.proxy):
        check_installed(place)
    return cache(lambda api: HttpProvider(_lane(endpoint, place, wire, socks, place.format(api)), place.format(api)))


def _lane(endpoint: Endpoint, place: Place, wire: Wire, socks: list[SocksLane], form: Format) -> lanes.Lane:
    """What carries requests there: the wire, unless a client was passed in or the proxy is none of the wire's."""
    if endpoint.client is not None:
        return lanes.SdkLane(endpoint.client, form)
    if not is_socks(place.proxy):
        return lanes.WireLane(wire, place, form)
    socks.append(SocksLane(place, form))
    return socks[-1]


def own_endpoints(
    model: Model | Sequence[Model], base_url: str | None, api_key: str | None, limits: Limits
) -> tuple[Endpoint, ...]:
    """The endpoints that a client's arguments name.

    Raises:
        ConfigError: They do not go together, or are none.
    """
    if not isinstance(limits, Limits):
        raise ConfigError(f"limits must be Limits(...), got {limits!r}")
    models = [model] if isinstance(model, str | Endpoint) else model
    if not isinstance(models, Sequence) or not models or not all(isinstance(each, str | Endpoint) for each in models):
        raise ConfigError(f"model must be 'provider/model', an Endpoint, or a list of these, got {model!r}")
    said = base_url is not None or api_key is not None
    if said and (len(models) > 1 or isinstance(models[0], Endpoint)):
        raise ConfigError("an Endpoint has its own base_url and api_key; say them there")
    endpoints = [
        each if isinstance(each, Endpoint) else Endpoint(each, base_url=base_url, api_key=api_key) for each in models
    ]
    if len(set(endpoints)) < len(endpoints):
        raise ConfigError(f"the same endpoint is there twice in {models!r}; a second key is another Endpoint(api_key=...)")
    return tuple(each if each.limits is not None else replace(each, limits=limits) for each in endpoints)
