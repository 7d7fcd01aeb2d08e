"""The simulated provider as a web application: Chat Completions, models, and what it saw."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from typing import Any

from aiohttp import web

from .account import Account, Refusal
from .answers import Spoken, completion, quoted, spoken
from .asked import Asked, read
from .catalogue import ERRORS, error_answer
from .config import SimConfig
from .dialects import ANNOUNCE
from .faults import Fate, Fates
from .outages import OutageKind
from .refusals import refusal_answer
from .stats import Stats
from .wording import JSON, ErrorAnswer, openai_error

BODY_LIMIT = 64 * 2**20  # bytes of a request
WRONG_KEY = ErrorAnswer(401, JSON, openai_error("Incorrect API key.", "invalid_request_error", "invalid_api_key"))
DOWN = ErrorAnswer(503, JSON, openai_error("The service is temporarily unavailable.", "server_error", None))


class SimServer:
    """One simulated provider; `app` is the web application, `stats` what it saw."""

    def __init__(self, config: SimConfig) -> None:
        now = time.monotonic()
        self.stats = Stats(now)
        self._config = config
        self._epoch = time.time() - now
        self._account = Account(config, now, self._epoch)
        self._announce = ANNOUNCE[config.headers]
        self._fates = Fates(config.faults, config.latency, config.jitter, config.seed)
        self._outage: OutageKind | None = None
        self._cuts = 0  # outages so far that cut connections
        self.app = web.Application(client_max_size=BODY_LIMIT)
        self.app.router.add_post("/v1/chat/completions", self._chat)
        self.app.router.add_get("/v1/models", self._models)
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
        self._config = config
        self._account.retune(config, time.monotonic())
        self._fates.latency = config.latency

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.stats.arrived(time.monotonic(), request.headers.get("x-stainless-retry-count"))
        cuts = self._cuts
        try:
            return await self._admitted(request)
        except asyncio.CancelledError:
            if self._cuts == cuts:
                self.stats.gone()
            else:
                self.stats.cut()
            raise
        finally:
            self.stats.left()

    async def _models(self, request: web.Request) -> web.Response:
        if self._outage is not None:
            return _error(DOWN)
        model = {"id": "gpt-sim", "object": "model", "created": 0, "owned_by": "llm_fanout"}
        return web.json_response({"object": "list", "data": [model]})

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.stats.snapshot())

    async def _admitted(self, request: web.Request) -> web.StreamResponse:
        """Answer, unless the provider is down, the key is wrong, or too many calls are under way: all said at once."""
        if self._outage is not None:
            self.stats.met("outage", time.monotonic())
            return _error(DOWN)
        key = self._config.api_key
        if key is not None and request.headers.get("Authorization") != f"Bearer {key}":
            self.stats.met("401", time.monotonic())
            return _error(WRONG_KEY)
        if (refusal := self._account.enter()) is not None:
            return self._refuse(refusal, time.monotonic())
        try:
            return await self._answer(request)
        finally:
            self._account.leave()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = read(await request.read())
        if isinstance(asked, str):
            self.stats.met("400", time.monotonic())
            return _error(ErrorAnswer(400, JSON, openai_error(asked, "invalid_request_error", None)))
        fate = self._fates.next(asked.text)
        if fate.fault is not None:
            self.stats.met(fate.fault, time.monotonic())
        if fate.fault in ERRORS:
            await asyncio.sleep(fate.latency / 4)  # a refusal comes sooner than an answer
            return _error(error_answer(fate.fault, fate.draw, fate.wait))
        return await self._complete(request, asked, fate)

    async def _complete(self, request: web.Request, asked: Asked, fate: Fate) -> web.StreamResponse:
        """Charge the account, take the time, answer, and give back what was not used."""
        said, reserved = None, asked.most
        if reserved is None:  # where no length is stated, the answer's own is charged
            said = self._say(asked, fate)
            reserved = said.tokens
        now = time.monotonic()
        charge = self._account.admit(asked.tokens, reserved, now)
        if isinstance(charge, Refusal):
            return self._refuse(charge, now)
        self.stats.admitted(charge.tokens_in + charge.tokens_out, now)
        said = said or self._say(asked, fate)
        try:
            await asyncio.sleep(fate.latency)
            return await self._reply(request, asked, fate, said)
        finally:
            self._account.settle(charge, said.tokens, time.monotonic())

    async def _reply(self, request: web.Request, asked: Asked, fate: Fate, said: Spoken) -> web.StreamResponse:
        if fate.fault == "hang":
            await asyncio.get_running_loop().create_future()  # until the client hangs up
        if fate.fault == "reset" and request.transport is not None:
            request.transport.abort()
        now = time.monotonic()
        if fate.fault is None:
            self.stats.answered(asked.text, asked.tokens + said.tokens, now)
        body = completion(asked.model, fate.draw, said, asked.tokens)
        return web.Response(body=_spoiled(fate.fault, body), headers={**self._announced(now), **JSON})

    def _say(self, asked: Asked, fate: Fate) -> Spoken:
        if fate.answer is not None:
            return quoted(fate.answer, asked.most)
        size = max(1, round(self._config.answer_tokens * fate.draw.uniform(0.5, 1.5)))
        return spoken(fate.draw, size, asked.most)

    def _refuse(self, refusal: Refusal, now: float) -> web.Response:
        self.stats.refused(refusal.reason, now)
        config = self._config
        return _error(refusal_answer(refusal, config.hints, config.headers, partial(self._announced, now)))

    def _announced(self, now: float) -> dict[str, str]:
        return self._announce(self._account.quotas, now, now + self._epoch)


def _spoiled(fault: str | None, body: dict[str, Any]) -> bytes:
    """The answer as `fault` leaves it."""
    if fault == "empty":
        body["choices"] = []
    if fault == "truncated":
        body["choices"][0]["finish_reason"] = None
    if fault == "error200":
        return openai_error("The model failed after the answer had begun.", "server_error", None)
    whole = json.dumps(body).encode()
    return whole[: len(whole) // 2] if fault == "malformed" else whole


def _error(answer: ErrorAnswer) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
