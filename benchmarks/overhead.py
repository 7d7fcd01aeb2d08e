"""What one call costs the client: CPU time, user and system, from one call in flight to thousands.

One question: how many microseconds of CPU does a call take with each library, its prompt of some 200 bytes handed in and its
answer of some 600 read as text? Every library is in a process of its own on one core; nginx answers from another, after
50 ms (5 ms if one call is in flight). They take turns, and none has a connection open when its turn begins: opening them
is part of what calls cost. Slow ones get fewer calls.

    uv run python -m benchmarks.overhead [--only NAME]... [--in-flight N]... [--rounds 5] [--calls N] [--json FILE]
"""

from __future__ import annotations

from pathlib import Path

from .contest import compete, cores, players
from .environments import FOLDER
from .load_server import LoadServer
from .measured import Target, parser_of, setting, write
from .roster import CALLERS
from .scores import Score, costs, reached
from .turn import Turn

CALLS = {1: 500, 100: 4_000, 1_000: 10_000, 5_000: 25_000}
SLOW = 0.4  # of these calls
WIDE = ("floor", "aiohttp", "ours", "ours-iterated", "openai", "openai-aiohttp", "lm-deluge")  # above 100, unless named
AT_100 = (
    Target("text read / aiohttp", "ours", "aiohttp", 1.25, 1.1),
    Target("`.response` read / aiohttp", "ours-response", "aiohttp", 1.6, 1.3),
    Target("openai / text read", "openai", "ours", 8, sign=">="),
    Target("async-batch-llm / text read", "async-batch-llm", "ours", 12, sign=">="),
    Target("litellm / text read", "litellm", "ours", 16, sign=">="),
    Target("lm-deluge / text read", "lm-deluge", "ours", 1, sign=">="),
    Target("langchain / text read", "langchain", "ours", 1, sign=">="),
    Target("general lane / openai", "ours-general", "openai", 1.05, 1),
)
WIDER = (
    Target("text read / aiohttp", "ours", "aiohttp", 1.3, 1.0),
    Target("openai / text read", "openai", "ours", 11, sign=">="),
)
TARGETS = {100: AT_100, 1_000: WIDER, 5_000: WIDER}


def turn(name: str, width: int, calls: int | None, server: LoadServer) -> Turn:
    """What a caller is told to do."""
    calls = calls or CALLS.get(width, 5 * width)
    fewer = round(calls * SLOW) if CALLERS[name].slow else calls
    return Turn(url=server.url(0.005 if width == 1 else 0.05), calls=max(fewer, 1), width=width)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", action="append", choices=CALLERS, help="this caller; may be given again")
    parser.add_argument(
        "--in-flight", action="append", type=int, help="calls at once; may be given again (1, 100, 1000, 5000)"
    )
    parser.add_argument("--calls", type=int, help="calls a round (500 to 25,000, by how many are in flight)")
    parser.add_argument("--environments", type=Path, default=FOLDER, help="where the peers are installed (%(default)s)")
    arguments = parser.parse_args()

    run = setting("aiohttp", "openai", "httpx2")
    figures: dict[int, dict[str, Score]] = {}
    with LoadServer(cores()[1]) as server:
        for width in arguments.in_flight or CALLS:
            names = arguments.only or [name for name in CALLERS if width <= 100 or name in WIDE]
            with players(names, arguments.environments) as ready:
                turns = {player.name: turn(player.name, width, arguments.calls, server) for player in ready}
                figures[width] = compete(ready, turns, server, arguments.rounds)
            print(costs(f"{width:,} in flight", figures[width], "aiohttp"))
            print(reached(TARGETS.get(width, ()), {name: score.cpu for name, score in figures[width].items()}), flush=True)
    write(arguments.json, run, in_flight=figures)


if __name__ == "__main__":
    main()
