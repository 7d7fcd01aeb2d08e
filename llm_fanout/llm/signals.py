"""What a provider did, and what follows: every answer, stream and failure becomes an Outcome here, in every lane.

The order of the rules:

1. our own cancellation, which never gets here: `CancelledError` passes, and is nobody's failure;
2. `x-should-retry`, on whether to try again (the caps still hold), and on nothing else;
3. the body's own words (a 429 may be an empty account): its codes, then its message;
4. for a 429, the limit that it names;
5. the status: an unknown 4xx is final for the call, an unknown 5xx is tried again.

Headers say only for how long (`hints`). The rows are in `reactions`; nothing else in the package looks at a status.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from errno import EMFILE, ENFILE

from ..core.announced import Announced
from ..core.job import Cost, Outcome
from ..core.retry import Again
from ..errors import ERROR_OF_KIND, CallError, Kind
from . import hints, reactions
from .reactions import Flaw, Reaction
from .redaction import redacted

Headers = hints.Headers

MESSAGE_LIMIT = 500  # characters of an error that somebody else worded
WORTH_WAITING: frozenset[Kind] = frozenset({"rate_limited", "credit"})  # kinds whose told wait is worth telling where final

_STATUS = re.compile("[45][0-9]{2}")


def is_success(status: int) -> bool:
    """Whether an answer of this HTTP status is one to the question."""
    return 200 <= status < 300


def of_answer(status: int, headers: Headers, body: bytes) -> Outcome:
    """What follows from an answer that is an error.

    Args:
        status: The HTTP status; a success only if the answer carries an `error` object.
        headers: As they came; names in any case.
        body: As it came: JSON in one of the providers' shapes, HTML, or nothing.
    """
    return _of_error(status, headers, body, otherwise="malformed")


def of_event(headers: Headers, data: bytes, partial: str = "") -> Outcome:
    """What follows from an error event in a stream that had begun as a success.

    Args:
        headers: The answer's.
        data: The event's: the same JSON that an answer with an error has for a body.
        partial: The text that had come before.
    """
    return _of_error(200, headers, data, otherwise="truncated", partial=partial)


def unusable(
    kind: Flaw, why: str, *, status: int | None = None, partial: str = "", announced: Announced | None = None
) -> Outcome:
    """What follows from an answer that came as a success, or from a stream that began as one, and is none.

    Args:
        kind: What is wrong; "truncated" for a stream that broke off, or has a chunk that cannot be read.
        why: The same in a sentence.
        partial: The text that there is all the same.
        announced: What its headers say of the quota.
    """
    return _outcome(reactions.FLAWS[kind], hints.one_line(why), status=status, partial=partial, announced=announced)


def of_exception(exc: BaseException, *, partial: str = "", first: bool = False) -> Outcome:
    """What follows from a call that ended without an answer, or in the middle of one.

    The exception itself is not kept: those of HTTP libraries and SDKs hold the request, and with it the API key.

    Args:
        partial: The text that had come before.
        first: Whether nothing has gone wrong with this call yet: if a connection broke before any answer, the next try
            is made at once then, for most likely the server had dropped it while it was idle.
    """
    chain = _chain(exc)
    reaction = _reaction_to(chain)
    if reaction is reactions.STALE and not first:
        reaction = reactions.RESET  # not by chance any more: it may be what the call asks for that breaks them
    words = " <- ".join(f"{type(each).__name__}: {each}".rstrip(": ") for each in chain)
    outcome = _outcome(reaction, hints.one_line(words), partial=partial)
    outcome.heard = False
    if first and reaction.retry_now:
        outcome.told = 0.0
    return outcome


def of_error(error: CallError) -> Outcome:
    """What follows from an error of ours that the user's own function raised: the reaction that its class promises."""
    reaction = reactions.RAISED[error.kind]
    told = error.retry_after if reaction.again is Again.PUSHBACK else None
    return Outcome(
        reaction.again,
        told=told,
        gate=reaction.gate,
        shrink=reaction.shrink and told is None,
        outage=reaction.outage,
        error=error,
        elsewhere=reaction.elsewhere,
    )


def timed_out(seconds: float, partial: str = "") -> Outcome:
    """What follows from an attempt that took longer than its timeout."""
    why = f"no answer within {seconds:g} s; raise timeout= if answers need longer"
    return _outcome(reactions.TIMEOUT, why, partial=partial)


def stalled(seconds: float, partial: str = "") -> Outcome:
    """What follows from a stream in which nothing came for so long, or nothing but comments that keep it open."""
    why = (
        f"the stream stalled: nothing of the answer came for {seconds:g} s; raise timeout's read if it may pause for longer"
    )
    return _outcome(reactions.TIMEOUT, why, partial=partial)


def _of_error(status: int, headers: Headers, body: bytes, *, otherwise: Flaw, partial: str = "") -> Outcome:
    lower = {name.lower(): value for name, value in headers.items()}
    error, wall = hints.error_in(body), time.time()
    text = hints.text_in(error, body)
    told = hints.told_wait(lower, error, text, wall)
    meant = _meant(status, error)
    limit = hints.limit_hit(lower, error, text, wall) if meant == 429 else None
    reaction = _body_says(meant, error, text) or _status_says(meant, limit, told)
    if reaction is None or (is_success(status) and reaction is reactions.SERVER):
        reaction = reactions.FLAWS[otherwise]  # a server that begins an answer is not down, whatever broke in the middle
    waits = reaction.again is not Again.NO or reaction.kind in WORTH_WAITING
    return _outcome(
        _obeying(lower.get("x-should-retry"), reaction),
        _message(status, lower.get("location"), text),
        status=status,
        told=told if waits else None,
        partial=partial,
        announced=hints.announced(lower, wall),
    )


def _outcome(
    reaction: Reaction,
    message: str,
    *,
    status: int | None = None,
    told: float | None = None,
    partial: str = "",
    announced: Announced | None = None,
) -> Outcome:
    """The outcome that says `reaction`, with its error. What has come of an answer was paid for."""
    said = redacted(message)[:MESSAGE_LIMIT]  # not cut before that: half a URL does not look like one
    if reaction.advice:
        said = f"{said.rstrip('. ')}; {reaction.advice}"
    return Outcome(
        reaction.again,
        told=told,
        gate=reaction.gate,
        shrink=reaction.shrink,
        outage=reaction.outage,
        announced=announced,
        used=None if reaction.spent or partial else Cost(tokens=0.0),
        error=ERROR_OF_KIND[reaction.kind](said, kind=reaction.kind, status=status, retry_after=told, partial=partial),
        closes=reaction.closes,
        closes_at_once=reaction.closes_at_once,
        elsewhere=reaction.elsewhere,
    )


def _message(status: int, location: str | None, text: str) -> str:
    if 300 <= status < 400:
        # It would take the key along. Where it leads tells what is wrong with base_url; its query may hold a secret.
        where = "" if location is None else f" to {re.split('[?#]', hints.one_line(location))[0]}"
        return f"{status} from the provider: a redirect{where}, which is not followed"
    inside = "an error inside a " if is_success(status) else ""
    return f"{inside}{status} from the provider: {text or '(an empty body)'}"


def _meant(status: int, error: hints.Error) -> int:
    """The status that the answer should have had: the error inside a success may say so."""
    if not is_success(status):
        return status
    for word in hints.words_in(error):
        if word in reactions.STATUS_OF:
            return reactions.STATUS_OF[word]
        if _STATUS.fullmatch(word):
            return int(word)
    return status


def _body_says(status: int, error: hints.Error, text: str) -> Reaction | None:
    """The reaction to the body's own words; None if the table has none of them."""
    for word in hints.words_in(error):
        if word in reactions.CODES:
            return reactions.CODES[word]
        if word.endswith(reactions.SPENT_UP):
            return reactions.CREDIT
    for statuses, pattern, reaction in reactions.TEXTS:
        if status in statuses and pattern.search(text):
            return reaction
    return None


def _status_says(status: int, limit: hints.LimitHit | None, told: float | None) -> Reaction | None:
    """The reaction to a status by itself; None for a success, which says nothing of the error in it."""
    if status == 429 and limit is not None:
        return reactions.LIMITS[limit]
    if status == 429:
        # A time without a reason is an instruction to all. Refused again after that, there were too many at once; but one
        # answer cannot know that it is the second.
        return reactions.WAIT if told is None else reactions.RATE
    if status == 402 and told is not None:
        return reactions.WAIT  # OpenRouter: what is under way has used up the balance for now
    if status in reactions.STATUSES:
        return reactions.STATUSES[status]
    if status < 400:
        return reactions.WRONG_URL if status >= 300 else None
    return reactions.SERVER if status >= 500 else reactions.INVALID


def _obeying(should_retry: str | None, reaction: Reaction) -> Reaction:
    """The reaction, overruled by `x-should-retry`: the provider knows best whether the same call may work."""
    if should_retry == "false":
        return replace(reaction, again=Again.NO)
    if should_retry == "true" and reaction.again is Again.NO:
        return replace(reaction, again=Again.TRANSIENT, closes="", closes_at_once=False)
    return reaction


def _chain(exc: BaseException) -> list[BaseException]:
    """`exc` and what caused it, outermost first."""
    chain = [exc]
    while (cause := _cause_of(chain[-1])) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _cause_of(exc: BaseException) -> BaseException | None:
    if isinstance(exc, BaseExceptionGroup):
        return exc.exceptions[0]  # anyio: one for each address that was tried
    return exc.__cause__ or exc.__context__


def _reaction_to(chain: list[BaseException]) -> Reaction:
    if any(map(_is_out_of_files, chain)):
        return reactions.NO_ROOM
    if any(map(_is_unanswered, chain)):
        return reactions.RESET
    if any(map(_is_refused_by_proxy, chain)):
        return reactions.NO_PASSAGE
    found = (_known(chain, table) for table in (reactions.CAUSES, reactions.EXCEPTIONS, reactions.WRAPPERS))
    return next((reaction for reaction in found if reaction is not None), reactions.OUR_FAULT)


def _is_out_of_files(exc: BaseException) -> bool:
    """By number, or by what it says: asyncio and aiohttp make one OSError of several, without a number."""
    return isinstance(exc, OSError) and (exc.errno in (EMFILE, ENFILE) or "too many open files" in str(exc).lower())


def _is_unanswered(exc: BaseException) -> bool:
    """By what it says: to httpx and httpx2 it is of the class of answers that were cut."""
    return type(exc).__name__ == "RemoteProtocolError" and "without sending a response" in str(exc)


def _is_refused_by_proxy(exc: BaseException) -> bool:
    """By name and what it says: aiohttp's and httpx2's, for a tunnel that a proxy does not make without a login."""
    return type(exc).__name__ in ("ClientHttpProxyError", "ProxyError") and str(exc).startswith("407")


def _known(chain: list[BaseException], table: Mapping[str, Reaction]) -> Reaction | None:
    for exc in chain:
        for ancestor in type(exc).__mro__:
            if ancestor.__name__ in table:
                return table[ancestor.__name__]
    return None
