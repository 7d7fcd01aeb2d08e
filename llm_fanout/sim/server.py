"""The simulated provider as a web application: Chat Completions, models, and what it saw."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from .account import Account, input_tokens, text_of
from .answers import answer_text, completion, cut_to
from .config import SimConfig
from .faults import STATUSES, ErrorAnswer, Fate, Fates, error_answer, error_body
from .stats import Stats

BODY_LIMIT = 64 * 2**20  # bytes of a request
JSON = {"Content-Type": "application/json"}


class SimServer:
    """One simulated provider; `app` is the web application, `stats` what it saw."""

    def __init__(self, config: SimConfig) -> None:
        self.stats = Stats()
        self._config = config
        self._account = Account(config, time.monotonic())
        self._fates = Fates(config.faults, config.latency, config.jitter, config.seed)
        self.app = web.Application(client_max_size=BODY_LIMIT)
        self.app.router.add_post("/v1/chat/completions", self._chat)
        self.app.router.add_get("/v1/models", self._models)
        self.app.router.add_get("/stats", self._stats)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.stats.arrived(time.monotonic(), request.headers.get("x-stainless-retry-count"))
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            self.stats.gone()
            raise
        finally:
            self.stats.left()

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": "gpt-sim", "object": "model", "created": 0, "owned_by": "llm_fanout"}
        return web.json_response({"object": "list", "data": [model]})

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.stats.snapshot())

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        key = self._config.api_key
        if key is not None and request.headers.get("Authorization") != f"Bearer {key}":
            self.stats.met("401")
            return _error(
                ErrorAnswer(401, JSON, error_body("Incorrect API key.", "invalid_request_error", "invalid_api_key"))
            )
        asked = _read(await request.read())
        if isinstance(asked, str):
            self.stats.met("400")
            return _error(ErrorAnswer(400, JSON, error_body(asked, "invalid_request_error", None)))
        text = "\n".join(text_of(message.get("content")) for message in asked["messages"])
        fate = self._fates.next(text)
        if fate.fault is not None:
            self.stats.met(fate.fault)
        if fate.fault in STATUSES:
            await asyncio.sleep(fate.latency / 4)  # a refusal comes sooner than an answer
            return _error(error_answer(fate.fault, fate.draw))
        return await self._complete(request, asked, fate, text)

    async def _complete(self, request: web.Request, asked: Mapping[str, Any], fate: Fate, text: str) -> web.StreamResponse:
        """Charge the account, take the time, answer, and give back what was not used."""
        most = asked.get("max_completion_tokens", asked.get("max_tokens"))
        answer = answer_text(fate.draw, self._size(fate)) if fate.answer is None else fate.answer
        answer, finish_reason = cut_to(answer, most)
        body = completion(asked["model"], fate.draw, answer, finish_reason, input_tokens(asked["messages"]))
        used = body["usage"]["total_tokens"]
        charged = used if most is None else body["usage"]["prompt_tokens"] + most
        if (refusal := self._account.admit(charged, time.monotonic())) is not None:
            self.stats.refused()
            return _error(refusal)
        try:
            await asyncio.sleep(fate.latency)
            return await self._reply(request, fate, body, text)
        finally:
            self._account.settle(charged, used, time.monotonic())

    async def _reply(self, request: web.Request, fate: Fate, body: dict[str, Any], text: str) -> web.StreamResponse:
        if fate.fault == "hang":
            await asyncio.get_running_loop().create_future()  # until the client hangs up
        if fate.fault == "reset" and request.transport is not None:
            request.transport.abort()
        if fate.fault is None:
            self.stats.answered(text)
        headers = {**JSON, **self._account.headers(time.monotonic())}
        return web.Response(body=_spoiled(fate.fault, body), headers=headers)

    def _size(self, fate: Fate) -> int:
        return max(1, round(self._config.answer_tokens * fate.draw.uniform(0.5, 1.5)))


def _read(body: bytes) -> dict[str, Any] | str:
    """The request, or what is wrong with it."""
    try:
        asked: Any = json.loads(body)
    except ValueError:
        return "We could not parse the JSON body of your request."
    messages = asked.get("messages") if isinstance(asked, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return "'messages' must be a list of one message or more."
    if not isinstance(asked.get("model"), str):
        return "you must provide a model parameter"
    if asked.get("stream"):
        return "the simulated provider does not stream"
    request: dict[str, Any] = asked
    return request


def _spoiled(fault: str | None, body: dict[str, Any]) -> bytes:
    """The answer as `fault` leaves it."""
    if fault == "empty":
        body["choices"] = []
    if fault == "truncated":
        body["choices"][0]["finish_reason"] = None
    if fault == "error200":
        return error_body("The model failed after the answer had begun.", "server_error", None)
    whole = json.dumps(body).encode()
    return whole[: len(whole) // 2] if fault == "malformed" else whole


def _error(answer: ErrorAnswer) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
