"""Where peers live: each in an environment of its own that uv makes on first use, and told to keep to this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[1]
FOLDER = Path(tempfile.gettempdir()) / "llm_fanout-conformance"

# Nothing may leave the machine: telemetry off, and for whatever is left a proxy at a port where nobody listens.
SILENT = {
    "OPENAI_API_KEY": "none",
    "DO_NOT_TRACK": "1",
    "OTEL_SDK_DISABLED": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "HF_HUB_OFFLINE": "1",
}
FENCED = {
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
}


class NotInstalled(Exception):
    """The library cannot be had here; the message says why."""


def python_of(packages: Sequence[str], least_python: tuple[int, int], folder: Path = FOLDER) -> Path:
    """The Python that has `packages`: this one if there are none, else that of an environment in `folder`, made once.

    Raises:
        NotInstalled: It cannot be installed here.
    """
    if not packages:
        return Path(sys.executable)
    if sys.version_info < least_python:
        raise NotInstalled("needs Python {}.{}".format(*least_python))
    home = folder / "-".join((packages[0].replace("==", "-"), "py{}{}".format(*sys.version_info)))
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        uv = [shutil.which("uv")] if shutil.which("uv") else [sys.executable, "-m", "uv"]
        folder.mkdir(parents=True, exist_ok=True)
        _run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], folder)
        _run([*uv, "pip", "install", "--quiet", "--python", str(python), *packages], folder)
        (home / "ready").touch()
    return python


def surroundings(home: Path, *, fenced: bool) -> dict[str, str]:
    """The environment variables of a contender's process.

    Args:
        home: A folder that takes the place of the user's home, so that no settings or caches of theirs matter.
        fenced: Whether a proxy that leads nowhere stands between it and everything but loopback.
    """
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONUNBUFFERED": "1", **SILENT, **(FENCED if fenced else {})}


def outlet() -> TextIO:
    """What was standard output, for us alone: from now on, prints of a library go to standard error."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return out


def _run(command: list[Any], folder: Path) -> None:
    """Run `command` in `folder`: in ours, uv would hold the peers to this project's constraints."""
    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=folder)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["(no message)"]
        raise NotInstalled(f"cannot be installed: {last[0]}")
