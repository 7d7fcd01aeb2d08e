"""How the APIs of the providers are written and read: pure, without a connection, a clock or an SDK.

request    what is asked, in the OpenAI SDK's words; how many tokens it costs (parts, images)
reply      what an answer says
schema     structured output (strictness: the forms of it that providers enforce)
format     what a format is, and how parameters are translated; one module for each: chat, responses, messages, embeddings
writing    bodies as bytes, what requests share written once
reading    JSON from outside, without trust; plain: what most answers are, read fast
sse        server-sent events; growing: an object that arrives in pieces
"""

from __future__ import annotations

from collections.abc import Mapping

from ..results import ToolCall
from .chat import ChatFormat
from .embeddings import EmbeddingsFormat
from .format import Assembler, Format
from .messages import MessagesFormat
from .reply import ProviderError, Reply
from .request import Request
from .responses import ResponsesFormat
from .schema import Schema, repair
from .sse import Event, SseParser

__all__ = [
    "FORMATS",
    "Assembler",
    "ChatFormat",
    "EmbeddingsFormat",
    "Event",
    "Format",
    "MessagesFormat",
    "ProviderError",
    "Reply",
    "Request",
    "ResponsesFormat",
    "Schema",
    "SseParser",
    "ToolCall",
    "repair",
]

_ALL: tuple[Format, ...] = (ChatFormat(), ResponsesFormat(), MessagesFormat(), EmbeddingsFormat())
FORMATS: Mapping[str, Format] = {each.name: each for each in _ALL}  # by name, each with its defaults
