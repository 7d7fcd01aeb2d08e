"""Which proxy carries the requests to an address, by the rules of the SDK's HTTP library, httpx2 2.16.

HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name one for the addresses of a scheme. NO_PROXY lists what is reached without one:

    example.com                 the host, and all below it
    .example.com *.example.com  what is below it
    localhost 10.0.0.1 ::1      that host alone
    10.0.0.0/8 fd00::/8         a network, for addresses that are written as numbers
    example.com:8443            one port of it, which is not the scheme's own
    https://                    whatever stands here as a URL: a scheme, with or without a host
    *                           everything

What makes no sense is passed over. Of all that fits, the most exact decides: a port before none, a host before a network
before a scheme alone, then the smaller network, the longer host and the longer scheme.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..errors import ConfigError

SCHEMES = ("http", "https", "all")
DEFAULT_PORTS = {"http": 80, "https": 443}
SOCKS = ("socks5://", "socks5h://")
CARRIED = ("http://", "https://", *SOCKS)
NOTHING = "none://"  # a pattern that no address has

Network = IPv4Network | IPv6Network


def proxy_to(url: str) -> str | None:
    """The URL of the proxy that the environment (on macOS and Windows, else the system's settings) names for `url`.

    Raises:
        ConfigError: Nobody here speaks to such a proxy, or its URL is none.
    """
    proxy = proxy_of(url, getproxies())
    if proxy is None:
        return None
    scheme = proxy.partition("://")[0]  # no more of it is told: there may be a password
    if not proxy.lower().startswith(CARRIED):
        raise ConfigError(
            f"the environment names a proxy of the kind {scheme}:// for {url}; use {', '.join(CARRIED)} or NO_PROXY"
        )
    if not _has_place(proxy):
        raise ConfigError(
            f"the environment names a proxy for {url} that is no URL; write {scheme}://user:password@host:port, and in the "
            "password %2F for /, %3F for ?, %23 for #, %40 for @"
        )
    return proxy


def proxy_of(url: str, settings: Mapping[str, str]) -> str | None:
    """The URL of the proxy for `url`; None if it is reached without one.

    Args:
        url: An address.
        settings: As `urllib.request.getproxies` gives them: by the names "http", "https", "all", and "no".
    """
    address = _Address.of(url)
    fitting = [rule for rule in _rules(settings) if rule.fits(address)]
    return min(fitting, key=_Rule.rank).proxy if fitting else None


def is_socks(proxy: str | None) -> bool:
    """Whether a proxy of that URL speaks SOCKS."""
    return proxy is not None and proxy.lower().startswith(SOCKS)


def _has_place(proxy: str) -> bool:
    """Whether a proxy's URL says where it is. One whose password has a slash in it says that elsewhere, and HTTP libraries
    would then take the password for a port, or tell of it."""
    try:
        parts = urlsplit(proxy)
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and "@" not in f"{parts.path}{parts.query}{parts.fragment}"


@dataclass(frozen=True, slots=True)
class _Address:
    """Scheme, host, port (None for the scheme's own), and what follows."""

    scheme: str
    host: str
    port: int | None
    path: str

    @staticmethod
    def of(url: str) -> _Address:
        """The parts of `url`; raises ValueError."""
        parts = urlsplit(url)
        port = None if parts.port == DEFAULT_PORTS.get(parts.scheme) else parts.port
        return _Address(parts.scheme, parts.hostname or "", port, parts.path.removeprefix("/"))


@dataclass(frozen=True, slots=True)
class _Rule:
    """For some addresses: their proxy, or that they have none."""

    proxy: str | None
    scheme: str  # "" for any, as is "" or "*" for a host
    host: str
    port: int | None
    network: Network | None

    @staticmethod
    def of(pattern: str, proxy: str | None) -> _Rule:
        """The rule for the addresses that are like `pattern`; raises ValueError."""
        like = _Address.of(pattern)
        network = None
        if like.path and _ip(like.host):
            if "@" in pattern or not like.path.isdigit():
                raise ValueError(f"{pattern!r} is no network")
            network = ip_network(f"{like.host}/{like.path}", strict=False)
        scheme = "" if like.scheme == "all" else like.scheme
        return _Rule(proxy, scheme, like.host.removeprefix("*") and like.host, like.port, network)

    def fits(self, address: _Address) -> bool:
        """Whether it is for `address`."""
        if self.scheme not in ("", address.scheme) or self.port not in (None, address.port):
            return False
        if self.network is None:
            return self._fits_host(address.host)
        number = _ip(address.host)
        return number is not None and number in self.network

    def rank(self) -> tuple[int, int, int, int, int]:
        """The smaller, the more exact."""
        kind = 1 if self.network else 0 if self.host else 2
        size = self.network.num_addresses if self.network else 0
        return self.port is None, kind, size, 0 if self.network else -len(self.host), -len(self.scheme)

    def _fits_host(self, host: str) -> bool:
        bare = self.host.removeprefix("*")
        if bare == self.host:
            return host == bare or not bare
        domain = bare.removeprefix(".")
        below = host.endswith(f".{domain}") and len(host) > len(domain) + 1
        return below or (host == domain and domain == bare)


def _rules(settings: Mapping[str, str]) -> Iterator[_Rule]:
    """The rules, each pattern once; none if everything is reached without a proxy."""
    exempt = [entry.strip() for entry in settings.get("no", "").split(",")]
    if "*" in exempt:
        return
    patterns = {f"{scheme}://": _with_scheme(settings[scheme]) for scheme in SCHEMES if settings.get(scheme)}
    for pattern, proxy in {**patterns, **{_pattern(entry): None for entry in exempt}}.items():
        try:
            yield _Rule.of(pattern, proxy)
        except ValueError:
            pass  # curl passes over it as well


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


def _pattern(entry: str) -> str:
    """An entry of NO_PROXY as a URL that the addresses it is for are like."""
    before, slash, after = entry.partition("/")
    if not entry or "://" in entry:
        return entry or NOTHING
    number = _ip(before)
    if isinstance(number, IPv6Address):
        return f"all://[{before}]{slash}{after}"
    if number is not None or entry.startswith("["):
        return f"all://{entry}"
    if slash:
        return NOTHING
    return f"all://{entry}" if entry.lower() == "localhost" or entry.startswith("*.") else f"all://*{entry}"


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
