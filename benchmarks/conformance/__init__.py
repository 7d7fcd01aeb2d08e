"""Nineteen probes of fan-out behaviour, run on llm_fanout and on its peers: see README.md in the folder above."""
