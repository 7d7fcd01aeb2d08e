"""Plants faults in the scheduler, one at a time, and shows that its tests notice every one.

A mutant is one line of the core that does something else. Each is planted in a copy of the project, and the core's own tests
run against it; a mutant that survives is a behaviour that nobody has proved. Takes some minutes, so it is not part of the
test run:

    uv run python tests/mutations.py [--only WORD]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIMIT = 180  # seconds; a mutant that never ends is noticed, too


@dataclass(frozen=True)
class Mutant:
    """In `module`, `old` (which stands there once) becomes `new`: `fault` in words."""

    fault: str
    module: str
    old: str
    new: str


MUTANTS = (
    Mutant("a retry ignores its backoff", "schedule", "        retry_at = now + wait\n", "        retry_at = now\n"),
    Mutant("a told wait is shortened", "retry", "return told + random * min(told * share, most)", "return told * 0.9"),
    Mutant("a told wait grows without bound", "retry", "return told + random * min(told * share, most)", "return told * (1 + random)"),
    Mutant("a refund is dropped", "limits", "            self._owed -= (taken - used) / self.rate", "            pass"),
    Mutant("a debt is dropped", "limits", "            self.take(used - taken, now)", "            pass"),
    Mutant("a slot is not given back", "quota", "            self.slots.in_use -= 1\n        reserved", "            pass\n        reserved"),
    Mutant("a lent slot is given back twice", "quota", "        if lease.slot:\n", "        if True:\n"),
    Mutant("requests of failed calls are refunded", "quota", "bucket.give(reserved[unit], used[unit], now)", "bucket.give(reserved[unit], 0.0, now)"),
    Mutant("the gate of one quota stops another", "schedule", "        quota.close_until(until)", "        for each in self._lines:\n            each.close_until(until)"),
    Mutant("a gate is ignored", "quota", "        latest: float = self.gate\n", "        latest: float = -inf\n"),
    Mutant("a gate is shortened by a later one", "quota", "self.gate = max(self.gate, until)", "self.gate = until"),
    Mutant("the width is cut twice in an episode", "adaptive", "        if epoch == self.epoch:\n            self._begin_episode()", "        if True:\n            self._begin_episode()"),
    Mutant("old successes count after a cut", "adaptive", "        if epoch != self.epoch or self._slots.in_use < self.growth_from:", "        if self._slots.in_use < self.growth_from:"),
    Mutant("the width grows while idle", "adaptive", "SATURATION * self._slots.size if", "0.0 if"),
    Mutant("what was taken is not noticed", "adaptive", "self._spared = self._slots.in_use - 1", "self._spared = 0"),
    Mutant("a refused width is tried again at once", "adaptive", "return 0.0 if self._round < self._hold else 1.0", "return 1.0"),
    Mutant("growing need not pay", "adaptive", "(1 + GAIN * (size / self._mark[0] - 1))", "0.0"),
    Mutant("the breaker never opens", "breaker", "return self._failures >= FAILURES", "return False"),
    Mutant("one call alone opens the breaker", "breaker", "        self._failures += first\n", "        self._failures += 1\n"),
    Mutant("probes do not slow down", "breaker", "self._wait = min(2 * self._wait, LAST_PROBE)", "self._wait = FIRST_PROBE"),
    Mutant("two probes at once", "breaker", "        self._probe_at = now + LAST_PROBE  #", "        pass  #"),
    Mutant("old answers close the breaker", "breaker", "if began >= self._since or self._failures <= 1:", "if True:"),
    Mutant("an outage uses up retries", "schedule", "excused = outcome.outage and quota.breaker.is_open and job.source.is_trusted", "excused = False"),
    Mutant("retries cost nothing", "retry", "        self._bucket.take(tries.paid, now)", "        pass"),
    Mutant("answers bring nothing back", "retry", "        self._bucket.give(price, 0.0, now)", "        pass"),
    Mutant("refusals use up retries", "retry", "        return again is Again.PUSHBACK", "        return self.pushback <= policy.max_retries"),
    Mutant("one retry too many", "retry", "return self.transient <= policy.max_retries", "return self.transient <= policy.max_retries + 1"),
    Mutant("a retry goes to the end of the line", "schedule", "            self._come_back(due, now)\n", "            self._count += 1\n            due.place = self._count\n            self._come_back(due, now)\n"),
    Mutant("a small call passes a large one", "schedule", "            self._timers.wake(line, ready)\n", "            self._timers.wake(line, ready)\n            line.source.chosen.gate = -inf\n"),
    Mutant("deadlines do not bound retries", "choices", "    return min(job.first_start + job.retry.retry_for, job.deadline)", "    return job.first_start + job.retry.retry_for"),
    Mutant("weights are ignored", "lanes", "self.per_cost = 1.0 / lane.weight", "self.per_cost = 1.0"),
    Mutant("idling is paid for later", "lanes", "            branch.tag = max(branch.tag, above.clock)", "            pass"),
    Mutant("newcomers pass a waiting head", "line", "                if branch.clock < first.tag:\n", "                if False:\n"),
    Mutant("unused tokens still count for the lane", "schedule", "            refund(job, job.charged - tree_of(job).line.source.share_of(used))", "            pass"),
    Mutant("a lane's bound is forgotten", "lanes", "if not (lane.paused or lane.running >= lane.max_concurrency):", "if not lane.paused:"),
    Mutant("urgent calls wait their turn", "lanes", "        rank = floor(jobs[0][0]) if jobs and jobs[0][0] < DEFAULT else DEFAULT", "        rank = DEFAULT"),
    Mutant("background work does not yield", "schedule", "line.foreground.head() or line.background.head()", "line.background.head() or line.foreground.head()"),
    Mutant("a returned slot goes to somebody new", "schedule", "        if self._returning and (attempt := self._return()) is not None:", "        if not self.awake and self._returning and (attempt := self._return()) is not None:"),
    Mutant("announced limits are ignored", "quota", "        if self._limits.adapt and self._rates.hear(", "        if False and self._rates.hear("),
    Mutant("what is under way is not subtracted", "learnt", "bucket.set_available(max(0.0, remaining - granted_since), now)", "bucket.set_available(remaining, now)"),
    Mutant("a day's limit is taken for a minute's", "learnt", "    return fitting[0] if fitting else MINUTE", "    return MINUTE"),
    Mutant("headroom is used up", "quota", "    left = quantity * (1.0 - limits.headroom)", "    left = quantity"),
    Mutant("a refused pace is kept", "learnt", "        self._retune(min(self.bucket.rate, cut), now)", "        pass"),
    Mutant("a bucket drifts on large clocks", "limits", "        if now > self._since + self._owed:\n            self._since, self._owed = now, 0.0\n        self._owed += amount / self.rate", "        full = max(now, self._since + self._owed)\n        self._since, self._owed = full + amount / self.rate, 0.0"),
    Mutant("the first member is always taken", "pool", "elif (left := member.left(cost, now)) > most or first > now:", "elif (left := member.left(cost, now)) > inf or first > now:"),
    Mutant("what is left is not relative", "quota", "        share = (width - self.slots.in_use) / width", "        share = width - self.slots.in_use"),
    Mutant("a dead member is always free", "quota", "return share - 1.0 if self.breaker.is_doubtful else share", "return share"),
    Mutant("a member that is down is not probed", "quota", "        if not self.breaker.closed:\n            return inf\n", ""),
    Mutant("a wrong address in a pool is asked for ever", "pool", "            ready = max(ready, member.probe_at())", "            pass"),
    Mutant("a closed member is asked again", "pool", "[member for member in members if member.closure is None] or members", "members"),
    Mutant("a call comes back to a member too early", "schedule", "        free = [member for member in source.members if member not in tries.rests and", "        free = [member for member in source.members if"),
    Mutant("a call that waits for one member never comes back to all", "schedule", "            self._timers.set(job, back_at)\n            self._enter", "            self._enter"),
    Mutant("lines of one quota do not take turns", "schedule", "            del lines[line]\n            lines[line] = None  # to the end, for when they are woken\n", ""),
    Mutant("a large call is starved by another line", "quota", "        if self.promise is not None and self.promise[1] is not (asker or self):", "        if False:"),
    Mutant("a promise is never taken back", "schedule", "            line.promised = before.promise = None\n", "            line.promised = None\n"),
    Mutant("a fallback has no fresh tries", "choices", "    job.tries = None if job.tries is None else Tries(until=job.tries.until)", "    pass"),
    Mutant("a fallback has no time of its own", "choices", "    job.first_start = inf\n", ""),
    Mutant("a fallback costs what the first choice did", "choices", "    job.source, job.cost = chosen\n", "    job.source = chosen.source\n"),
    Mutant("a choice that was left is lost", "choices", "    left = () if must else (Choice(job.source, job.cost),)", "    left = ()"),
    Mutant("a choice that can never fit is taken", "choices", " and each.source.fits_ever(each.cost)]", "]"),
    Mutant("newcomers wait in an outage", "schedule", "            move_on(job)\n        self._enter(job, job.source)", "            pass\n        self._enter(job, job.source)"),
    Mutant("nobody looks whether the provider is back", "schedule", "return source.probe_at() <= now and self._line(source).is_empty", "return False"),
    Mutant("those that back off are not handed back", "schedule", "        for job in self._timers.parked():\n            if job.source.is_shut", "        for job in ():\n            if job.source.is_shut"),
    Mutant("one refusal closes", "access", "closes = at_once or not self.met or self._row >= ROW or", "closes = True or"),
    Mutant("the first answer of all does not close", "access", "at_once or not self.met or", "at_once or"),
    Mutant("an old answer opens", "access", "        if self.closure is None or lease is self.probe:", "        if True:"),
    Mutant("all look at once whether it is open", "quota", "        if self.access.probe is not None:\n            self.why", "        if False:\n            self.why"),
    Mutant("a refused key closes what it opened before", "choices", "if at_once or not each.access.met]", "]"),
    Mutant("one under way comes back to what has closed", "schedule", "        if closure is not None and closure.at > attempt.started_at:", "        if False:"),
    Mutant("a repair uses up retries", "retry", "            return self.repair <= REPAIRS", "            return self.repair <= min(REPAIRS, policy.max_retries)"),
    Mutant("a repair waits", "retry", "        if again is Again.REPAIR:\n            return 0.0\n", ""),
    Mutant("a vote that may end in a tie is decided", "votes", "return self.margin > self._left", "return self.margin >= self._left"),
    Mutant("a vote asks for more than it takes", "votes", "(second + self._left - first) // 2 + 1", "(second + self._left - first) // 2 + 2"),
    Mutant("a vote ignores its lead", "votes", "max(0, min(for_good, for_lead, self._left))", "max(0, min(for_good, self._left))"),
    Mutant("a spoiled vote counts", "votes", "        if key is not None:\n", "        if True:\n"),
    Mutant("a fold asks too large a question", "folding", "while size > self._most and number > 1:", "while False:"),
    Mutant("a fold loses what it dropped", "folding", "        del self._open[:number]\n", "        del self._open[:]\n"),
    Mutant("a fold takes values out of turn", "folding", "        while self.taken in self._early:\n            questions += self.take(self._early.pop(self.taken))", "        questions += self.take(self._early.pop(place))"),
    Mutant("a fold that gets no shorter goes on", "folding", "        if not self._shrinks:\n", "        if False:\n"),
    Mutant("a fold ends a level too soon", "folding", "level.taken == below.groups", "level.taken <= below.groups"),
)  # fmt: skip


def main() -> int:
    """Plant each mutant in turn; the exit code is the number of survivors."""
    only = _arguments().only
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("llm_fanout", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if not _notices(copy):
            for mutant in (each for each in MUTANTS if only in each.fault):
                if not _kills(copy, mutant):
                    survivors.append(mutant)
        else:
            print("the tests fail without any mutant; mend them first")
            return 1
    print(f"{len(survivors)} survived" + "".join(f"\n  {mutant.fault}" for mutant in survivors))
    return len(survivors)


def _kills(copy: Path, mutant: Mutant) -> bool:
    place = copy / "llm_fanout" / "core" / f"{mutant.module}.py"
    sound = place.read_text()
    if sound.count(mutant.old) != 1:
        raise SystemExit(
            f"{mutant.fault!r}: {mutant.old!r} stands {sound.count(mutant.old)} times in {mutant.module}.py, not once"
        )
    place.write_text(sound.replace(mutant.old, mutant.new))
    begun = time.monotonic()
    noticed = _notices(copy)
    place.write_text(sound)
    print(f"{'killed  ' if noticed else 'SURVIVED'} {time.monotonic() - begun:5.1f} s  {mutant.fault}", flush=True)
    return noticed


def _notices(copy: Path) -> bool:
    """Whether the core's tests fail, in the copy of the project."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "tests/core", "--seeds", "300"]
    try:
        return subprocess.run(command, cwd=copy, capture_output=True, timeout=LIMIT, check=False).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the faults that have this in their name")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
