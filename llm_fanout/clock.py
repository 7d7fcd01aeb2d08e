"""The one clock: everything that measures or waits asks here, so that all loops and threads agree; and times in words."""

from time import monotonic


def now() -> float:
    """Monotonic seconds, the same for every event loop and thread of the process."""
    return monotonic()


def in_words(seconds: float) -> str:
    """`seconds` with three significant digits, in a unit that suits them."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms" if seconds >= 0.0005 else "0 ms"
    if seconds < 119.5:
        return f"{seconds:.3g} s" if seconds < 99.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
