"""The HTTP side of the loopback server: routes, keys, strictness, and what goes wrong on purpose.

Kinds of fault that come before the request counts: `reset`, `503`, `429`, `page`, `redirect` (to the other host). Kinds
that come after it was carried out: `500 after`, `reset after`, `timeout after`, `truncated after`, `page after`. `late`
is answered later; `kill` and `kill after` kill the process `victim`.
"""

from __future__ import annotations

import contextlib
import email
import json
import os
import re
import signal
import socket
import struct
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import fireworks_schemas as schemas
from fireworks_schemas import ACCOUNT, KEY, KINDS, RefusedError

if TYPE_CHECKING:
    from fireworks_server import FireworksServer

_PAGE = b"<html><body>Bad gateway</body></html>"


@dataclass
class Fault:
    """What happens to the next `times` requests of that method whose path holds `part`."""

    method: str
    part: str
    kind: str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


class AnsweredError(Exception):
    """The request was answered, or will not be."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: FireworksServer

    def log_message(self, *_: object) -> None:
        """Tests need no log."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        raise NotImplementedError

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            pieces = b""
            while size := int(self.rfile.readline(), 16):
                pieces += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return pieces
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        raise AnsweredError


def make_handler(server: FireworksServer) -> type[_Handler]:
    """The handler of the API."""

    class Api(_Handler):
        def _serve(self, method: str) -> None:
            with contextlib.suppress(AnsweredError, ConnectionError):
                self._answer(method)

        def _answer(self, method: str) -> None:
            body = self._body()
            with server.lock:
                server.asked.append((method, self.path, dict(self.headers.items()), body))
            fault = self._fault(method)
            self._suffer_before(fault)
            try:
                if self.headers.get("Authorization") != f"Bearer {KEY}":
                    raise RefusedError(401, "the API key is not valid")
                with server.lock:
                    status, answer = 200, _route(server, method, self.path, self.headers, body)
            except RefusedError as refused:
                status, answer = refused.status, refused.body
            self._suffer_after(fault)
            if status == 200 and "/chat/" in self.path and json.loads(body).get("stream"):
                self._send_pieces(answer, cut=fault is not None and fault.kind == "cut")
                return
            self._send(status, json.dumps(answer).encode())

        def _send_pieces(self, answer: dict[str, Any], *, cut: bool) -> None:
            """The answer word by word, as server-sent events; `cut` ends it without its end."""
            words = re.findall(r"\S+\s*", answer["choices"][0]["message"]["content"])
            deltas: list[dict[str, Any]] = [{"role": "assistant"}, *({"content": word} for word in words)]
            chunks = [{"choices": [{"index": 0, "delta": one, "finish_reason": None}]} for one in deltas]
            chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}
            texts = [f"data: {json.dumps({**head, **one})}\n\n" for one in chunks[: 2 if cut else None]]
            self._send(200, "".join([*texts, "" if cut else "data: [DONE]\n\n"]).encode(), "text/event-stream")

        def _kill(self) -> None:
            os.kill(server.victim, signal.SIGKILL)
            self._reset()

        def _fault(self, method: str) -> Fault | None:
            with server.lock:
                for one in server.faults:
                    if one.times > 0 and one.method == method and one.part in self.path:
                        one.times -= 1
                        return one
            return None

        def _suffer_before(self, fault: Fault | None) -> None:
            kind = fault.kind if fault else ""
            if kind == "reset":
                self._reset()
            elif kind == "kill":
                self._kill()
            elif kind in ("503", "429"):
                code = {"503": 14, "429": 8}[kind]
                answer = {"code": code, "message": "later", "details": []}
                self._send(int(kind), json.dumps(answer).encode(), **(fault.headers if fault else {}))
                raise AnsweredError
            elif kind == "page":
                self._send(502, _PAGE, "text/html")
                raise AnsweredError
            elif kind == "redirect":
                self._send(307, b"", Location=f"{server.store_url}/elsewhere")
                raise AnsweredError

        def _suffer_after(self, fault: Fault | None) -> None:
            kind = fault.kind if fault else ""
            if kind == "late":
                time.sleep(server.slow_seconds)
            elif kind == "reset after":
                self._reset()
            elif kind == "kill after":
                self._kill()
            elif kind == "timeout after":
                time.sleep(server.slow_seconds)
                self._reset()
            elif kind == "500 after":
                self._send(500, json.dumps({"code": 13, "message": "internal", "details": []}).encode())
                raise AnsweredError
            elif kind == "page after":
                self._send(200, _PAGE, "text/html")
                raise AnsweredError
            elif kind == "truncated after":
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "4000")
                self.end_headers()
                self.wfile.write(b'{"name": "acc')
                self.wfile.flush()
                self._reset()

    return Api


def make_store_handler(server: FireworksServer) -> type[_Handler]:
    """The handler of the other host, where signed addresses lead; it wants no key, and refuses one."""

    class Store(_Handler):
        def _serve(self, method: str) -> None:
            body = self._body()
            with server.lock:
                server.asked.append((method, f"STORE{self.path}", dict(self.headers.items()), body))
                found = server.signed.get(self.path.split("/")[-1].partition("?")[0])
                keyed = [name for name in self.headers if name.lower() in ("authorization", "x-api-key", "cookie")]
                if keyed or found is None or found[0] != method:
                    self._send(403, b"<Error>SignatureDoesNotMatch</Error>", "application/xml")
                    return
                size = f"{len(body)},{len(body)}"
                signed = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": size}
                if method == "PUT" and any(self.headers.get(name) != value for name, value in signed.items()):
                    self._send(403, b"<Error>SignatureDoesNotMatch</Error>", "application/xml")
                    return
                if method == "PUT":
                    server.content[found[1]] = body
                    self._send(200, b"")
                    return
                what = found[1]
                data = server.metrics if what == "metrics" else server.adapter[what.removeprefix("adapter/")]
            self._send(200, data, "application/octet-stream")

    return Store


def _route(server: FireworksServer, method: str, path: str, headers: Any, raw: bytes) -> Any:
    parts = urlsplit(path)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    place = unquote(parts.path)
    if method == "POST" and re.fullmatch(r"(/inference)?/v1/chat/completions", place):
        return server.chat(_parsed(raw, headers, schemas.CHAT))
    if (method, place) == ("GET", "/v1/accounts"):
        return server.accounts()
    found = re.fullmatch(r"/v1/(accounts/([\w-]+)/(\w+)(?:/([\w.-]+))?)(?::(\w+))?", place)
    if found is None:
        raise RefusedError(404, f"there is no {place}")
    name, account, kind, item, verb = found.groups()
    if account != ACCOUNT and (method, kind) != ("GET", "models"):
        raise RefusedError(403, "")
    action = (method, kind, bool(item), verb or "")

    def body(check: schemas.Check) -> dict[str, Any]:
        return _parsed(raw, headers, check)

    if kind in KINDS:
        return _job_route(server, action, name, query, body)
    routes = {
        ("POST", "datasets", False, ""): lambda: server.create_dataset(body(schemas.DATASET)),
        ("GET", "datasets", True, ""): lambda: server.read_dataset(name),
        ("DELETE", "datasets", True, ""): lambda: server.delete(server.datasets, name),
        ("POST", "datasets", True, "upload"): lambda: server.upload(name, _file_of(raw, headers)),
        ("POST", "datasets", True, "getUploadEndpoint"): lambda: server.upload_endpoint(
            name, body(schemas.UPLOAD_ENDPOINT)["filenameToSize"]
        ),
        ("POST", "datasets", True, "validateUpload"): lambda: (body(schemas.EMPTY), server.validate_upload(name))[1],
        ("GET", "models", True, ""): lambda: server.read_model(name),
        ("DELETE", "models", True, ""): lambda: server.delete(server.models, name),
        ("GET", "models", True, "getDownloadEndpoint"): lambda: server.download_endpoint(name),
        ("POST", "deployments", False, ""): lambda: server.create_deployment(query, body(schemas.DEPLOYMENT)),
        ("GET", "deployments", False, ""): lambda: server.list_deployments(query),
        ("GET", "deployments", True, ""): lambda: server.read_deployment(name),
        ("DELETE", "deployments", True, ""): lambda: server.delete(server.deployments, name),
    }
    if action not in routes:
        raise RefusedError(404, f"there is no {method} {place}")
    return routes[action]()


def _job_route(server: FireworksServer, action: tuple[Any, ...], name: str, query: dict[str, str], body: Any) -> Any:
    method, kind, _, verb = action
    routes = {
        ("POST", False, ""): lambda: server.create_job(kind, query, body(KINDS[kind])),
        ("GET", False, ""): lambda: server.list_jobs(kind, query),
        ("GET", True, ""): lambda: server.read_job(name),
        ("DELETE", True, ""): lambda: server.delete(server.jobs, name),
        ("POST", True, "cancel"): lambda: (body(schemas.EMPTY), server.cancel_job(name))[1],
        ("POST", True, "resume"): lambda: (body(schemas.EMPTY), server.resume_job(name))[1],
    }
    if kind == "dpoJobs":
        routes["GET", True, "getMetricsFileEndpoint"] = lambda: server.metrics_endpoint(name)
    if (method, action[2], verb) not in routes:
        raise RefusedError(404, f"there is no {method} of {name}:{verb}")
    return routes[method, action[2], verb]()


def _parsed(raw: bytes, headers: Any, check: schemas.Check) -> dict[str, Any]:
    if "application/json" not in headers.get("Content-Type", ""):
        raise RefusedError(400, "the body must be application/json")
    try:
        body = json.loads(raw)
    except ValueError:
        raise RefusedError(400, "the body is not JSON") from None
    if why := check(body):
        raise RefusedError(400, why)
    return dict(body)


def _file_of(raw: bytes, headers: Any) -> bytes:
    kind = headers.get("Content-Type", "")
    if "multipart/form-data" not in kind or "boundary=" not in kind:
        raise RefusedError(400, "the body must be multipart/form-data")
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw)
    parts = [one for one in message.walk() if one.get_filename()]
    if len(parts) != 1 or parts[0].get_param("name", header="content-disposition") != "file":
        raise RefusedError(400, "give one file")
    if not str(parts[0].get_filename()).endswith(".jsonl"):
        raise RefusedError(400, "the file's name must end with .jsonl")
    return bytes(parts[0].get_payload(decode=True) or b"")


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that go away are what these tests are about."""
