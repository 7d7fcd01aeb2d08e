"""What the drop-in transport costs: the user's own AsyncOpenAI over it, against the same client over its default transport.

One question: how many microseconds of CPU does a call of the SDK take, at 100 in flight, whole or streamed? Each is in a
process of its own on one core; nginx answers from another, after 50 ms. They take turns, and none has a connection open when
its turn begins.

    uv run python -m benchmarks.transport [--rounds 5] [--calls 1500] [--json FILE]
"""

from __future__ import annotations

from .contest import compete, cores, players
from .load_server import LoadServer
from .measured import Target, parser_of, setting, write
from .roster import DROP_INS
from .scores import costs, reached
from .turn import Turn

WIDTH = 100
LATENCY = 0.05  # seconds
TARGETS = (
    Target("AsyncOpenAI over ours / its own", "drop-in", "openai", 1.0, 0.5),
    Target("streamed", "drop-in-stream", "openai-stream", 1.0, 0.5),
)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--calls", type=int, default=1_500, help="calls a round (%(default)s)")
    arguments = parser.parse_args()

    run = setting("openai", "httpx2", "aiohttp")
    with LoadServer(cores()[1]) as server, players(DROP_INS) as ready:
        turns = {
            name: Turn(url=server.url(LATENCY, stream=name.endswith("-stream")), calls=arguments.calls, width=WIDTH)
            for name in DROP_INS
        }
        scores = compete(ready, turns, server, arguments.rounds)
    print(costs(f"{WIDTH} in flight", scores, "openai"))
    print(reached(TARGETS, {name: score.cpu for name, score in scores.items()}), flush=True)
    write(arguments.json, run, scores=scores)


if __name__ == "__main__":
    main()
