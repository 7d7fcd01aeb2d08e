"""Where a model is, and with which key."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, OpenAI

from llm_fanout import ConfigError, Endpoint, Prompt
from llm_fanout.llm.endpoint import Place, place_of

KEY = "sk-secret-0123456789"


async def keys_of(place: Place) -> Any:
    return await place.credential.headers()


def blotted(place: Place, text: str) -> str:
    return place.credential.blot(text)


async def test_key_and_url_come_from_the_environment() -> None:
    """The variables are those that the SDK reads."""
    environ = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": "https://gateway.example/v1/",
        "OPENAI_ORG_ID": "org-1",
        "OPENAI_PROJECT_ID": "proj-1",
    }

    place = place_of(Endpoint("openai/gpt-5-mini"), environ)

    assert (place.model, place.base_url) == ("gpt-5-mini", "https://gateway.example/v1")
    assert place.headers == {"OpenAI-Organization": "org-1", "OpenAI-Project": "proj-1"}
    assert await keys_of(place) == {"Authorization": f"Bearer {KEY}"}


def test_custom_headers_come_from_the_environment() -> None:
    """A line each, as the SDKs read them; what they hold is kept out of texts as the key is."""
    environ = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_ORG_ID": "org-1",
        "OPENAI_CUSTOM_HEADERS": "X-Gateway: Basic gate-0123456789 \nnothing\n OpenAI-Organization:org-2",
    }

    place = place_of(Endpoint("openai/x"), environ)

    assert place.headers == {"X-Gateway": "Basic gate-0123456789", "OpenAI-Organization": "org-2"}
    assert blotted(place, f"gate-0123456789 and {KEY}") == "*** and ***"
    assert "gate-" not in repr(place)


async def test_anthropic_has_two_names_for_a_key() -> None:
    """ANTHROPIC_AUTH_TOKEN is the key where ANTHROPIC_API_KEY is none, as in its SDK."""
    token = place_of(Endpoint("anthropic/x"), {"ANTHROPIC_AUTH_TOKEN": "token-123456"})
    both = place_of(Endpoint("anthropic/x"), {"ANTHROPIC_AUTH_TOKEN": "token-123456", "ANTHROPIC_API_KEY": KEY})

    assert await keys_of(token) == {"Authorization": "Bearer token-123456"}
    assert await keys_of(both) == {"Authorization": f"Bearer {KEY}"}


async def test_arguments_come_before_the_environment() -> None:
    """What is said in the code wins; without anything it is OpenAI itself."""
    environ = {"OPENAI_API_KEY": "other-key-123", "OPENAI_BASE_URL": "https://other.example"}

    said = place_of(Endpoint("openai/org/llama", base_url="http://127.0.0.1:1/v1", api_key=KEY), environ)
    default = place_of(Endpoint("openai/x"), {"OPENAI_API_KEY": KEY})

    assert (said.model, said.base_url) == ("org/llama", "http://127.0.0.1:1/v1")
    assert await keys_of(said) == {"Authorization": f"Bearer {KEY}"}
    assert default.base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("endpoint", "environ", "match"),
    [
        (Endpoint("gpt-5"), {}, "write 'openai/gpt-5'"),
        (Endpoint("openai/"), {}, "names no provider"),
        (Endpoint("acme/x"), {}, "provider 'acme'"),
        (Endpoint("openai/x"), {}, "set OPENAI_API_KEY"),
        (Endpoint("anthropic/x"), {"OPENAI_API_KEY": KEY}, "set ANTHROPIC_API_KEY"),
        (Endpoint("gemini/x"), {}, "set GEMINI_API_KEY or GOOGLE_API_KEY"),
        (Endpoint("mine/x", provider="not a function"), {}, "must be an async function"),  # type: ignore[arg-type]
        (Endpoint("openai/x", api_key="sk-with\nbreak"), {}, "line break"),
        (Endpoint("openai/x", api_key="schlüssel"), {}, "non-ASCII"),
        (Endpoint("openai/x", api_key=KEY, base_url="ftp://x"), {}, "http"),
        (Endpoint("openai/x", api_key=KEY, base_url="http://x:port"), {}, "must be a URL"),
        (Endpoint("openai/x", api_key=KEY, base_url="http://me:sk-with@x"), {}, "no user and password"),
        (Endpoint("sim/x", base_url="http://me:sk-with@x"), {}, "no user and password"),
    ],
)
def test_what_cannot_work_is_refused(endpoint: Endpoint, environ: dict[str, str], match: str) -> None:
    """Before anything is sent, with what to do, and without the key."""
    with pytest.raises(ConfigError, match=match) as caught:
        place_of(endpoint, environ)

    assert "sk-with" not in str(caught.value)


def test_the_box_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sim/...` starts the embedded provider, or goes to the one that is named."""

    class Started:
        url = "http://127.0.0.1:9/v1"

    monkeypatch.setattr("llm_fanout.llm.endpoint.hook", lambda name: Started)

    assert place_of(Endpoint("sim/x"), {}).base_url == "http://127.0.0.1:9/v1"
    assert place_of(Endpoint("sim/x", base_url="http://127.0.0.1:7/v1"), {}).base_url == "http://127.0.0.1:7/v1"


async def test_a_ready_client_says_it_all() -> None:
    """Its base URL and key are used for the quota; saying them again is refused."""
    async with AsyncOpenAI(api_key=KEY, base_url="https://azure.example/v1") as client:
        place = place_of(Endpoint("openai/x", client=client))

        assert place.base_url == "https://azure.example/v1"
        assert place.quota == place_of(Endpoint("openai/x", api_key=KEY, base_url="https://azure.example/v1"), {}).quota
        assert blotted(place, f"bad {KEY}") == "bad ***"
        with pytest.raises(ConfigError, match="either the client or these"):
            Endpoint("openai/x", client=client, api_key=KEY)


async def test_the_url_of_a_ready_client_is_shown_without_its_password() -> None:
    """It may have one, for it is the client that goes there; Results only say where."""
    async with AsyncOpenAI(api_key=KEY, base_url="https://me:secret@gate.example/v1") as client:
        place = place_of(Endpoint("openai/x", client=client))

    assert place.base_url == "https://***@gate.example/v1"
    assert "secret" not in repr(place)


def test_a_quota_may_have_a_name() -> None:
    """Models that share one quota say so; else each has its own."""
    environ = {"OPENAI_API_KEY": KEY}
    shared: list[Any] = [place_of(Endpoint(f"openai/{name}", quota="pool"), environ).quota for name in "ab"]
    apart: list[Any] = [place_of(Endpoint(f"openai/{name}"), environ).quota for name in "ab"]

    assert shared[0] == shared[1]
    assert apart[0] != apart[1]


def test_the_key_is_not_shown() -> None:
    """Neither an Endpoint nor its place shows the key; it is blotted out of any text, unless it is only a word."""
    endpoint = Endpoint("openai/x", api_key=KEY)
    place = place_of(endpoint, {})

    assert KEY not in repr(endpoint) + repr(place)
    assert blotted(place, f"Incorrect key {KEY}") == "Incorrect key ***"
    assert blotted(place_of(Endpoint("openai/x", api_key="none"), {}), "none of it") == "none of it"


async def test_every_vendor_has_its_own_key_and_address() -> None:
    """The SDKs' environment variables, and beside Anthropic's key the version of its API."""
    environ = {"ANTHROPIC_API_KEY": KEY, "GOOGLE_API_KEY": "AIza-0123456789", "ANTHROPIC_BASE_URL": "https://proxy.example"}

    anthropic, gemini = place_of(Endpoint("anthropic/claude-x"), environ), place_of(Endpoint("gemini/g-x"), environ)

    assert (anthropic.base_url, anthropic.format().name) == ("https://proxy.example", "messages")
    assert await keys_of(anthropic) == {"Authorization": f"Bearer {KEY}"}
    assert "anthropic-version" in anthropic.headers
    assert (gemini.base_url.split("/")[2], gemini.format().name) == ("generativelanguage.googleapis.com", "chat")
    assert await keys_of(gemini) == {"Authorization": "Bearer AIza-0123456789"}


def test_an_api_that_a_provider_does_not_have_is_refused() -> None:
    """With what it has."""
    place = place_of(Endpoint("anthropic/x", api_key=KEY), {})

    assert place_of(Endpoint("openai/x", api_key=KEY, api="responses"), {}).format().name == "responses"
    with pytest.raises(ConfigError, match="'anthropic/x' has no embeddings; its provider has chat"):
        place.format("embeddings")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"api": "completions"}, "api must be 'chat' or 'responses'"),
        ({"price": (1.0,)}, "price must be"),
        ({"price": [1.0, 2.0]}, "price must be"),
        ({"price": (1.0, -2.0)}, "price must be"),
        ({"price": (1.0, float("nan"))}, "price must be"),
        ({"provider": len, "base_url": "http://127.0.0.1:1"}, "answers by itself has no base_url"),
        ({"api_key": len}, "needs quota="),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], match: str) -> None:
    """When the Endpoint is made."""
    with pytest.raises(ConfigError, match=match):
        Endpoint("openai/x", **arguments)


def test_functions_have_quotas_of_their_own() -> None:
    """Two functions do not share one, the same function does."""

    async def one(request: object) -> str:
        return "one"

    async def other(request: object) -> str:
        return "other"

    first, again, second = (place_of(Endpoint("mine/x", provider=each), {}).quota for each in (one, one, other))

    assert first == again != second


async def test_a_client_without_a_key_of_its_own() -> None:
    """Azure's token providers leave the SDK's word for no key: then the address and the model tell the quota."""

    async def token() -> str:
        return "token"

    client = AsyncAzureOpenAI(azure_ad_token_provider=token, api_version="2026-01-01", azure_endpoint="https://a.example")
    async with client:
        place = place_of(Endpoint("openai/x", client=client))

    assert place.base_url.startswith("https://a.example")


def test_a_client_has_to_be_async() -> None:
    """A sync one would be sent everything, and block."""
    with OpenAI(api_key=KEY) as client, pytest.raises(ConfigError, match="must be an AsyncOpenAI"):
        Endpoint("openai/x", client=client)  # type: ignore[arg-type]  # the mistake under test


def test_a_pickle_has_no_key() -> None:
    """Neither an Endpoint's, nor a header of a Prompt; all else is there."""
    endpoint = Endpoint("openai/x", api_key=KEY, base_url="https://a.example", price=(1.0, 2.0))
    prompt = Prompt("hello", id=7, model=endpoint, temperature=0.5, extra_headers={"X-Key": KEY})

    pickled = pickle.dumps(prompt)
    again = pickle.loads(pickled)

    assert KEY.encode() not in pickled
    assert again.model == Endpoint("openai/x", base_url="https://a.example", price=(1.0, 2.0))
    assert (again.content, again.id, again.options) == ("hello", 7, {"temperature": 0.5})
