"""The provider in a box: a server on loopback with OpenAI's APIs and Anthropic's, whose answers are simulated, for tests."""

from .box import Box, embedded, serve
from .config import SimConfig

__all__ = ["Box", "SimConfig", "embedded", "serve"]
