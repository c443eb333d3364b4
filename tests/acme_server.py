"""Acme, the service of docs/hosted.md: it keeps state, refuses unknown fields, and fails before or after it acts."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "acme-key-0123456789"
_FIELDS = {"model", "data", "validation", "labels", "epochs"}
_UPLOAD = re.compile(rb'name="file"; filename="([^"]+)"\r\n.*?\r\n\r\n(.*)\r\n--', re.DOTALL)
_CREATED = "2026-11-29T10:00:00Z"


class RefusalError(Exception):
    """A refusal in Acme's own form."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class AcmeServer:
    """Its state. `fault` is a request, `before` or `after` it is carried out, and what goes wrong then: `lost`, `page`
    or a status; it happens once.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, Any]] = {}
        self.tunes: dict[str, dict[str, Any]] = {}
        self.models: set[str] = set()
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.fault: tuple[str, str, str] | None = None
        self.has_log = True
        self._count = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        """The address to use."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], key: str, raw: bytes) -> tuple[int, Any]:
        """The status and the body for a request; a body of None is a lost connection, bytes are a page."""
        asked = f"{method} {re.sub('/[tf][0-9]+', '/ID', path)}"
        with self._lock:
            self.asked.append(asked)
            self.keys.add(key)
            when, what = self.fault[1:] if self.fault and self.fault[0] == asked else ("", "")
            if what:
                self.fault = None
            if when == "before":
                return _failure(what)
            try:
                if key != f"Bearer {KEY}":
                    raise RefusalError(401, f"{key} is not a key")
                status, body = 200, self._serve(method, path, query, raw)
            except RefusalError as refusal:
                status, body = refusal.status, {"fault": {"code": "refused", "text": str(refusal)}}
            return _failure(what) if when == "after" else (status, body)

    def _serve(self, method: str, path: str, query: dict[str, str], raw: bytes) -> Any:
        for pattern, serve in _ROUTES.items():
            if found := re.fullmatch(pattern, f"{method} {path}"):
                return serve(self, found[1] if found.groups() else "", query, raw)
        raise RefusalError(404, f"nothing at {path}")

    def _upload(self, _: str, query: dict[str, str], raw: bytes) -> Any:
        found = _UPLOAD.search(raw)
        if found is None or any(set(json.loads(row)) != {"messages"} for row in found[2].splitlines()):
            raise RefusalError(400, "not a file of conversations")
        return self._keep(self.files, "f", {"name": found[1].decode()})

    def _list_files(self, _: str, query: dict[str, str], raw: bytes) -> Any:
        return {"files": [one for one in self.files.values() if one["name"] == query["name"]]}

    def _create(self, _: str, query: dict[str, str], raw: bytes) -> Any:
        body = json.loads(raw)
        if set(body) - _FIELDS:
            raise RefusalError(400, f"unknown fields: {sorted(set(body) - _FIELDS)}")
        if body["data"] not in self.files or body.get("validation", body["data"]) not in self.files:
            raise RefusalError(400, "no such file")
        if not isinstance(body["epochs"], int) or not 1 <= body["epochs"] <= 10:
            raise RefusalError(400, "epochs must be from 1 to 10")
        return self._keep(self.tunes, "t", {**body, "status": "waiting", "created": _CREATED})

    def _list_tunes(self, _: str, query: dict[str, str], raw: bytes) -> Any:
        wanted = query.get("label", "").partition(":")[2]
        found = [one for one in self.tunes.values() if wanted in ("", one["labels"].get("tuneport"))]
        first = int(query.get("pageToken", 0))
        more = {"nextPageToken": str(first + 2)} if first + 2 < len(found) else {}
        return {"tunes": found[first : first + 2], **more}

    def _show(self, name: str, query: dict[str, str], raw: bytes) -> Any:
        tune = self._find(self.tunes, name)
        shown = dict(tune)
        if tune["status"] == "waiting":
            tune["status"] = "working"
        elif tune["status"] == "working":
            tune |= {"status": "finished", "result": f"tuned-{name}", "usd": 0.25}
            self.models.add(f"tuned-{name}")
        return shown

    def _log(self, name: str, query: dict[str, str], raw: bytes) -> Any:
        self._find(self.tunes, name)
        if not self.has_log:
            raise RefusalError(404, "no log yet")
        lines = [{"id": n, "at": _CREATED, "text": f"step {n}", "step": n, "loss": 3.0 / n} for n in range(1, 4)]
        return {"lines": [one for one in lines if int(str(one["id"])) > int(query["after"])]}

    def _stop(self, name: str, query: dict[str, str], raw: bytes) -> Any:
        tune = self._find(self.tunes, name)
        if tune["status"] == "finished":
            raise RefusalError(409, "it is finished")
        tune["status"] = "stopped"
        return {}

    def _delete_tune(self, name: str, query: dict[str, str], raw: bytes) -> Any:
        return self._find(self.tunes, name) and bool(self.tunes.pop(name))

    def _delete_file(self, name: str, query: dict[str, str], raw: bytes) -> Any:
        return self._find(self.files, name) and bool(self.files.pop(name))

    def _delete_model(self, name: str, query: dict[str, str], raw: bytes) -> Any:
        if name not in self.models:
            raise RefusalError(404, f"no model {name}")
        return self.models.remove(name)

    def _chat(self, _: str, query: dict[str, str], raw: bytes) -> Any:
        body = json.loads(raw)
        if body["model"] not in {"small", *self.models}:
            raise RefusalError(404, f"no model {body['model']}")
        message = {"role": "assistant", "content": f"{body['model']} answers"}
        return {"choices": [{"message": message, "finish_reason": "stop"}]}

    def _keep(self, where: dict[str, dict[str, Any]], letter: str, what: dict[str, Any]) -> dict[str, Any]:
        self._count += 1
        name = f"{letter}{self._count}"
        where[name] = {"id": name, **what}
        return dict(where[name])

    @staticmethod
    def _find(where: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        if name not in where:
            raise RefusalError(404, f"no {name}")
        return where[name]


_ROUTES: dict[str, Callable[..., Any]] = {
    "POST /v1/files": AcmeServer._upload,
    "GET /v1/files": AcmeServer._list_files,
    "DELETE /v1/files/(f[0-9]+)": AcmeServer._delete_file,
    "POST /v1/tunes": AcmeServer._create,
    "GET /v1/tunes": AcmeServer._list_tunes,
    "GET /v1/tunes/(t[0-9]+)": AcmeServer._show,
    "GET /v1/tunes/(t[0-9]+)/log": AcmeServer._log,
    "POST /v1/tunes/(t[0-9]+)/stop": AcmeServer._stop,
    "DELETE /v1/tunes/(t[0-9]+)": AcmeServer._delete_tune,
    "DELETE /v1/models/([a-z0-9-]+)": AcmeServer._delete_model,
    "POST /v1/chat/completions": AcmeServer._chat,
}


def _failure(what: str) -> tuple[int, Any]:
    if what == "lost":
        return 0, None
    if what == "page":
        return 502, b"<html>"
    return int(what), {"fault": {"code": "ordered", "text": "as ordered"}}


def _handler(server: AcmeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Tests need no log."""

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            key = self.headers.get("Authorization", "")
            status, body = server.answer(self.command, parts.path, dict(parse_qsl(parts.query)), key, raw)
            if not status:
                self.connection.close()
                return
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _serve

    return Handler
