"""When to try again, and when to stop trying.

Theory of operation. Four things can send a call round again, and each is counted apart:

- a *transient* failure (timeout, reset, 5xx): at most `max_retries` of them;
- a *bad reply* (cut, empty, malformed): at most `BAD_REPLY_RETRIES`, because each one is billed;
- a *repair* (a good reply of the wrong form, and what is wrong with it is said): at most `REPAIRS`, and at once;
- *pushback* (429): not counted at all, for it says nothing about the call; only `retry_for` and the deadline bound it.

The wait is full jitter, `random * min(base * 2**n, cap)`, unless the other side named one: a told wait is never
shortened, and lengthened only a little, so that those who were told the same do not come back in one instant.

All calls of a quota together have a budget for retries, so that trouble is not answered with a multiple of the traffic.
While it is empty a retry waits for it, and is not lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .checks import check_seconds
from .limits import TokenBucket

if TYPE_CHECKING:
    from .quota import Quota

TRANSIENT = (0.5, 8.0)  # openai SDK 3.54: INITIAL_RETRY_DELAY, MAX_RETRY_DELAY
PUSHBACK = (1.0, 60.0)  # AWS SDKs, standard mode: throttling waits longer than transient faults
BAD_REPLY_RETRIES = 2
REPAIRS = 2  # whatever `max_retries` is: it is not the same call again, but one that says more
TOLD_JITTER = (0.05, 0.25)  # a told wait grows by at most 5 % and never by more than this many seconds

RETRY_TOKENS = 500.0  # botocore 1.44, standard mode (retries/quota.py): 35 transient retries, or 100 after refusals
TRANSIENT_TOKENS = 14.0  # the same
PUSHBACK_TOKENS = 5.0  # the same
SUCCESS_TOKENS = 1.0  # the same: what an answer that needed no retry brings
RETRY_TOKENS_A_SECOND = 70.0  # ours: five transient retries a second always pass, or the last calls would wait for ever


class Again(Enum):
    """Why a call may be tried again."""

    NO = "no"
    TRANSIENT = "transient"
    BAD_REPLY = "bad_reply"
    REPAIR = "repair"
    PUSHBACK = "pushback"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How hard one call tries.

    Args:
        max_retries: Tries after the first that transient failures may cost, >= 0.
        retry_for: Seconds after its first start within which a call may start again; `inf`: no bound.
    """

    max_retries: int = 5
    retry_for: float = inf

    @classmethod
    def of(cls, max_retries: int, retry_for: float | None) -> RetryPolicy:
        """The policy that two options of the public surface make, checked; None is no bound.

        Raises:
            ConfigError: One of them is out of its range.
        """
        if not isinstance(max_retries, int) or isinstance(max_retries, bool) or max_retries < 0:
            raise ConfigError(f"max_retries must be a whole number >= 0, got {max_retries!r}; 0 means one try")
        check_seconds("retry_for", retry_for)
        return cls(max_retries=max_retries, retry_for=inf if retry_for is None else retry_for)


@dataclass(slots=True)
class Tries:
    """What one call has spent of its policy so far."""

    transient: int = 0
    bad_reply: int = 0
    pushback: int = 0
    repair: int = 0
    outage: int = 0  # failures that looked like an outage, counted or not
    paid: float = 0.0  # budget tokens that the last retry took
    until: float = inf  # the instant of the timer that counts; `inf` while there is none
    rests: dict[Quota, float] | None = None  # of several quotas: where it may not start, and until when

    def spend(self, again: Again, policy: RetryPolicy) -> bool:
        """Whether one more failure of this sort still leaves a try; it is counted either way."""
        if again is Again.TRANSIENT:
            self.transient += 1
            return self.transient <= policy.max_retries
        if again is Again.BAD_REPLY:
            self.bad_reply += 1
            return self.bad_reply <= min(BAD_REPLY_RETRIES, policy.max_retries)
        if again is Again.REPAIR:
            self.repair += 1
            return self.repair <= REPAIRS
        self.pushback += again is Again.PUSHBACK
        return again is Again.PUSHBACK

    def wait(self, again: Again, told: float | None, random: float) -> float:
        """Seconds until the next try: what was told plus a little, or full jitter.

        Args:
            again: The sort of failure that was just counted by `spend`.
            told: Seconds that the other side asked for, if it did.
            random: A draw from [0, 1).
        """
        if told is not None:
            return told_wait(told, random)
        if again is Again.REPAIR:
            return 0.0
        base, cap = PUSHBACK if again is Again.PUSHBACK else TRANSIENT
        count = {Again.TRANSIENT: self.transient, Again.BAD_REPLY: self.bad_reply, Again.PUSHBACK: self.pushback}[again]
        return random * min(base * 2.0 ** min(max(count - 1, 0), 30), cap)


def told_wait(told: float, random: float) -> float:
    """`told` seconds and a little more, never less."""
    share, most = TOLD_JITTER
    return told + random * min(told * share, most)


class RetryBudget:
    """What all retries of a quota may cost together: tokens that retries take, and that answers bring back."""

    __slots__ = ("_bucket", "spent")

    def __init__(self) -> None:
        self.spent = False  # whether anything was taken that may still be missing
        self._bucket = TokenBucket(RETRY_TOKENS_A_SECOND, RETRY_TOKENS)

    def ready_at(self, again: Again, now: float) -> float:
        """The instant from which one more retry may start, <= `now` if the budget is not empty. Nothing is paid yet."""
        return self._bucket.ready_at(_price_of(again), now)

    def take(self, again: Again, tries: Tries, now: float) -> None:
        """Pay for one more of `tries`, which is sure to be made: at `ready_at`, which may be later than `now`."""
        tries.paid = _price_of(again)
        self.spent = True
        self._bucket.take(tries.paid, now)

    def answered(self, tries: Tries | None, now: float) -> None:
        """A call was answered: the price of its last retry comes back, or a little if it paid for none."""
        price = SUCCESS_TOKENS if tries is None or not tries.paid else tries.paid
        self._bucket.give(price, 0.0, now)
        self.spent = not self._bucket.is_unused(now)


def _price_of(again: Again) -> float:
    return PUSHBACK_TOKENS if again is Again.PUSHBACK else TRANSIENT_TOKENS
