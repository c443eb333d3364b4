"""A small made-up service, its backend over `tuneport.hosted`, and its faults."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from tuneport.hosted import (
    DataFile,
    Endpoint,
    Entry,
    HostedBackend,
    Http,
    Label,
    Limits,
    Proof,
    Report,
    Service,
    Start,
)
from tuneport.plugin import Capabilities, Quantity, Status, TrainRequest, hookimpl

TUNEPORT_API = 1
KEY = "depot-key-0123456789"


class Depot(Service):
    endpoint = Endpoint(name="depot", title="Depot", url="https://depot.example", key="DEPOT_KEY", address="DEPOT_URL")
    capabilities = Capabilities(methods=frozenset({"sft"}), quotes=True)
    proof: ClassVar[Proof] = Label()
    words: ClassVar[dict[str, Status]] = {
        "waiting": Status.QUEUED,
        "working": Status.RUNNING,
        "done": Status.SUCCEEDED,
        "dead": Status.FAILED,
    }
    chat_path = "/chat/completions"

    def write_body(self, request: TrainRequest, model: str) -> dict[str, Any]:
        return {"epochs": 3 if request.options.epochs == "auto" else request.options.epochs}

    def send_file(self, http: Http, start: Start, file: DataFile) -> str:
        return str(http.once("POST", "/files", file=("file", file.name, file.path))["id"])

    def quote(self, http: Http, start: Start) -> Quantity | None:
        return Quantity(value=http.again("GET", "/price")["usd"], unit="USD", source="Depot's offer")

    def create(self, http: Http, start: Start) -> Report:
        return self._report(
            http.once("POST", "/jobs", {"mark": start.mark, "file": start.files["train"], **start.body})
        )

    def find(self, http: Http, start: Start) -> Iterable[Report]:
        return [self._report(one) for one in http.again("GET", "/jobs")["jobs"]]

    def look(self, http: Http, job_id: str) -> Report:
        return self._report(http.again("GET", f"/jobs/{job_id}"))

    def read_entries(self, http: Http, report: Report, after: str | None) -> Iterable[Entry]:
        for one in http.again("GET", f"/jobs/{report.id}/log", query={"after": after or 0})["lines"]:
            yield Entry(id=str(one["n"]), message=one["text"])

    @staticmethod
    def _report(job: dict[str, Any]) -> Report:
        return Report(id=job["id"], word=job["state"], mark=job["mark"], model=job["id"], raw=job)


@hookimpl
def tuneport_backends() -> list[HostedBackend]:
    return [HostedBackend(Depot())]


def hasty(**limits: Any) -> Endpoint:
    """The endpoint with other limits."""
    return replace(Depot.endpoint, limits=Limits(**limits))


class DepotServer:
    """Its state, and what goes wrong: `fault` of the next creation, `lag` of the next lists, `late` delivery."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.files: list[bytes] = []
        self.asked: list[str] = []
        self.fault = ""
        self.lag = 0
        self.broken_lists = 0
        self.is_token = False  # whether a repeated mark is answered with the same job
        self.price: float | None = 1.0
        self.chat_answer: Any = {}
        self.forms: list[bytes] = []
        self.keys: list[str] = []  # of X-API-Key
        self.pages = 0  # how many of the next answers are a page
        self.prefix = ""  # what the service makes of the mark: a longer name
        self.lock = threading.Lock()
        self._http = _Quiet(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if (method, path) == ("POST", "/files"):
            self.files.append(body)
            return 200, {"id": f"file-{len(self.files)}"}
        if path == "/chat/completions":
            return 200, self.chat_answer
        if path == "/circle":
            return 200, {"items": [1], "nextPageToken": "again"}
        if path == "/cursor":
            return 200, {"items": [1], "next": "b"} if "from" not in query else {"items": [query["from"]]}
        if path == "/price":
            return 200, {"usd": self.price}
        if (method, path) == ("POST", "/jobs"):
            return 200, self._create(body)
        if path == "/jobs":
            self.lag -= 1
            self.broken_lists -= 1
            if self.broken_lists >= 0:
                return 500, {"error": {"message": "no list"}}
            return 200, {"jobs": [] if self.lag >= 0 else list(self.jobs.values())}
        name = path.split("/")[2]
        if name not in self.jobs:
            return 404, {"error": {"message": f"no job {name}"}}
        job = self.jobs[name]
        if path.endswith("/log"):
            return 200, {"lines": [one for one in job["lines"] if one["n"] > int(query["after"])]}
        job["looks"] += 1
        job["state"] = ("waiting", "working", "done")[min(2, job["looks"])]
        job["lines"].append({"n": len(job["lines"]) + 1, "text": f"look {job['looks']}"})
        return 200, job

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        known = next((job for job in self.jobs.values() if job["sent"] == body["mark"]), None)
        if known is not None and self.is_token:
            return known
        name = f"job-{len(self.jobs) + 1}"
        made = {"id": name, "sent": body["mark"], "mark": self.prefix + body["mark"], "state": "waiting"}
        self.jobs[name] = made | {"lines": [], "looks": 0}
        return self.jobs[name]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that go away are what these tests are about."""


def _handler(server: DepotServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Tests need no log."""

        def do_GET(self) -> None:
            self._serve("GET")

        def do_DELETE(self) -> None:
            server.asked.append(f"DELETE {self.path}")
            if self.path == "/things/lost" and server.asked.count(f"DELETE {self.path}") == 1:
                self.connection.close()
                return
            self._send(404, b'{"error": {"message": "no such thing"}}')

        def do_POST(self) -> None:
            self._serve("POST")

        def _serve(self, method: str) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            if parts.path == "/uploads":
                server.forms.append(raw)
                self._send(302, b"", Location="http://127.0.0.1:9/put?signature=s")
                return
            if parts.path == "/weights":
                server.keys.append(self.headers.get("X-API-Key", ""))
                self._send(200, b"weights")
                return
            body = json.loads(raw) if self.headers.get("Content-Type") == "application/json" else raw
            is_create = (method, parts.path) == ("POST", "/jobs")
            with server.lock:
                server.asked.append(f"{method} {parts.path}")
                fault, server.fault = (server.fault, "") if is_create else ("", server.fault)
                if fault == "lost":
                    self.connection.close()
                    return
                status, answer = server.answer(method, parts.path, dict(parse_qsl(parts.query)), body)
            if fault == "refused":
                server.jobs.clear()
                status, answer = 400, {"error": {"message": "bad epochs", "code": "bad"}}
            if fault == "slow":
                time.sleep(0.6)
            if fault == "500":
                status, answer = 500, {"error": {"message": "oops"}}
            server.pages -= 1
            text = b"<html>" if fault == "page" or server.pages >= 0 else json.dumps(answer).encode()
            self._send(status, text)

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler
