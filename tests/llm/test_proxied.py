"""Calls through real proxies, and over TLS, to a server on 127.0.0.1."""

from __future__ import annotations

import asyncio
import datetime
import gc
import os
import ssl
from collections.abc import AsyncIterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from relays import relay
from support import completion

from llm_fanout import ConfigError, Endpoint, FanOut
from llm_fanout.llm.trust import trust

KEY = "sk-test-0123456789"
MESSAGE = {
    "id": "x",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "yes"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


class Server:
    """A provider that says yes, over HTTP and over TLS."""

    def __init__(self) -> None:
        self.plain = ""
        self.tls = ""
        self.headers: list[Any] = []
        self.ports: set[int] = set()

    async def chat(self, request: web.Request) -> web.Response:
        self._note(request)
        return web.json_response(completion("yes"))

    async def messages(self, request: web.Request) -> web.Response:
        self._note(request)
        return web.json_response(MESSAGE)

    def _note(self, request: web.Request) -> None:
        assert request.transport is not None
        self.headers.append(request.headers)
        self.ports.add(request.transport.get_extra_info("peername")[1])


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this process trusts, for the length of a test."""
    authority = trustme.CA()
    trust_in(authority.cert_pem.bytes(), tmp_path, monkeypatch)
    return authority


def trust_in(pem: bytes, folder: Path, patch: pytest.MonkeyPatch) -> None:
    path = folder / "trusted.pem"
    path.write_bytes(pem)
    patch.setenv("SSL_CERT_FILE", str(path))
    trust.cache_clear()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    yield
    trust.cache_clear()


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[Server]:
    """The server, with a certificate for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async for server in serving(context):
        yield server


async def serving(context: ssl.SSLContext) -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_post("/v1/messages", server.messages)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    plain, tls = (port for _, port in runner.addresses)
    server.plain, server.tls = f"http://localhost:{plain}/v1", f"https://localhost:{tls}/v1"
    yield server
    await runner.cleanup()


def client(url: str, **options: Any) -> FanOut:
    return FanOut("openai/x", base_url=url, api_key=KEY, **{"max_retries": 0, **options})


@pytest.mark.parametrize("over", ["plain", "tls"])
async def test_calls_go_through_an_http_proxy(server: Server, over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to http:// as they are, those to https:// in a tunnel, where it sees neither key nor prompt; it is told the
    login of its URL, and its connections are used again."""
    url = getattr(server, over)
    async with relay("http", wants="somebody:p@ss") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://somebody:p%40ss@{proxy.at}")
        async with client(url) as fan:
            answers = [(await fan.call("hello")).value for _ in range(3)]

    assert answers == ["yes"] * 3
    assert proxy.targets == [url.split("/")[2]]
    assert proxy.logins == ["somebody:p@ss"]
    assert (KEY.encode() in proxy.heard) == (over == "plain")
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("over", ["plain", "tls"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_calls_go_through_a_socks_proxy(
    server: Server, scheme: str, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the SDK, with the same key and headers; its connections are closed with the client."""
    url = getattr(server, over)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    async with relay("socks") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://somebody:secret@{proxy.at}")
        async with client(url) as fan:
            results = [await fan.call("hello", extra_headers={"X-Mine": "1"}) for _ in range(3)]
        async with asyncio.timeout(30):
            while proxy.open:
                await asyncio.sleep(0.001)

    assert [(result.value, result.via) for result in results] == [("yes", "sdk")] * 3
    assert proxy.targets == [url.split("/")[2]]
    assert proxy.logins == ["somebody:secret"]
    sent = server.headers[-1]
    assert (sent["Authorization"], sent["OpenAI-Organization"], sent["X-Mine"]) == (f"Bearer {KEY}", "org-1", "1")


async def test_a_client_that_is_forgotten_leaves_no_connection_to_a_socks_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is collected with what it has opened, without a warning."""
    async with relay("socks") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://{proxy.at}")
        fan = client(server.plain)
        await fan.call("hello")
        was_open = proxy.open
        del fan
        async with asyncio.timeout(30):
            while proxy.open:
                gc.collect()
                await asyncio.sleep(0.001)

    assert was_open == 1


async def test_anthropics_go_through_a_socks_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their own SDK, with a key that may change."""
    keys = iter(["sk-ant-first", "sk-ant-second"])

    async def valid_now() -> str:
        return next(keys)

    async with relay("socks") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://{proxy.at}")
        url = server.plain.removesuffix("/v1")
        async with FanOut(Endpoint("anthropic/claude", base_url=url, api_key=valid_now, quota="q")) as fan:
            answers = [(await fan.call("hello", max_tokens=10)).value for _ in range(2)]

    assert answers == ["yes"] * 2
    assert len(proxy.targets) == 1
    assert [sent["Authorization"] for sent in server.headers] == ["Bearer sk-ant-first", "Bearer sk-ant-second"]
    assert all("anthropic-version" in sent for sent in server.headers)


async def test_no_other_provider_hears_what_is_openais(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemini is asked by the same SDK behind a SOCKS proxy, but not told the organisation, nor custom headers."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer theirs\nX-Theirs: 1")
    async with relay("socks") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://{proxy.at}")
        async with FanOut("gemini/g", base_url=server.plain, api_key=KEY) as fan:
            await fan.call("hello")

    sent = server.headers[-1]
    assert sent["Authorization"] == f"Bearer {KEY}"
    assert [name for name in ("OpenAI-Organization", "OpenAI-Project", "X-Theirs") if name in sent] == []


async def test_what_is_exempt_goes_by_itself(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY names what is reached without one."""
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    async with client(server.tls) as fan:
        result = await fan.call("hello")

    assert result.value == "yes"


@pytest.mark.parametrize("missing", ["socksio", "anthropic"])
def test_what_a_socks_proxy_takes_is_asked_for(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """A package that is not installed is named before anything starts."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setattr("llm_fanout.llm.socks.find_spec", lambda name: None if name == missing else util.find_spec(name))

    with pytest.raises(ConfigError, match="is behind a SOCKS proxy, which takes"):
        FanOut("anthropic/claude", api_key=KEY)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("over", ["plain", "tls"])
async def test_a_proxy_that_cannot_be_had_is_no_leak(
    server: Server, scheme: str, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody there is a failed connection like any other; its login is in no message."""
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://somebody:secret@127.0.0.1:1")
    async with client(getattr(server, over)) as fan:
        result = await fan.call("hello", retry_for=0.5)

    assert result.error is not None
    assert result.error.kind == "connection"
    assert "secret" not in repr(result.error)


@pytest.mark.parametrize("over", ["plain", "tls"])
async def test_a_proxy_that_lets_nobody_pass_ends_it(server: Server, over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong login is wrong for every call: it is not tried again, and the message says where to look, not what it was."""
    async with relay("http", wants="somebody:right") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://somebody:wrongword@{proxy.at}")
        async with client(getattr(server, over), max_retries=5) as fan:
            result = await fan.call("hello")

    assert result.error is not None
    assert (result.error.kind, result.attempts) == ("auth", 1)
    assert "check the login in the proxy's URL" in str(result.error)
    assert "wrongword" not in repr(result.error)


async def test_connections_over_tls_are_used_again(server: Server) -> None:
    """One handshake for calls that come after each other, one context for all."""
    async with client(server.tls) as fan:
        answers = [(await fan.call("hello")).value for _ in range(5)]

    assert answers == ["yes"] * 5
    assert len(server.ports) == 1


async def test_strangers_are_not_trusted(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of an unknown authority ends the call before the key is sent."""
    trust_in(trustme.CA().cert_pem.bytes(), tmp_path, monkeypatch)
    async with client(server.tls) as fan:
        result = await fan.call("hello")

    assert "check base_url and the trusted certificates" in str(result.error)
    assert server.headers == []


async def test_a_common_name_alone_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the certificate is trusted: the host has to be among its alternative names."""
    path = tmp_path / "pair.pem"
    path.write_bytes(named_by_common_name("localhost"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    trust_in(path.read_bytes(), tmp_path, monkeypatch)
    async for server in serving(context):
        async with client(server.tls) as fan:
            result = await fan.call("hello")

    assert result.error is not None
    assert "ClientConnectorCertificateError" in str(result.error)


def named_by_common_name(name: str) -> bytes:
    """A key, and a certificate that it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=1)
    unsigned = x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number(), now, until)
    signed = unsigned.sign(key, hashes.SHA256())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return signed.public_bytes(pem) + key.private_bytes(pem, pkcs8, serialization.NoEncryption())
