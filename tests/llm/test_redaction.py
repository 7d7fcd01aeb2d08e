"""What may be shown of other people's texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fanout.llm.redaction import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pass@proxy.example:3128/x", "http://***@proxy.example:3128/x"),
        ("http://user@proxy.example and https://a:b@c", "http://***@proxy.example and https://***@c"),
        ("http://user:p@ss@proxy.example", "http://***@proxy.example"),
        ("socks5://:pass@[::1]:1080", "socks5://***@[::1]:1080"),
        ("https://x.example/v1?key=AIzaSy&alt=sse", "https://x.example/v1?key=***&alt=***"),
        ("ConnectError('https://x.example/?token=abc')", "ConnectError('https://x.example/?token=***')"),
        ("https://x.example/#access_token=abc done", "https://x.example/#access_token=*** done"),
        ("Authorization: Bearer sk-proj-0123456789_abc", "Authorization: Bearer ***"),
        ("Illegal header value b'basic dXNlcjpwYXNzd29yZA==\\n'", "Illegal header value b'basic ***\\n'"),
        # nothing to hide
        ("https://platform.example/docs/errors#codes", "https://platform.example/docs/errors#codes"),
        ("mail me@example.org about http://x.example/a@b", "mail me@example.org about http://x.example/a@b"),
        ("Why? a = b & c=d; use Bearer tokens", "Why? a = b & c=d; use Bearer tokens"),
        ("", ""),
    ],
)
def test_credentials_are_blotted_out(text: str, shown: str) -> None:
    """User information, query values and Authorization go; where it was, and what for, stays."""
    assert redacted(text) == shown


@given(st.text(), st.from_regex(r"[\w.~%:@-]{1,40}", fullmatch=True))
def test_no_text_around_it_brings_a_password_out(around: str, password: str) -> None:
    """Whatever stands before and after a URL, its user information is not in what is shown."""
    shown = redacted(f"{around} http://:\u2603{password}@host.example/ {around}")

    assert f"\u2603{password}" not in shown


@given(st.text())
def test_it_is_done_with_once(text: str) -> None:
    """What is fit to be shown stays as it is."""
    assert redacted(redacted(text)) == redacted(text)
