"""Whom the wire trusts, held to whom the SDK's own HTTP library does."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
import pytest
import trustme

from llm_fanout import FanOut
from llm_fanout.llm.trust import authorities, places, trust


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A folder with one authority in it, in the file "one.pem" and under its hashed name."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "one.pem"))
    (tmp_path / "0123abcd.0").symlink_to(tmp_path / "one.pem")
    return tmp_path


def set_environment(patch: pytest.MonkeyPatch, said: Mapping[str, str]) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        patch.delenv(name, raising=False)
    for name, value in said.items():
        patch.setenv(name, value)


def trusted(context: ssl.SSLContext) -> tuple[Any, ...]:
    """What a context trusts, as far as it has looked, and how strictly."""
    certificates = sorted(context.get_ca_certs(binary_form=True))
    return certificates, context.verify_mode, context.check_hostname, context.verify_flags


@pytest.mark.parametrize("names", [[], ["SSL_CERT_FILE"], ["SSL_CERT_DIR"], ["SSL_CERT_FILE", "SSL_CERT_DIR"]], ids=str)
def test_the_same_authorities_as_the_sdk(monkeypatch: pytest.MonkeyPatch, authority: Path, names: list[str]) -> None:
    """Those of SSL_CERT_FILE, else of SSL_CERT_DIR, else of the system."""
    where = {"SSL_CERT_FILE": str(authority / "one.pem"), "SSL_CERT_DIR": str(authority)}
    said = {name: where[name] for name in names}
    set_environment(monkeypatch, said)

    assert trusted(authorities(said)) == trusted(httpcore2.default_ssl_context())


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_that_holds_nobody_to_trust(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    """A call fails and names it, and is not tried again: that is no fault of the network."""
    if content is not None:
        (tmp_path / "file.pem").write_text(content)
    set_environment(monkeypatch, {"SSL_CERT_FILE": str(tmp_path / "file.pem")})
    trust.cache_clear()
    async with FanOut("openai/x", base_url="https://127.0.0.1:1", api_key="key") as fan:
        result = await fan.call("hello")

    assert result.attempts == 1
    assert "file.pem' holds no certificates" in str(result.error)


def test_elsewhere_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS and Windows the SDK's library makes the context: the authorities are in no file there."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(httpx2, "create_ssl_context", lambda: theirs)

    assert authorities({}) is theirs


def test_where_a_linux_keeps_its_authorities(monkeypatch: pytest.MonkeyPatch, authority: Path) -> None:
    """Where OpenSSL was told to look, if there are any; else in the bundles of the distributions; else nowhere."""
    file, folder, nowhere = str(authority / "one.pem"), str(authority), str(authority / "none")
    empty = authority / "empty"
    empty.mkdir()
    monkeypatch.setattr("llm_fanout.llm.trust.BUNDLES", (nowhere, file))

    assert places(file, folder) == (file, folder)
    assert places(file, nowhere) == (file, None)
    assert places(nowhere, folder) == (None, folder)
    assert places(nowhere, str(empty)) == (file, None)
    monkeypatch.setattr("llm_fanout.llm.trust.BUNDLES", ())
    assert places(nowhere, nowhere) == (None, None)


def test_a_system_without_authorities_trusts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is refused then, with the reason; nothing breaks before."""
    monkeypatch.setattr("llm_fanout.llm.trust.places", lambda file, folder: (None, None))
    monkeypatch.setattr(sys, "platform", "linux")

    assert authorities({}).get_ca_certs() == []


def test_one_context_for_all() -> None:
    """It is made once, and wants the host among a certificate's alternative names."""
    context = trust()

    assert trust() is context
    assert not context.hostname_checks_common_name
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
