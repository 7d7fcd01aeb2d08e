"""`llm-fanout`, and `python -m llm_fanout`: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script. Here, so that little is imported before Ctrl-C ends it without a traceback."""
    try:
        from .cli import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
