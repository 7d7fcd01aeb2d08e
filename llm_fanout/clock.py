"""The one clock: everything that measures or waits asks here, so that all loops and threads agree."""

from time import monotonic


def now() -> float:
    """Monotonic seconds, the same for every event loop and thread of the process."""
    return monotonic()


def in_words(seconds: float) -> str:
    """A time of `seconds`, >= 0 and finite, for people: about three digits, in a unit that suits them.

    The unit is that of the rounded figure: 0.9996 is "1 s", never "1000 ms".
    """
    if (thousandths := float(f"{seconds * 1000:.3g}")) < 1000:
        return f"{thousandths:g} ms" if thousandths >= 0.5 else "0 ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 48 * 60 else f"{seconds / 86_400:,.0f} days"
