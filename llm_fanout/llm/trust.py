"""Whom to trust over TLS: the same authorities as the SDK (httpcore2 2.16), in one context for the whole process."""

from __future__ import annotations

import os
import re
import ssl
import sys
from collections.abc import Mapping
from functools import cache

from ..errors import ConfigError

# Where Linux distributions keep their authorities, for a Python that was built elsewhere: as truststore 0.10 has them.
BUNDLES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
HASHED = re.compile(r"[0-9a-fA-F]{8}\.\d")  # the name of an authority in a folder, as OpenSSL looks it up


@cache
def trust() -> ssl.SSLContext:
    """The context of all TLS connections: made on first use, which reads the authorities of the system from its disk.

    A certificate with a common name alone is refused: the name has to be among its alternative names (RFC 9110, 4.3.4).
    """
    context = authorities(os.environ)
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def authorities(environ: Mapping[str, str]) -> ssl.SSLContext:
    """A new context that trusts SSL_CERT_FILE, or else SSL_CERT_DIR, or else what the system trusts.

    Raises:
        ConfigError: The file cannot be read, or there is no certificate in it.
    """
    if file := environ.get("SSL_CERT_FILE"):
        try:
            return ssl.create_default_context(cafile=file)
        except OSError as exc:  # an SSLError too: to the table it would be a fault of the network, and worth a retry
            raise ConfigError(f"SSL_CERT_FILE={file!r} holds no certificates that can be read: {exc}") from exc
    if folder := environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context(capath=folder)
    if sys.platform != "linux":
        import httpx2

        return httpx2.create_ssl_context()  # it asks the system itself, through truststore
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    paths = ssl.get_default_verify_paths()
    found = places(paths.openssl_cafile, paths.openssl_capath)
    if any(found):
        context.load_verify_locations(*found)
    return context


def places(file: str, folder: str) -> tuple[str | None, str | None]:
    """The file and the folder of this system's authorities, given those that OpenSSL was built to look at."""
    if os.path.isfile(file):
        return file, folder if os.path.isdir(folder) else None
    if os.path.isdir(folder) and any(map(HASHED.fullmatch, os.listdir(folder))):
        return None, folder
    return next(filter(os.path.isfile, BUNDLES), None), None
