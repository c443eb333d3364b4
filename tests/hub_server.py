"""A hub on loopback: the requests that huggingface_hub makes to look at, make and fill a repository, kept in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_ofThisTest"
_MODEL = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?P<rest>/.*)?\Z")
_LFS = re.compile(r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch\Z")


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """What the server knows: repositories by name, and the large files that were uploaded, by SHA-256."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse_commits: bool = False
    spoil: Callable[[Any], None] | None = None  # answers who asks for the account, instead of the hub
    may_go_on: threading.Event | None = None  # what the answer to a large file waits for
    url: str = ""


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub whose only account is `ada`, who belongs to `lab`. Files from 1 kB on are large ones."""
    hub = Hub()

    class Bound(_Handler):
        pass

    Bound.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"GET {path}")
        if self.hub.spoil is not None:
            self.close_connection = True
            with suppress(OSError):
                self.hub.spoil(self)
            return None
        if not self._known():
            return self._answer(401, {"error": "Invalid username or password."})
        if path == "/api/whoami-v2":
            return self._answer(200, {"type": "user", "name": "ada", "orgs": [{"name": "lab"}]})
        match = _MODEL.match(path)
        repository = self.hub.repositories.get(match["repo"]) if match else None
        if match is None or repository is None:
            return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if (match["rest"] or "").startswith("/tree/"):
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in repository.files.items()
            ]
            return self._answer(200, listed)
        return self._answer(200, self._info(match["repo"], repository))

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._known():
            return self._answer(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if match := _LFS.match(path):
            return self._batch(json.loads(body))
        match = _MODEL.match(path)
        repository = self.hub.repositories.get(match["repo"]) if match else None
        if match is None or repository is None:
            return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if match["rest"] == "/preupload/main":
            files = [
                {"path": one["path"], "uploadMode": "lfs" if one["size"] >= 1000 else "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        if match["rest"] == "/commit/main":
            return self._commit(match["repo"], repository, body)
        return self._answer(404, {"error": f"Not found: {path}"})

    def do_PUT(self) -> None:
        name = self.path.rpartition("/")[2]
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.requests.append("PUT")
        if self.hub.may_go_on is not None:
            self.hub.may_go_on.wait(60)
        if hashlib.sha256(data).hexdigest() != name:
            return self._answer(400, {"error": "wrong digest"})
        self.hub.stored[name] = data
        return self._answer(200, {})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'ada'}/{asked['name']}"
        if name in self.hub.repositories:
            return self._answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private=bool(private), files={".gitattributes": b"*.gguf lfs\n"})
        return self._answer(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {
                **one,
                "actions": {"upload": {"href": f"{self.hub.url}/store/{one['oid']}", "header": {}}},
            }
            for one in asked["objects"]
            if one["oid"] not in self.hub.stored
        ]
        return self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, name: str, repository: Repository, body: bytes) -> None:
        if self.hub.refuse_commits:
            return self._answer(403, {"error": "Forbidden"})
        for line in body.splitlines():
            said = json.loads(line)
            value = said["value"]
            if said["key"] == "header":
                repository.commits.append(value["summary"])
            elif said["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif said["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.stored[value["oid"]]
            elif said["key"] == "deletedFile":
                del repository.files[value["path"]]
        card = repository.files.get("README.md", b"").decode()
        if found := re.search(r"^tags: \[(.*)\]$", card, re.MULTILINE):
            repository.tags = found[1].split(", ")
        oid = hashlib.sha1(body).hexdigest()
        url = f"{self.hub.url}/{name}/commit/{oid}"
        return self._answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _info(self, name: str, repository: Repository) -> dict[str, Any]:
        return {
            "_id": "1",
            "id": name,
            "sha": "0" * 40,
            "private": repository.private,
            "tags": repository.tags,
            "siblings": [{"rfilename": file} for file in repository.files],
            "cardData": {"license": "apache-2.0"},
        }

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, content in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass
