"""Text that may be shown: what could be a credential is blotted out.

Messages of HTTP libraries quote URLs, and those of proxies and gateways have passwords and keys in them; a header that is
refused is quoted with its value. The endpoint's own key is its `Place`'s to know; these are everybody else's.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_USERINFO = re.compile(r"(?<=://)[^\s/?#]*@")  # RFC 3986, section 3.2.1: up to the last @ before the path
_VALUE = re.compile(r"(?<=[?&#])([^\s=&?#]{1,64}=)[^\s&#'\"<>(){}\[\]]+")  # of a query, or of a fragment
_SCHEME = re.compile(r"\b(bearer|basic) +[\w.~+/=-]{16,}", re.IGNORECASE)  # RFC 6750; shorter ones are plain English


def redacted(text: str) -> str:
    """`text` without the user information and the query values of its URLs, and without Authorization's values."""
    text = _USERINFO.sub(f"{HIDDEN}@", text)
    text = _VALUE.sub(rf"\1{HIDDEN}", text)
    return _SCHEME.sub(rf"\1 {HIDDEN}", text)
