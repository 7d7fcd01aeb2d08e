"""The APIs of the simulated provider, one a module; a new one is added here."""

from collections.abc import Sequence

from .api import Api, Reply, Streaming
from .chat import Chat
from .embeddings import Embeddings
from .messages import Messages
from .responses import Responses

APIS: Sequence[Api] = (Chat(), Responses(), Embeddings(), Messages())

__all__ = ["APIS", "Api", "Reply", "Streaming"]
