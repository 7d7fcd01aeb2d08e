"""The provider in a box: an OpenAI-compatible server on loopback whose answers are simulated, for trials and tests."""

from .box import Box, embedded, serve
from .config import SimConfig

__all__ = ["Box", "SimConfig", "embedded", "serve"]
