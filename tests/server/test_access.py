"""Every route of the server, requested by clients without access. New routes are tested automatically."""

from __future__ import annotations

import http.client
import json

import pytest
from starlette.routing import Route

from serving import Served, jsonl, until_over
from tuneport_server.app import PAGES, WIRE

ROUTES = [
    (method, route)
    for module in (*WIRE, *PAGES)
    for route in module.ROUTES
    for method in sorted(route.methods - {"HEAD"})
]
OPEN = {("GET", "/login"), ("POST", "/login")}
ASSETS = (".css", ".js", ".ico", ".svg")
# Those that are open to everybody tell nothing, to which test_page.py holds them.
CLOSED = [(method, one) for method, one in ROUTES if (method, one.path) not in OPEN and not one.path.endswith(ASSETS)]


@pytest.fixture(scope="module")
def tokens(shared: Served) -> dict[str, str]:
    made = {name: shared.add_token(f"access-{name}") for name in ("owner", "another", "removed")}
    shared.remove_token("access-removed")
    return made


@pytest.fixture(scope="module")
def owned(shared: Served, tokens: dict[str, str]) -> dict[str, str]:
    """What one token owns, by its name in the paths of routes."""
    with shared.client(tokens["owner"]) as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
        upload = client.uploads.create(bytes=10, filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune").id
        job = until_over(client, client.fine_tuning.jobs.create(model="gray", training_file=file).id)
    assert job.fine_tuned_model
    return {"file_id": file, "upload_id": upload, "job_id": job.id, "model": job.fine_tuned_model}


def ask(shared: Served, method: str, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=30)
    body = json.dumps({"model": "gray"}) if method == "POST" else None
    origin = {"Origin": f"http://127.0.0.1:{shared.port}"}
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **origin, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def path_of(route: Route, owned: dict[str, str]) -> str:
    return route.path.replace("{model:path}", owned["model"]).format(**owned, action="cancel", id="resp_1")


def test_nearly_every_route_is_closed() -> None:
    assert {one.path for _, one in ROUTES} - {one.path for _, one in CLOSED} == {
        "/login",
        "/page.css",
        "/page.js",
        "/icon.svg",
    }


@pytest.mark.parametrize(("method", "route"), CLOSED, ids=lambda one: getattr(one, "path", one))
def test_a_route_is_closed_to_everybody_but_its_owner(
    shared: Served, tokens: dict[str, str], owned: dict[str, str], method: str, route: Route
) -> None:
    path = path_of(route, owned)
    for authorization in ("", "Bearer tp-wrong", f"Bearer {tokens['removed']}", "Basic b3duZXI6b3duZXI="):
        headers = {"Authorization": authorization} if authorization else {}
        status, text = ask(shared, method, path, **headers)
        assert status == 401, (status, text)
        assert not any(value in text for value in owned.values())

    status, text = ask(shared, method, path, Authorization=f"Bearer {tokens['another']}")
    assert status < 500, (status, text)
    if "{" in route.path:
        assert status in (400, 404), (status, text)  # the answer does not tell whether the id exists
        assert not any(value in text for value in owned.values() if value not in path)
    else:
        assert not any(value in text for value in owned.values())


def test_requests_of_another_token_change_nothing(
    shared: Served, tokens: dict[str, str], owned: dict[str, str]
) -> None:
    for method, route in ROUTES:
        ask(shared, method, path_of(route, owned), Authorization=f"Bearer {tokens['another']}")
    with shared.client(tokens["owner"], max_retries=0) as client:
        assert client.files.retrieve(owned["file_id"]).id == owned["file_id"]
        assert client.fine_tuning.jobs.retrieve(owned["job_id"]).status == "succeeded"
        assert client.models.retrieve(owned["model"]).id == owned["model"]
        assert client.uploads.cancel(owned["upload_id"]).status == "cancelled"
