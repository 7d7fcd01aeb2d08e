"""A server that means harm, over a raw socket: what no framework would send.

Each public function is one way to answer; it gets the stream to the client, whose request has been read. Only
prompts that say "hostile" are met so, all others get a plain answer: so a run can be seen to go on.
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from support import completion

MB = 10**6
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def hostile(answer: Answer) -> AsyncIterator[str]:
    """The base URL of a server on loopback that answers hostile prompts with `answer`, as long as the context lasts."""
    connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        try:
            await _serve(reader, writer, answer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has had enough, or the test
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for writer in connections:
            writer.transport.abort()  # whoever reads or writes there is told, and ends
        await asyncio.gather(*filter(None, connections.values()))


async def huge_body(writer: asyncio.StreamWriter) -> None:
    """A chat completion whose text has 64 MB."""
    start, end = json.dumps(completion("|")).encode().split(b"|")
    await _send(writer, _head(len(start) + 64 * MB + len(end)), start)
    for _ in range(64):
        await _send(writer, b"x" * MB)
    await _send(writer, end)


async def endless_body(writer: asyncio.StreamWriter) -> None:
    """A body that does not end, as fast as it is read."""
    await _send(writer, _head(None))
    while True:
        await _send(writer, b"x" * MB)


async def bomb(writer: asyncio.StreamWriter) -> None:
    """A gzip body of 1 MB that is 1 GB when it is decompressed."""
    body = _gigabyte()
    await _send(writer, _head(len(body), "Content-Encoding: gzip"), body)


async def huge_header(writer: asyncio.StreamWriter) -> None:
    """A header of 1 MB, before an answer that is good."""
    body = json.dumps(completion("fine")).encode()
    await _send(writer, _head(len(body), f"X-Huge: {'x' * MB}"), body)


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    """Headers that do not end, as fast as they are read."""
    await _send(writer, b"HTTP/1.1 200 OK\r\n")
    number = 0
    while True:
        await _send(writer, b"".join(b"X-%d: y\r\n" % (number + each) for each in range(1_000)))
        number += 1_000


async def slow_headers(writer: asyncio.StreamWriter) -> None:
    """Headers that come a byte at a time and do not end."""
    await _send(writer, b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        await _send(writer, b"x")
        await asyncio.sleep(0.05)


async def dripping_body(writer: asyncio.StreamWriter) -> None:
    """A body that comes a byte at a time and does not end."""
    await _send(writer, _head(None))
    while True:
        await _send(writer, b" ")
        await asyncio.sleep(0.05)


async def deep_json(writer: asyncio.StreamWriter) -> None:
    """JSON that is nested 100,000 deep."""
    await _send_body(writer, b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


async def deep_error(writer: asyncio.StreamWriter) -> None:
    """The same as the body of an error."""
    await _send_body(writer, b'{"error": ' + b'{"error": ' * 100_000 + b"0" + b"}" * 100_001, status="400 Bad Request")


async def tiny_chunks(writer: asyncio.StreamWriter) -> None:
    """A million server-sent events, each in a chunk of its own, then a good end: 50 MB that say a million letters."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    await _send(writer, _head(None, "Transfer-Encoding: chunked", kind="text/event-stream"))
    for _ in range(1_000):
        await _send(writer, _framed(event) * 1_000)
    await _send(writer, _framed(end), _framed(b"data: [DONE]\n\n"), b"0\r\n\r\n")


async def huge_usage(writer: asyncio.StreamWriter) -> None:
    """An answer that says to have used 1e30 tokens, in every way to write that."""
    await _send_usage(writer, b'{"prompt_tokens": 1e30, "completion_tokens": 1%s, "total_tokens": 1e999}' % (b"0" * 30))


async def negative_usage(writer: asyncio.StreamWriter) -> None:
    """An answer that says to have used less than nothing."""
    await _send_usage(writer, b'{"prompt_tokens": -5, "completion_tokens": -1e30, "total_tokens": NaN}')


async def worded_usage(writer: asyncio.StreamWriter) -> None:
    """An answer whose usage is in words and lists."""
    details = b'"prompt_tokens_details": ["cached"], "completion_tokens_details": "some"'
    await _send_usage(writer, b'{"prompt_tokens": "many", "completion_tokens": [1], %s}' % details)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    while head := await reader.readuntil(b"\r\n\r\n"):
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1])) if length else b""
        if b"hostile" in body:
            await answer(writer)
        else:
            await _send_body(writer, json.dumps(completion("fine")).encode())


async def _send(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()


async def _send_body(writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK") -> None:
    await _send(writer, _head(len(body), status=status), body)


async def _send_usage(writer: asyncio.StreamWriter, usage: bytes) -> None:
    whole: dict[str, Any] = {**completion("fine"), "usage": "|"}
    await _send_body(writer, json.dumps(whole).encode().replace(b'"|"', usage))


def _head(length: int | None, *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """The head of an answer; one without a length ends with the connection, unless a header says otherwise."""
    sizes = [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", *sizes, *headers, "", ""]).encode()


def _framed(part: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(part), part)


@cache
def _gigabyte() -> bytes:
    """1 GB of zeros, compressed: after a full flush each megabyte's bytes are the same as the last one's."""
    zeros, packer = bytes(MB), zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(1_000):
        checksum = zlib.crc32(zeros, checksum)
    last = b"\x03\x00" + checksum.to_bytes(4, "little") + (1_000 * MB % 2**32).to_bytes(4, "little")
    return first + again * 999 + last
