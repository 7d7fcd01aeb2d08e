"""The simulated provider as a web application: its doors, and what stands before them."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import count

from aiohttp import web

from .apis import APIS, Api
from .apis.models import model, models
from .calls import Call, Calls
from .config import SimConfig
from .outages import OutageKind
from .stats import Stats
from .wording import JSON, ErrorAnswer, openai_error

MODELS = ("/v1/models", "/v1/v1/models")  # as for Messages: Anthropic's SDK puts a /v1 before them in any case
BODY_LIMIT = 64 * 2**20  # bytes of a request
WRONG_KEY = ErrorAnswer(401, JSON, openai_error("Incorrect API key.", "invalid_request_error", "invalid_api_key"))
DOWN = ErrorAnswer(503, JSON, openai_error("The service is temporarily unavailable.", "server_error", None))


class SimServer:
    """One simulated provider; `app` is the web application, `stats` what it saw."""

    def __init__(self, config: SimConfig) -> None:
        now = time.monotonic()
        self.stats = Stats(now)
        self._calls = Calls(config, self.stats, now)
        self._key = config.api_key
        self._numbers = count(1)
        self._outage: OutageKind | None = None
        self._cuts = 0  # outages so far that cut connections
        self.app = web.Application(client_max_size=BODY_LIMIT)
        for api in APIS:
            for path in api.paths:
                self.app.router.add_post(path, partial(self._call, api))
        for path in MODELS:
            self.app.router.add_get(path, self._models)
            self.app.router.add_get(path + "/{id:.+}", self._models)
        self.app.router.add_get("/stats", self._stats)

    def fail(self, kind: OutageKind) -> None:
        """Be down; an outage that lasts already goes on as this kind. Whoever has the port closes it."""
        if self._outage is None:
            self.stats.failed(kind, time.monotonic())
        self._outage = kind
        self._cuts += kind == "refused"

    def recover(self) -> None:
        """Be up again, with the account and everything as before."""
        if self._outage is not None:
            self.stats.recovered(time.monotonic())
        self._outage = None

    def retune(self, config: SimConfig) -> None:
        """Adopt the capacity and the latency of `config`; what is charged and under way stays so."""
        self._calls.retune(config)

    async def _call(self, api: Api, request: web.Request) -> web.StreamResponse:
        call = Call(api, request, f"req_sim_{next(self._numbers):08d}", time.monotonic())
        self.stats.arrived(call.at, api.paths[0], request.headers.get("x-stainless-retry-count"))
        cuts = self._cuts
        try:
            return await self._admitted(call)
        except asyncio.CancelledError:
            self._broken_off(cuts)
            raise
        except ConnectionError:
            self._broken_off(cuts)
            return web.Response()  # nobody gets it; aiohttp logs what is raised, with a traceback
        finally:
            self.stats.left()

    def _broken_off(self, cuts: int) -> None:
        """A request has lost its connection; it came after so many `cuts`."""
        if self._cuts == cuts:
            self.stats.gone()
        else:
            self.stats.cut()

    async def _admitted(self, call: Call) -> web.StreamResponse:
        """Answer, unless the provider is down or the key is wrong: said at once."""
        if self._outage is not None:
            self.stats.met("outage", call.at)
            return call.error(DOWN)
        if self._key is not None and call.api.vendor.key_in(call.request.headers) != self._key:
            self.stats.met("401", call.at)
            return call.error(WRONG_KEY)
        return await self._calls.answer(call)

    async def _models(self, request: web.Request) -> web.Response:
        if self._outage is not None:
            return web.Response(status=DOWN.status, headers=DOWN.headers, body=DOWN.body)
        name = request.match_info.get("id")
        return web.json_response(models() if name is None else model(name))

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.stats.snapshot())
