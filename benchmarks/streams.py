"""Callers that read every answer as a stream, to its end."""

from __future__ import annotations

import json
from typing import Any

from .callers import HEADERS, Aiohttp, OpenAI, Ours, body_of, over_ours

DATA, DONE = b"data: ", b"[DONE]"


class AiohttpStream(Aiohttp):
    """Lines by hand: every event parsed, no errors, no usage."""

    async def one(self, prompt: str) -> str:
        body, pieces = {**body_of(prompt), "stream": True}, []
        async with self.session.post(f"{self.url}/chat/completions", json=body, headers=HEADERS) as response:
            async for line in response.content:
                if line.startswith(DATA) and not line.startswith(DONE, len(DATA)):
                    choices = json.loads(line[len(DATA) :])["choices"]
                    pieces += [choice["delta"].get("content") or "" for choice in choices]
        return "".join(pieces)


class OpenAIStream(OpenAI):
    async def one(self, prompt: str) -> str:
        pieces = []
        stream = await self.client.chat.completions.create(
            model="x",
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            pieces += [choice.delta.content or "" for choice in chunk.choices]
        return "".join(pieces)


class DropInStream(OpenAIStream):
    def http(self) -> Any:
        return over_ours(self)


class OursStream(Ours):
    """`map(stream=True)`, iterated over: the same Result, and the time to its first text."""

    async def ask(self, prompts: list[str]) -> int:
        return sum([bool(result.text) async for result in self.fan.map(prompts, stream=True)])
