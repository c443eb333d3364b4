"""Proxy variables that the HTTP library cannot use: one line that names the variable and the cure."""

from __future__ import annotations

import importlib.util

import pytest

import tuneport
import tuneport.plugin
from tuneport_openai.azure import RESOURCE, TOKEN, Deployment
from tuneport_openai.wire.profiles import profile
from wire_server import WireServer

VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy")
HAS_SOCKS = importlib.util.find_spec("socksio") is not None


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")


@pytest.mark.skipif(HAS_SOCKS, reason="socksio is installed: SOCKS proxies work")
@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS5"])
def test_a_socks_proxy_names_the_package_that_it_needs(name: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f"{scheme}://127.0.0.1:9")
    with pytest.raises(tuneport.errors.UnavailableError, match=rf"{name} .*SOCKS.*\n?.*\[socks\]"):
        tuneport.open_model("openai:gpt-4.1-mini-2025-04-14").ask("hi")


@pytest.mark.parametrize("address", ["socks://127.0.0.1:9", "socks4://u:secret@127.0.0.1:9", "ftp://x"])
def test_a_proxy_of_another_kind_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(tuneport.errors.UnavailableError, match="ALL_PROXY names an unsupported") as caught:
        tuneport.open_model("openai:gpt-4.1-mini-2025-04-14").ask("hi")
    assert "secret" not in str(caught.value)
    assert caught.value.remedy
    assert "ALL_PROXY" in caught.value.remedy


def test_azure_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
    monkeypatch.setenv(TOKEN, "t")
    account = "/subscriptions/a/resourceGroups/b/providers/Microsoft.CognitiveServices/accounts/c"
    monkeypatch.setenv(RESOURCE, account)
    with pytest.raises(tuneport.errors.UnavailableError, match="ALL_PROXY names an unsupported"):
        Deployment("tickets", profile("azure")).ensure("ft:x")


def test_a_proxy_that_does_not_apply_stops_nothing(lab: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
    with pytest.raises(tuneport.TuneportError) as caught:
        tuneport.open_model("lab:nothing").ask("hi")  # loopback is reached directly
    assert "PROXY" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "127.0.0.1:9", "https://127.0.0.1:9"])
def test_usual_proxies_pass_and_no_proxy_disables_them(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    tuneport.plugin.check_proxies()
    monkeypatch.setenv("ALL_PROXY", "socks://x")
    monkeypatch.setenv("NO_PROXY", "example.com, *")
    tuneport.plugin.check_proxies()
