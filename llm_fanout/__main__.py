"""`python -m llm_fanout`: the command line."""

from .cli import main

main()
