"""What becomes of a request that is let in: it is read, meets its fate, is charged, and is answered in its time."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from .account import Account, Refusal
from .answers import Spoken, answer_to
from .apis import Api, Reply
from .asked import Asked, Unreadable, parsed
from .bodies import Pace, body_of
from .catalogue import ERRORS, error_answer
from .config import Dialect, SimConfig
from .delivery import Delivery
from .dialects import ANNOUNCE
from .faults import Fate, Fates
from .prefixes import Prefixes
from .refusals import refusal_answer
from .stats import Stats
from .wording import JSON, ErrorAnswer, openai_error

FIRST_SHARE = 0.25  # of the time of an answer, until a stream has its first piece; models differ widely


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        api: The API that it came by.
        request: What came.
        id: What it is called in answers.
        at: Monotonic seconds of its arrival.
    """

    api: Api
    request: web.Request
    id: str
    at: float

    def error(self, answer: ErrorAnswer) -> web.Response:
        """An error, as this API says it."""
        said = self.api.vendor.error(answer, self.id)
        return web.Response(status=said.status, headers=said.headers, body=said.body)


class Calls:
    """Answers calls, against one account.

    Args:
        config: What the provider is like.
        stats: Is told what happens.
        now: Monotonic seconds.
    """

    def __init__(self, config: SimConfig, stats: Stats, now: float) -> None:
        self._config = config
        self._stats = stats
        self._epoch = time.time() - now
        self._account = Account(config, now, self._epoch)
        self._fates = Fates(config.faults, config.latency, config.jitter, config.seed)
        self._prefixes = Prefixes()

    def retune(self, config: SimConfig) -> None:
        """Adopt the capacity and the latency of `config`; what is charged and under way stays so."""
        self._config = config
        self._account.retune(config, time.monotonic())
        self._fates.latency = config.latency

    async def answer(self, call: Call) -> web.StreamResponse:
        """The answer to `call`, unless too many are under way."""
        if (refusal := self._account.enter()) is not None:
            return self._refuse(call, refusal, time.monotonic())
        try:
            return await self._answer(call)
        except Unreadable as exc:
            self._stats.met("400", time.monotonic())
            return call.error(ErrorAnswer(400, JSON, openai_error(str(exc), "invalid_request_error", None)))
        finally:
            self._account.leave()

    async def _answer(self, call: Call) -> web.StreamResponse:
        asked = _read(call.api, await call.request.read())
        self._stats.read(asked.text, call.at, streams=asked.streams)
        fate = self._fates.next(asked.text)
        if fate.fault is not None:
            self._stats.met(fate.fault, time.monotonic())
        if fate.fault in ERRORS:
            await asyncio.sleep(fate.latency / 4)  # a refusal comes sooner than an answer
            return call.error(error_answer(fate.fault, fate.draw, fate.wait))
        return await self._complete(call, asked, fate)

    async def _complete(self, call: Call, asked: Asked, fate: Fate) -> web.StreamResponse:
        """Charge the account, answer, and give back what was not used."""
        said, reserved = None, asked.most
        if reserved is None or asked.form.schema is not None:  # a schema that cannot be met is refused before it costs
            said = self._say(asked, fate)
            reserved = said.tokens if reserved is None else reserved  # the answer's own length, where none is stated
        now = time.monotonic()
        charge = self._account.admit(asked.tokens, reserved, now)
        if isinstance(charge, Refusal):
            return self._refuse(call, charge, now)
        self._stats.admitted(charge.tokens_in + charge.tokens_out, now)
        said = said or self._say(asked, fate)
        try:
            return await self._reply(call, asked, fate, said)
        finally:
            self._account.settle(charge, said.tokens, time.monotonic())

    async def _reply(self, call: Call, asked: Asked, fate: Fate, said: Spoken) -> web.StreamResponse:
        """The answer, in its time."""
        reply = Reply(f"{fate.draw.getrandbits(48):012x}", int(time.time()), asked, said, self._prefixes.cached(asked))
        head = partial(self._begin, call.api, asked, fate)
        if fate.fault is not None or asked.streams:
            body = body_of(call.api, reply, self._pace(fate), fate.draw, fate.fault)
            delivery = Delivery(call.request, head)
            answer = await delivery.send(body, asyncio.get_running_loop().time())
        else:  # as quick as can be: most are
            await asyncio.sleep(fate.latency)
            whole = json.dumps(call.api.whole(reply)).encode()
            answer = web.Response(body=whole, headers={**head(), **JSON})
        if fate.fault is None:
            self._stats.answered(asked.text, asked.tokens + said.tokens, time.monotonic(), asked.form.kind)
        return answer

    def _begin(self, api: Api, asked: Asked, fate: Fate) -> dict[str, str]:
        """The headers of an answer that begins now: its prompt was read, and is cached."""
        if fate.fault is None:
            self._prefixes.keep(asked)
        return self._announced(api)

    def _pace(self, fate: Fate) -> Pace:
        config = self._config
        share = FIRST_SHARE if config.ttft is None else min(1.0, config.ttft / (config.latency or 1.0))
        return Pace(fate.latency, fate.latency * share, config.jitter)

    def _say(self, asked: Asked, fate: Fate) -> Spoken:
        try:
            return answer_to(asked, fate.draw, self._config.answer_tokens, fate.answer)
        except ValueError as exc:
            raise Unreadable(str(exc)) from exc

    def _refuse(self, call: Call, refusal: Refusal, now: float) -> web.Response:
        self._stats.refused(refusal.reason, now)
        announced = partial(self._announced, call.api)
        return call.error(refusal_answer(refusal, self._config.hints, self._dialect(call.api), announced))

    def _announced(self, api: Api) -> dict[str, str]:
        """The rate limit headers of now."""
        now = time.monotonic()
        return ANNOUNCE[self._dialect(api)](self._account.quotas, now, now + self._epoch)

    def _dialect(self, api: Api) -> Dialect:
        configured = self._config.headers
        return configured if api.vendor.dialect is None or configured == "none" else api.vendor.dialect


def _read(api: Api, raw: bytes) -> Asked:
    """What is asked. Raises Unreadable."""
    body = parsed(raw)
    try:
        return api.read(body)
    except (LookupError, TypeError, AttributeError, RecursionError) as exc:
        raise Unreadable(f"a part of the request is amiss: {exc!r}") from exc
