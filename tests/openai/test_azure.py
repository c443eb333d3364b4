"""Azure over loopback: deployments through a Resource Manager of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import tuneport
from nasty import Scenario, deep, drip, endless, page, reply
from tuneport import Dataset
from tuneport_openai import azure
from tuneport_openai.job import HostedJob
from tuneport_openai.wire import profiles
from wire_server import KEY, WireServer

RESOURCE = "/subscriptions/1-2/resourceGroups/mine/providers/Microsoft.CognitiveServices/accounts/acme"


class Manager:
    """A Resource Manager whose deployments are ready after a few requests; a deployed model answers on the wire."""

    def __init__(self, wire: WireServer) -> None:
        self.wire = wire
        self.deployments: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.refuse: tuple[int, dict[str, Any]] | None = None
        self.moved_to = ""
        self.ends = "Succeeded"
        self.pages = 0
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, method: str, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.refuse:
            return self.refuse
        if method == "PUT":
            self.deployments[name] = {**body, "looks": 0}
            self.wire.models[name] = self.wire.models[body["properties"]["model"]["name"]]
            return 201, body
        if not name:
            return 200, self.page()
        found = self.deployments.get(name)
        if found is None:
            return 404, {"error": {"code": "ResourceNotFound", "message": "not there"}}
        if method == "DELETE":
            del self.deployments[name]
            return 202, {}
        found["looks"] += 1
        state = self.ends if found["looks"] > 2 else "Creating"
        return 200, {"name": name, "properties": {**found["properties"], "provisioningState": state}}

    def page(self) -> dict[str, Any]:
        """The first page of all deployments; the second one is empty."""
        found = [
            {"name": name, "properties": {**one["properties"], "provisioningState": "Succeeded"}}
            for name, one in self.deployments.items()
        ]
        host = f"http://127.0.0.1:{self.http.server_address[1]}"
        more = f"{host}{RESOURCE}/deployments?api-version=1&page=2"
        self.pages += 1
        return {"value": found, "nextLink": more} if self.pages % 2 else {"value": []}


def _handler(manager: Manager) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _serve(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            path, _, query = self.path.partition("?")
            manager.asked.append((self.command, self.path, self.headers["Authorization"]))
            assert path.startswith(f"{RESOURCE}/deployments")
            assert query.startswith("api-version=")
            status, answer = manager.answer(self.command, path.removeprefix(f"{RESOURCE}/deployments").strip("/"), body)
            raw = json.dumps(answer).encode()
            self.send_response(307 if manager.moved_to else status)
            self.send_header("Location", manager.moved_to)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PUT = do_DELETE = _serve

    return Handler


@pytest.fixture
def manager(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """The profile `azure` on loopback, with a Resource Manager."""
    from tuneport import loader

    made = Manager(server)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    monkeypatch.setenv(azure.RESOURCE, RESOURCE)
    monkeypatch.setenv(azure.TOKEN, "the-managers-token")
    monkeypatch.setenv(azure.MANAGEMENT, f"http://127.0.0.1:{made.http.server_address[1]}")
    limits = ("poll_seconds=0.01", "read_seconds=2", "deploy_seconds=30")
    profiles.add("azure", server.url, limits=limits)
    loader.load.cache_clear()
    yield made
    made.http.shutdown()
    made.http.server_close()
    loader.load.cache_clear()


def trained(rows: Dataset, **settings: Any) -> tuneport.Job:
    job = tuneport.train("azure:base", rows, suffix="topics", settings=settings)
    job.poll_seconds = 0.01  # type: ignore[misc]
    job.wait()
    return job


def test_nothing_is_deployed_without_a_request(manager: Manager, rows: Dataset) -> None:
    model = trained(rows).result()
    manager.wire.models.pop(model.name)  # Azure has no model by its own name to ask
    with pytest.raises(tuneport.errors.ModelNotFound, match="deployed"):
        model.ask("Question 1 about pin")
    assert not manager.asked


def test_ensure_ready_deploys_waits_and_says_what_it_costs(manager: Manager, rows: Dataset) -> None:
    job = trained(rows)
    said = job.result().ensure_ready()
    assert "$1.70 an hour" in said
    assert f"tuneport hosting stop {job.ref}" in said
    (deployment,) = manager.deployments.values()
    assert deployment["properties"]["model"]["name"].startswith("ft:base")
    assert tuneport.open_model(job.ref).ask("Question 1 about pin") == "pin"
    assert json.loads(manager.wire.asked[-1][3])["model"] == job.ref.name
    job.result().ensure_ready()
    assert [method for method, _, _ in manager.asked].count("PUT") == 1


def test_a_config_may_ask_for_the_deployment(manager: Manager, rows: Dataset) -> None:
    job = trained(rows, deploy=True)
    assert not manager.deployments
    assert job.result().ask("Question 1 about pin") == "pin"
    assert list(manager.deployments) == [job.ref.name]


def test_hosting_lists_tuned_models_and_stops_one(
    manager: Manager, rows: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneport.cli.app import invoke

    job = trained(rows)
    job.result().ensure_ready()
    base = {"properties": {"model": {"name": "gpt-4.1-2025-04-14"}}, "looks": 0}
    manager.deployments |= {
        "chat": base,  # billed by token
        "made-in-the-portal": {"properties": {"model": {"name": "gpt-4.1-2025-04-14.ft-0ab3"}}, "looks": 0},
    }
    theirs, ours = sorted(tuneport.hosting(), key=lambda one: one.ref)
    assert (theirs.name, theirs.ref, theirs.remedy) == ("made-in-the-portal", "", "Delete it in the portal.")
    assert (ours.name, ours.ref, ours.state, ours.is_billed) == (job.ref.name, str(job.ref), "ready", True)
    assert (ours.usd_per_hour.value, ours.usd_per_hour.source) == (1.7, "as of March 2026")
    assert invoke(["hosting", "stop", str(job.ref)]) == 0
    assert "no longer deployed" in capsys.readouterr().out
    assert job.ref.name not in manager.deployments
    assert job.result().hosting() is None
    assert [one.name for one in tuneport.hosting()] == ["made-in-the-portal"]


@pytest.mark.parametrize("answer", [{"value": None}, {"value": [], "nextLink": "https://example.org/more"}])
def test_a_list_of_deployments_that_is_not_complete_is_an_error(
    answer: dict[str, Any], manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuneport.cli.app import invoke

    manager.refuse = (200, answer)
    assert invoke(["hosting"]) == 3
    assert "could not be read completely" in capsys.readouterr().err


def test_delete_takes_the_deployment_down_first(manager: Manager, rows: Dataset) -> None:
    job = trained(rows)
    job.result().ensure_ready()
    assert "billed by the hour" in tuneport.delete(job.ref, dry_run=True).removed[0]
    assert manager.deployments
    tuneport.delete(job.ref)
    assert not manager.deployments


def test_the_managers_token_goes_to_the_manager_alone(manager: Manager, rows: Dataset) -> None:
    trained(rows).result().ensure_ready()
    assert {token for _, _, token in manager.asked} == {"Bearer the-managers-token"}
    assert "the-managers-token" not in str(manager.wire.asked)
    assert KEY not in str(manager.asked)


def test_the_managers_token_follows_no_redirect(manager: Manager, rows: Dataset, server: WireServer) -> None:
    model = trained(rows).result()
    before = len(server.asked)
    manager.moved_to = f"{server.url}/files"
    with pytest.raises(tuneport.errors.UnavailableError, match="307"):
        model.ensure_ready()
    assert len(server.asked) == before


def test_a_manager_that_cannot_be_reached_is_reported(manager: Manager, rows: Dataset) -> None:
    model = trained(rows).result()
    manager.http.shutdown()
    manager.http.server_close()
    with pytest.raises(tuneport.errors.UnavailableError, match="could not be reached about topics-") as caught:
        model.ensure_ready()
    assert "the-managers-token" not in str(caught.value)


def test_a_deployment_that_fails_or_is_refused_is_reported(manager: Manager, rows: Dataset) -> None:
    model = trained(rows).result()
    manager.ends = "Failed"
    with pytest.raises(tuneport.errors.BackendError, match="it is failed"):
        model.ensure_ready()
    manager.refuse = (403, {"error": {"message": "no rights for the-managers-token"}})
    with pytest.raises(tuneport.errors.UnavailableError, match="no rights for …") as caught:
        model.ensure_ready()
    assert "az account get-access-token" in str(caught.value)


@pytest.mark.parametrize("variable", [azure.RESOURCE, azure.TOKEN])
def test_what_is_missing_is_named(
    variable: str, manager: Manager, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(rows).result()
    monkeypatch.delenv(variable)
    with pytest.raises(tuneport.errors.ConfigError, match=variable):
        model.ensure_ready()


def test_the_training_tier_is_sent(manager: Manager, rows: Dataset) -> None:
    job = tuneport.train("azure:base", rows, settings={"training_type": "Developer"})
    assert isinstance(job, HostedJob)
    (body,) = [json.loads(b) for m, p, _, b in manager.wire.asked if m == "POST" and p == "/v1/fine_tuning/jobs"]
    assert body["trainingType"] == "Developer"


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (reply(403, {"error": {"message": "the-managers-token is not allowed"}}), "… is not allowed"),
        (page(502, "the-managers-token: bad gateway"), "…: bad gateway"),
        (reply(409, {"error": "it is being changed"}), "it is being changed"),
        (reply(200, {"properties": {"provisioningState": ["the-managers-token"]}}), "still deploying"),
        (reply(200, bytes(range(256))), "still deploying"),
        (reply(200, deep()), "nested too deeply"),
        (endless(), "larger than"),
        (endless(encoding="gzip"), "larger than"),
        (drip(b"HTTP/1.1 200 OK\r\n", b"X-Slow: the-managers-token\r\n"), "could not be reached"),
    ],
)
def test_a_nasty_manager_becomes_an_error_with_a_remedy(
    act: Any, says: str, manager: Manager, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(azure.MANAGEMENT, f"http://127.0.0.1:{server.port}")
    Scenario(".*/subscriptions/.*", act).spoil(server)
    impatient = profiles.add("azure", server.url, limits=("poll_seconds=0.01", "read_seconds=2", "deploy_seconds=0.1"))
    with pytest.raises(tuneport.TuneportError) as caught:
        azure.Deployment("topics", impatient).ensure("ft:base")
    assert says in caught.value.message
    assert caught.value.remedy
    assert "the-managers-token" not in f"{caught.value} {caught.value.__cause__!r}"
