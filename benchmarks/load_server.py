"""nginx as a provider that costs next to nothing: it answers every prompt alike, after a time that the path says.

It runs on a core of its own and says what it saw: requests, connections, and the CPU time that it took. A client can only
be measured by a server that costs less than the client does: see `share`.

    uv run python -m benchmarks.load_server        # stays until Ctrl-C, for a look by hand
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

LATENCIES = (0.0, 0.005, 0.05, 0.2, 1.0, 2.0)  # seconds
CHUNKS = 12  # of a streamed answer that have text
CHUNK_EVERY = 0.01  # seconds: each arrives by itself, as from a model
WORDS = 50  # of an answer: about 600 bytes of body
CONNECTIONS = 12_000  # at once; each takes one descriptor
MODULES = ("/usr/lib/nginx/modules", "/usr/share/nginx/modules", "/usr/lib64/nginx/modules")
ECHO = "ngx_http_echo_module.so"
START = 5.0  # seconds
INSTALL = "on Debian: apt-get install nginx-light libnginx-mod-http-echo"


class NoServer(Exception):
    """There is no nginx, or it did not start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server counted: requests, connections that were opened, seconds of CPU time."""

    requests: int
    connections: int
    cpu: float

    def __sub__(self, other: Seen) -> Seen:
        return Seen(self.requests - other.requests, self.connections - other.connections, self.cpu - other.cpu)

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.requests + other.requests, self.connections + other.connections, self.cpu + other.cpu)


class LoadServer:
    """nginx while the context lasts.

    Args:
        core: The core that it runs on, and no other; None for whichever is free.
    """

    def __init__(self, core: int | None = None) -> None:
        self._core = core
        self._looks = 0

    def __enter__(self) -> Self:
        nginx, module = _installed()
        self._folder = tempfile.TemporaryDirectory(prefix="llm_fanout-nginx-")
        folder = Path(self._folder.name)
        self._port = _free_port()
        (folder / "conf").write_text(configuration(folder, self._port, module, self._core), encoding="utf-8")
        command = [nginx, "-p", str(folder), "-c", str(folder / "conf"), "-e", str(folder / "errors")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            self._await_start(folder)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def url(self, latency: float, *, stream: bool = False) -> str:
        """The base URL whose answers come, or begin, after `latency` seconds, one of `LATENCIES`."""
        return f"http://127.0.0.1:{self._port}{_path(latency, stream)}"

    @property
    def seen(self) -> Seen:
        """What it has seen so far; looks like this one left out, but for their CPU time."""
        connections, requests = self._status()
        return Seen(requests, connections, _cpu_of(self._worker))

    def wait(self) -> None:
        """Wait until it ends."""
        self._process.wait()

    def _await_start(self, folder: Path) -> None:
        end = time.monotonic() + START
        while self._process.poll() is None and time.monotonic() < end:
            try:
                self._status()
            except OSError:
                time.sleep(0.02)
                continue
            self._worker = _child_of(self._process.pid)
            return
        errors = folder / "errors"
        said = errors.read_text(errors="replace").strip().splitlines() if errors.exists() else []
        raise NoServer(f"nginx did not start: {said[-1] if said else 'it said nothing'}")

    def _status(self) -> tuple[int, int]:
        """Connections accepted and requests so far, without those that only asked this."""
        with urlopen(f"http://127.0.0.1:{self._port}/status") as answer:  # loopback
            accepted, _, requests = map(int, answer.read().split(b"\n")[2].split())
        self._looks += 1
        return accepted - self._looks, requests - self._looks


def share(server: Seen, client_cpu: float) -> str:
    """What the server took, beside the client; a warning where it took more, for then it is the server that is measured."""
    part = server.cpu / client_cpu
    warning = "  THE SERVER COST MORE THAN THE CLIENT: these figures say nothing about the client" if part > 1 else ""
    return f"{part:.0%}{warning}"


def configuration(folder: Path, port: int, module: Path, core: int | None) -> str:
    """What nginx is told."""
    bound = "" if core is None else f"worker_cpu_affinity {1 << core:b};"
    user = "user root;" if os.geteuid() == 0 else ""  # else the worker could not write into the folder
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    places = "\n".join(_location(latency, stream) for latency in LATENCIES for stream in (False, True))
    return f"""
load_module {module};
{user} daemon off; worker_processes 1; {bound} worker_rlimit_nofile {CONNECTIONS + 100};
pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections {CONNECTIONS}; multi_accept on; }}
http {{
access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 600; client_body_buffer_size 64k;
{temporary}
server {{
listen 127.0.0.1:{port} backlog=16384 reuseport;
location = /status {{ stub_status; }}
{places}
}}
}}
"""


def _location(latency: float, stream: bool) -> str:
    wait = f"echo_sleep {latency:g};" if latency else ""
    kind = "text/event-stream" if stream else "application/json"
    answer = _streamed() if stream else f"echo -n '{_json(completion())}';"
    path = f"{_path(latency, stream)}/chat/completions"
    return f"location = {path} {{ default_type {kind}; echo_read_request_body; {wait} {answer} }}"


def _streamed() -> str:
    events = [f"echo 'data: {_json(each)}'; echo; echo_flush;" for each in chunks()]
    return f" echo_sleep {CHUNK_EVERY:g}; ".join(events) + " echo 'data: [DONE]'; echo;"


def _path(latency: float, stream: bool) -> str:
    return f"/{round(latency * 1000)}{'/stream' if stream else ''}/v1"


def completion() -> dict[str, Any]:
    """The answer to every prompt, as Chat Completions has it."""
    message = {"role": "assistant", "content": " ".join(["word"] * WORDS), "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": WORDS, "total_tokens": 50 + WORDS}
    named = {
        "id": "chatcmpl-CBkvTRwoTSuWYbGwzUVtvHhA1b2c",
        "object": "chat.completion",
        "created": 1_764_000_000,
        "model": "x",
    }
    return {**named, "choices": [choice], "usage": usage, "system_fingerprint": None}


def chunks() -> list[dict[str, Any]]:
    """The events of every streamed answer: the role, the text in pieces, the reason why it ends, the usage."""
    pieces = [{"role": "assistant", "content": ""}, *({"content": f"word {number} "} for number in range(CHUNKS))]
    told = [_chunk({"index": 0, "delta": piece, "logprobs": None, "finish_reason": None}) for piece in pieces]
    end = _chunk({"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"})
    usage = {"prompt_tokens": 50, "completion_tokens": 3 * CHUNKS, "total_tokens": 50 + 3 * CHUNKS}
    return [*told, end, {**_chunk(), "usage": usage}]


def _chunk(*choices: dict[str, Any]) -> dict[str, Any]:
    named = {"id": "chatcmpl-CBkvTRwoTSuWYbGwzUVtvHhA1b2c", "object": "chat.completion.chunk", "created": 1_764_000_000}
    return {**named, "model": "x", "system_fingerprint": None, "choices": list(choices)}


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _installed() -> tuple[str, Path]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise NoServer(f"there is no nginx; {INSTALL}")
    module = next((path for folder in MODULES if (path := Path(folder, ECHO)).exists()), None)
    if module is None:
        raise NoServer(f"nginx has no {ECHO}; {INSTALL}")
    return nginx, module


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _child_of(process: int) -> int:
    return int(Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()[0])


def _cpu_of(process: int) -> float:
    return int(Path(f"/proc/{process}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def main() -> None:
    with LoadServer() as server:
        print(f"{server.url(0.05)}\n{server.url(0.05, stream=True)}\nlatencies: {LATENCIES}")
        try:
            server.wait()
        except KeyboardInterrupt:
            print(server.seen)


if __name__ == "__main__":
    main()
