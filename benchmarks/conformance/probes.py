"""The probes: what is asked, how the witness answers, and what passes. Each one began as a pain of somebody's users.

The limits are generous, for the machine may be busy: they tell a behaviour from its absence, not a second from a second.
Times count from the first request that arrives, so that no library pays for its import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from .job import Job
from .seen import Seen
from .witness import OK, Answer, Arrival, Script, prompt

UNDER_WAY = 0.1  # seconds in which a request that had left before a refusal may still arrive


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it passed, and the figure that says so. None: the question does not arise."""

    passed: bool | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One behaviour.

    Args:
        number: As in the table.
        name: What it is about, in a few words.
        criterion: What passes, in a line.
        job: What the contender is told to do.
        script: How the witness answers.
        judge: The verdict.
        watch: Seconds after which watching ends, however far things are.
        enough: Whether the verdict can no longer change.
    """

    number: int
    name: str
    criterion: str
    job: Job
    judge: Callable[[Seen], Verdict]
    script: Script = lambda arrival: OK
    watch: float = 20.0
    enough: Callable[[Seen], bool] = lambda seen: False


def ask(
    count: int,
    *,
    concurrency: int | None = None,
    rpm: int | None = None,
    tpm: int | None = None,
    retries: int | None = None,
) -> Job:
    """The job to ask `count` prompts."""
    prompts = [prompt(item) for item in range(count)]
    return Job(waves=[prompts], work=[], concurrency=concurrency, rpm=rpm, tpm=tpm, retries=retries)


def refuse_fifth(headers: dict[str, str]) -> Script:
    """Answers in 50 ms; the fifth request is refused."""
    return lambda arrival: Answer(429, 0.01, headers) if arrival.order == 5 else Answer(200, 0.05)


def all_served(count: int) -> Callable[[Seen], bool]:
    """Whether `count` items are served."""
    return lambda seen: len(seen.served()) == count


def served_of(seen: Seen, count: int, which: Callable[[Arrival], bool] = lambda each: True) -> str:
    """How many of `count` were served, and in which time: until the last of them, or until watching ended."""
    served = len(seen.served(which))
    seconds = seen.served_in(which) if served == count else seen.watched
    return f"{served} of {count} in {seconds:.1f} s"


def told_waits(seen: Seen) -> Verdict:
    refusals = [each for each in seen.arrivals if each.status == 429]
    early = [each for each in seen.arrivals for refusal in refusals if UNDER_WAY < each.at - refusal.left < 1.0 - 0.01]
    again = [
        each.at - refusals[0].left for each in seen.arrivals if refusals and each.item == refusals[0].item and each.nth == 2
    ]
    came_back = f"refused came back after {again[0]:.1f} s" if again else "refused did not come back"
    note = f"{served_of(seen, 40)}, {len(early)} sent before told, {came_back}"
    return Verdict(len(seen.served()) == 40 and seen.served_in() <= 5 and not early, note)


def poisoned(arrival: Arrival) -> bool:
    return arrival.item % 10 == 9


def backoff_frees_slots(seen: Seen) -> Verdict:
    return Verdict(len(seen.served()) == 180 and seen.served_in() <= 4, f"healthy: {served_of(seen, 180)}")


def retries_are_spaced(seen: Seen) -> Verdict:
    tries = len(seen.between(0, 1)) / 20
    return Verdict(None if tries <= 1 else tries <= 4, f"{tries:.1f} tries in the first second")


def waiting_is_cheap(seen: Seen) -> Verdict:
    sent = len(seen.between(0, 7))
    samples = [each for each in seen.of("sample") if each["at"] > seen.first + 4]  # a burst is over by then
    if len(samples) < 2:
        return Verdict(False, f"{sent} sent, its event loop did not come round in {seen.watched:.0f} s")
    cpu = (samples[-1]["cpu"] - samples[0]["cpu"]) / (samples[-1]["at"] - samples[0]["at"])
    tasks = max(each["tasks"] for each in samples)
    return Verdict(sent <= 140 and cpu <= 0.15 and tasks <= 500, f"{sent} sent in 7 s, {cpu:.0%} CPU, {tasks} tasks")


def untold_refusal_is_short(seen: Seen) -> Verdict:
    return Verdict(len(seen.served()) == 40 and seen.served_in() <= 5, served_of(seen, 40))


def retries_pass_the_limiter(seen: Seen) -> Verdict:
    rate = seen.rate(2, 8)  # a burst of a whole minute is over by then
    return Verdict(rate <= 6, f"{rate:.1f} requests/s")


def busy_for_four(arrival: Arrival) -> Answer:
    return Answer(503, 0.01, {"Retry-After": "2"}) if arrival.order <= 4 else Answer(200, 0.05)


def not_among_first(seen: Seen, count: int) -> Callable[[Arrival], bool]:
    """Whether a request is for another item than the first `count` requests were."""
    first = {each.item for each in seen.arrivals[:count]}
    return lambda each: each.item not in first


def others_go_on(seen: Seen) -> Verdict:
    other = not_among_first(seen, 4)
    return Verdict(len(seen.served(other)) == 36 and seen.served_in(other) <= 1.5, f"others: {served_of(seen, 36, other)}")


def others_served(first: int, others: int) -> Callable[[Seen], bool]:
    return lambda seen: len(seen.served(not_among_first(seen, first))) == others


BIG = 20  # where in line the big call stands


def big_in_line() -> Job:
    prompts = [prompt(item, 2_000 if item == BIG else 60) for item in range(600)]
    return Job(waves=[prompts], work=[], tpm=6_000)


def big_call_has_its_turn(seen: Seen) -> Verdict:
    big = [each for each in seen.arrivals if each.item == BIG]
    if not big:
        return Verdict(False, f"never in {seen.watched:.0f} s; {len(seen.served())} small ones served")
    return Verdict(True, f"after {big[0].at - seen.first:.1f} s, {big[0].order - 1} before it")


def waits_for_slots(most: int, count: int, seconds: float) -> Callable[[Seen], Verdict]:
    def judge(seen: Seen) -> Verdict:
        served, taken = len(seen.served()), seen.served_in()
        passed = served == count and seen.failed == 0 and seen.peak <= most and taken <= seconds
        return Verdict(passed, f"{served_of(seen, count)}, {seen.failed} failed, peak {seen.peak}")

    return judge


def waits_for_rate(seen: Seen) -> Verdict:
    sent = len(seen.arrivals)
    return Verdict(seen.failed == 0 and 0 < sent <= 11, f"{seen.failed} of 30 failed, {sent} sent")


def slow_and_fast(arrival: Arrival) -> Answer:
    return Answer(200, 1.5 if arrival.model == "slow" else 0.1)


def fast_one_wins(seen: Seen) -> Verdict:
    raced = seen.of("raced")
    if not raced:
        return Verdict(False, "no answer")
    answer, seconds = raced[0]["answer"], raced[0]["seconds"]
    return Verdict(answer.endswith("fast"), f"{answer!r} after {seconds:.1f} s")


def rate_between(least: float, most: float, end: float) -> Callable[[Seen], Verdict]:
    """After the first second, in which a burst may go."""

    def judge(seen: Seen) -> Verdict:
        if not seen.arrivals:
            return Verdict(False, f"nothing sent in {seen.watched:.0f} s")
        rate = seen.rate(1, end)
        given_up = f", {seen.failed} failed" if seen.failed else ""
        return Verdict(least <= rate <= most, f"{rate:.1f}/s{given_up}")

    return judge


def no_more_than_a_minutes(seen: Seen) -> Verdict:
    sent = len(seen.between(0, 4))
    return Verdict(0 < sent <= 66, f"{sent} in 4 s")


def concurrency_is_used(seen: Seen) -> Verdict:
    return Verdict(8 <= seen.peak <= 10 and seen.served_in() <= 1.5, f"peak {seen.peak}, {seen.served_in():.1f} s")


def refuse_first_briefly(arrival: Arrival) -> Answer:
    return Answer(429, 0.01, {"Retry-After": "0.1", "Retry-After-Ms": "100"}) if arrival.order == 1 else OK


def healthy_pass_by(seen: Seen) -> Verdict:
    other = not_among_first(seen, 1)
    return Verdict(len(seen.served(other)) == 2 and seen.served_in(other) <= 1, f"healthy: {served_of(seen, 2, other)}")


def cost_is_linear(seen: Seen) -> Verdict:
    each = [worked["seconds"] / worked["items"] * 1000 for worked in seen.of("worked")]
    note = "/".join(f"{one:.3f}" for one in each) + " ms an item"
    if len(each) < 2:
        return Verdict(False, f"{note}, no second size in {seen.watched:.0f} s")
    return Verdict(each[-1] <= 2 * each[0], note)


FIRST_WAVE, SECOND_WAVE = 25, 60


def two_waves() -> Job:
    prompts = [prompt(item) for item in range(FIRST_WAVE + SECOND_WAVE)]
    return Job(waves=[prompts[:FIRST_WAVE], prompts[FIRST_WAVE:]], work=[], concurrency=20)


def fail_then_slow(arrival: Arrival) -> Answer:
    """The first wave fails at first, then takes its time; the second is healthy."""
    if arrival.item >= FIRST_WAVE:
        return Answer(200, 0.1)
    return Answer(500, 0.02) if arrival.nth == 1 else Answer(200, 0.5)


def permits_come_back(seen: Seen) -> Verdict:
    second = [each for each in seen.arrivals if each.item >= FIRST_WAVE]
    peak = max((each.in_flight for each in second), default=0)
    seconds = max((each.left for each in second), default=0.0) - min((each.at for each in second), default=0.0)
    return Verdict(
        18 <= peak <= 20 and seen.peak <= 20 and seconds <= 2, f"{peak} of 20 in use in the second wave, {seconds:.1f} s"
    )


PROBES = [
    Probe(
        number=1,
        name="Retry-After is obeyed, exactly",
        criterion="40 prompts, 4 at once, one 429 with Retry-After: 1: all served within 5 s, nobody earlier than told",
        job=ask(40, concurrency=4),
        script=refuse_fifth({"Retry-After": "1"}),
        judge=told_waits,
        enough=all_served(40),
    ),
    Probe(
        number=2,
        name="backoff holds no slot",
        criterion="200 rows of 20 ms, 4 at once, every tenth always 500: the 180 healthy ones within 4 s (ideal 1)",
        job=ask(200, concurrency=4),
        script=lambda arrival: Answer(500, 0.02) if poisoned(arrival) else OK,
        judge=backoff_frees_slots,
        enough=all_served(180),
    ),
    Probe(
        number=3,
        name="retries are spaced",
        criterion="20 prompts, always 500: at most 4 tries each in the first second",
        job=ask(20, concurrency=20),
        script=lambda arrival: Answer(500, 0.01),
        judge=retries_are_spaced,
        enough=lambda seen: seen.seconds > 1.2,
    ),
    Probe(
        number=4,
        name="waiting is cheap, no minute-long burst",
        criterion="5,000 prompts at rpm=600: at most 140 sent in 7 s (twice the share), then 15 % of a core, 500 tasks",
        job=ask(5_000, rpm=600),
        judge=waiting_is_cheap,
        enough=lambda seen: seen.seconds > 7.1,
    ),
    Probe(
        number=5,
        name="an untold refusal stops nobody for long",
        criterion="40 prompts, 4 at once, one 429 without Retry-After: all served within 5 s",
        job=ask(40, concurrency=4),
        script=refuse_fifth({}),
        judge=untold_refusal_is_short,
        enough=all_served(40),
    ),
    Probe(
        number=6,
        name="retries pass the limiter",
        criterion="300 prompts at rpm=300 (5/s), 300 at once, always 500: from the second to the eighth second at most 6/s",
        job=ask(300, concurrency=300, rpm=300),
        script=lambda arrival: Answer(500, 0.01),
        judge=retries_pass_the_limiter,
        enough=lambda seen: seen.seconds > 8.1,
    ),
    Probe(
        number=7,
        name="a told wait holds no slot",
        criterion="40 prompts, 4 at once, the first 4 get 503 with Retry-After: 2: the others within 1.5 s (ideal 0.5)",
        job=ask(40, concurrency=4),
        script=busy_for_four,
        judge=others_go_on,
        enough=others_served(4, 36),
        watch=8.0,
    ),
    Probe(
        number=8,
        name="a big call is not starved",
        criterion="tpm=6000, a call of 500 tokens, 20 small ones before and 579 behind it: it is sent within 12 s",
        job=big_in_line(),
        judge=big_call_has_its_turn,
        watch=14.0,
        enough=lambda seen: seen.seconds > 12 or any(each.item == BIG for each in seen.arrivals),
    ),
    Probe(
        number=9,
        name="no slot: wait, do not fail",
        criterion="20 calls of 0.1 s, 5 at once, no retries: all served, never more than 5 in flight",
        job=ask(20, concurrency=5, retries=0),
        script=lambda arrival: Answer(200, 0.1),
        judge=waits_for_slots(5, 20, 5),
        enough=all_served(20),
    ),
    Probe(
        number=10,
        name="no slot: wait, with retries",
        criterion="100 calls of 0.1 s, 5 at once, 3 retries: all served within 6 s (ideal 2), never more than 5 in flight",
        job=ask(100, concurrency=5, retries=3),
        script=lambda arrival: Answer(200, 0.1),
        judge=waits_for_slots(5, 100, 6),
        enough=all_served(100),
    ),
    Probe(
        number=11,
        name="no rate: wait, do not fail",
        criterion="30 calls at rpm=10, no retries: none has failed after 5 s, no more than 10 (+ 1) are sent",
        job=ask(30, rpm=10, retries=0),
        judge=waits_for_rate,
        enough=lambda seen: seen.seconds > 5,
    ),
    Probe(
        number=12,
        name="a race returns the fast one",
        criterion="models that take 1.5 s and 0.1 s: the answer is the fast one's",
        job=Job(waves=[[prompt(0)]], race=True, work=[]),
        script=slow_and_fast,
        judge=fast_one_wins,
    ),
    Probe(
        number=13,
        name="the rate is reached with 3,000 waiting",
        criterion="3,000 prompts at rpm=6000 (100/s): from the first to the sixth second at least 80 requests/s",
        job=ask(3_000, rpm=6_000),
        judge=rate_between(80, inf, 6),
        enough=lambda seen: seen.seconds > 6.1,
    ),
    Probe(
        number=14,
        name="the rate holds with 10 at once",
        criterion="100 prompts at rpm=60, 10 at once: from the first to the ninth second 0.7 to 1.3 requests/s",
        job=ask(100, concurrency=10, rpm=60),
        judge=rate_between(0.7, 1.3, 9),
        enough=lambda seen: seen.seconds > 9.1,
    ),
    Probe(
        number=15,
        name="300 at once get no more than a minute's",
        criterion="300 prompts at rpm=60: at most 66 are sent in 4 s (60, 4 that 4 s bring, 2 to spare)",
        job=ask(300, rpm=60),
        judge=no_more_than_a_minutes,
        enough=lambda seen: seen.seconds > 4.1,
    ),
    Probe(
        number=16,
        name="concurrency is used",
        criterion="30 calls of 0.1 s, 10 at once: the server sees 8 to 10 in flight, all within 1.5 s (ideal 0.3)",
        job=ask(30, concurrency=10),
        script=lambda arrival: Answer(200, 0.1),
        judge=concurrency_is_used,
        enough=all_served(30),
    ),
    Probe(
        number=17,
        name="healthy calls pass a refused one",
        criterion="3 calls, 1 at once, the first gets 429 with Retry-After: 0.1: the two others within 1 s",
        job=ask(3, concurrency=1),
        script=refuse_first_briefly,
        judge=healthy_pass_by,
        enough=others_served(1, 2),
    ),
    Probe(
        number=18,
        name="cost per item is flat",
        criterion="a function that does nothing, 1,000 to 16,000 items: at most twice the cost each (or at 4,000)",
        job=Job(waves=[], work=[1_000, 4_000, 16_000]),
        judge=cost_is_linear,
        watch=60.0,
    ),
    Probe(
        number=19,
        name="permits do not leak",
        criterion="20 at once, 25 calls that fail and then are slow, then 60 healthy ones: these use all 20, within 2 s",
        job=two_waves(),
        script=fail_then_slow,
        judge=permits_come_back,
    ),
]
