"""Which proxy, held to the choice of the SDK's own HTTP library."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.request import getproxies

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_fanout import ConfigError, Endpoint
from llm_fanout.llm.endpoint import place_of
from llm_fanout.llm.proxies import is_socks, proxy_of, proxy_to

TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all clients: that of a new client reads the disk

HOSTS = ("example.com", "api.example.com", "wwwexample.com", "com", "localhost", "a.localhost")
NUMBERS = ("10.0.0.1", "10.1.2.3", "192.168.7.9", "[::1]", "[fd00::5]")
PORTS = ("", ":80", ":443", ":8080", ":8443")
ENTRIES = (
    *(
        "",
        " ",
        ".",
        "*.",
        "com",
        ".com",
        "*.com",
        "example.com",
        ".example.com",
        "*.example.com",
        "*example.com",
        "Example.COM",
    ),
    *("api.example.com:443", "example.com:8443", ":8080", "*:8080", "example.com:x", "example.com/path", "user@example.com"),
    *("localhost", "LOCALHOST", "localhost:8080", "localhost/"),
    *("10.0.0.1", "10.0.0.1:8080", "*.10.0.0.1", "10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "10.0.0.1/8/", "10.0.0.0/99"),
    *("10.0.0.0/x", "10.0.0.0/", "::1", "[::1]", "[::1]:8080", "[::1", "::1/", "fd00::/8", "[fd00::]/8", "::ffff:10.0.0.1"),
    *("all://", "http://", "https://", "http://*", "http://example.com", "http://10.0.0.0/8", "http://u@10.0.0.0/8"),
    *("https://10.0.0.1:8443", "all://*example.com", "*"),
)
PROXY = st.sampled_from(("", "proxy:1", "http://proxy:2", "https://user:secret@proxy", "socks5://proxy:3"))
URLS = st.builds(
    "{}://{}{}/v1".format, st.sampled_from(("http", "https")), st.sampled_from(HOSTS + NUMBERS), st.sampled_from(PORTS)
)


def of_httpx2(*urls: str) -> list[str | None]:
    """The proxies that a client of httpx2 takes for `urls`."""
    client: Any = httpx2.AsyncClient(verify=TRUST)
    pools = [client._transport_for_url(httpx2.URL(url))._pool for url in urls]
    proxies = [getattr(pool, "_proxy_url", None) for pool in pools]
    return [each and f"{each.scheme.decode()}://{each.host.decode()}:{each.port}" for each in proxies]


def without_user(proxy: str | None) -> str | None:
    """`proxy` in the words of httpcore2, which keeps the user apart."""
    if proxy is None:
        return None
    url = httpx2.URL(proxy)
    return f"{url.scheme}://{url.host}:{url.port}"


def environment(patch: pytest.MonkeyPatch, settings: Mapping[str, str]) -> None:
    """Let the environment name these proxies, and no others."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        patch.delenv(name)
    for name, value in settings.items():
        patch.setenv(f"{name}_proxy", value)


@given(url=URLS, http=PROXY, https=PROXY, every=PROXY, exempt=st.lists(st.sampled_from(ENTRIES), max_size=3))
@example(url="https://api.example.com/v1", http="", https="proxy:1", every="", exempt=["com", "*"])
def test_the_choice_is_that_of_httpx2(url: str, http: str, https: str, every: str, exempt: list[str]) -> None:
    """Whatever HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say."""
    with pytest.MonkeyPatch.context() as patch:
        environment(patch, {"http": http, "https": https, "all": every, "no": ",".join(exempt)})
        ours, theirs = proxy_of(url, getproxies()), of_httpx2(url)

    assert [without_user(ours)] == theirs


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_exemption_means_what_it_means_to_httpx2(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """Each kind of entry against each kind of host, on the scheme's own port and on others."""
    environment(monkeypatch, {"all": "http://proxy:2", "no": entry})
    urls = [f"http://{host}{port}/v1" for host in HOSTS + NUMBERS for port in ("", ":8080", ":8443")]

    assert [without_user(proxy_of(url, getproxies())) for url in urls] == of_httpx2(*urls)


def test_an_unknown_kind_of_proxy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything starts, without its password, and only for the addresses that it would carry."""
    environment(monkeypatch, {"https": "socks4://user:secret@proxy:1"})

    assert proxy_to("http://example.com") is None
    with pytest.raises(ConfigError, match="of the kind socks4:// for https://example") as caught:
        place_of(Endpoint("openai/x", base_url="https://example.com/v1", api_key="sk"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("login", ["user:pa/secret", "user:1/secret", "user:secret#1", "user:pa?secret", "/user:secret"])
def test_a_proxy_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch, login: str) -> None:
    """A password with a slash in it is no port, and is not told."""
    environment(monkeypatch, {"https": f"http://{login}@proxy:1"})

    with pytest.raises(ConfigError, match="that is no URL; write http://user") as caught:
        proxy_to("https://example.com")
    assert "secret" not in str(caught.value)


def test_what_runs_in_this_process_has_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider in a box is reached as it is, whatever the environment says; other places go by the environment."""
    environment(monkeypatch, {"all": "proxy:1"})

    assert place_of(Endpoint("sim/x")).proxy is None
    assert place_of(Endpoint("sim/x", base_url="http://10.0.0.1:1/v1")).proxy == "http://proxy:1"
    assert place_of(Endpoint("openai/x", api_key="sk")).proxy == "http://proxy:1"


def test_which_proxies_speak_socks() -> None:
    """Those of version 5, whoever looks the names up."""
    assert is_socks("socks5://proxy:1")
    assert is_socks("SOCKS5H://proxy:1")
    assert not is_socks("http://proxy:1")
    assert not is_socks(None)
