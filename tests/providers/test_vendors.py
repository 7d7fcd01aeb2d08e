"""Who is at an address."""

from __future__ import annotations

import pytest

from llm_fanout.providers import FORMATS
from llm_fanout.providers.vendors import VENDORS, vendor_at


@pytest.mark.parametrize(
    ("base_url", "api", "vendor"),
    [
        (VENDORS["gemini"].base_url, "chat", "gemini"),
        (VENDORS["openai"].base_url, "responses", "openai"),
        (VENDORS["anthropic"].base_url, "messages", "anthropic"),
        ("https://example.com/v1", "embeddings", "openai"),
        ("https://example.com", "messages", "anthropic"),
    ],
)
def test_an_address_tells_who_is_there(base_url: str, api: str, vendor: str) -> None:
    """One of a vendor's own is that vendor; elsewhere the API tells whose words are spoken."""
    assert vendor_at(base_url, FORMATS[api]) == vendor
