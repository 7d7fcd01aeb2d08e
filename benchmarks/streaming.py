"""What a streamed answer costs the client: CPU time, user and system.

One question: how many microseconds of CPU does an answer of twelve pieces take, 100 streams at once, read to its end with
`map(stream=True)`, with the SDK's own stream, and line by line with aiohttp? Pieces are 10 ms apart, so that each arrives by
itself. Every caller is in a process of its own on one core, nginx on another; they take turns.

    uv run python -m benchmarks.streaming [--only NAME]... [--rounds 5] [--calls 1000] [--json FILE]
"""

from __future__ import annotations

from .contest import compete, cores, players
from .load_server import LoadServer
from .measured import Target, parser_of, setting, write
from .roster import STREAMERS
from .scores import costs, reached
from .turn import Turn

WIDTH = 100
LATENCY = 0.05  # seconds until the first piece
TARGETS = (Target("openai / ours", "openai-stream", "ours-stream", 4, 8, sign=">="),)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", action="append", choices=STREAMERS, help="this caller; may be given again")
    parser.add_argument("--calls", type=int, default=1_000, help="answers a round")
    arguments = parser.parse_args()

    run = setting("aiohttp", "openai", "httpx2")
    names = arguments.only or list(STREAMERS)
    with LoadServer(cores()[1]) as server, players(names) as ready:
        told = Turn(url=server.url(LATENCY, stream=True), calls=arguments.calls, width=WIDTH)
        scores = compete(ready, dict.fromkeys(names, told), server, arguments.rounds)
    print(costs(f"{WIDTH} streams at once", scores, "aiohttp-stream"))
    print(reached(TARGETS, {name: score.cpu for name, score in scores.items()}))
    write(arguments.json, run, scores=scores)


if __name__ == "__main__":
    main()
