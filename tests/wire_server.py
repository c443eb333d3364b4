"""A small server of the OpenAI wire on loopback: jobs that succeed by being asked, models that know rows by heart."""

from __future__ import annotations

import email
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "sk-of-the-loopback-server"
RESULTS = (
    "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,2.5,0.3,,\n2,1.5,0.5,1.9,0.4\n3,0.5,0.9,,\n"
)
FLOW = ("validating_files", "queued", "running", "succeeded")


class WireServer:
    """State and faults of the server; `jobs`, `files` and `asked` can be looked at, `flow` and `refuse` changed."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.files: dict[str, dict[str, Any]] = {}
        self.content: dict[str, bytes] = {}
        self.thinking: tuple[str, str] | None = None
        """A field of each answer next to its text, and what it holds."""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.uploads: dict[str, dict[str, Any]] = {}
        self.models: dict[str, dict[str, str]] = {"base": {}}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.flow: tuple[str, ...] = FLOW
        self.refuse: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = {}
        # Answers a request instead of the server, or returns False; changes an answer before it is sent.
        self.spoil: Callable[[Any, str, str], bool] | None = None
        self.twist: Callable[[str, str, Any], Any] | None = None
        self.busy = 0  # how many of the next questions are answered by 429
        self.file_looks = 1  # how often a file is asked for before it is processed
        self.filters = True  # whether a list of jobs can be filtered by metadata
        self.most_at_once = self._at_once = 0
        self.answer_seconds = 0.0
        self._count = 0
        self._http = _Quiet(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def port(self) -> int:
        return self._http.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def calls(self, method: str, path: str) -> int:
        """How many requests of that method came to exactly that path."""
        with self.lock:
            return sum(1 for one in self.asked if one[0] == method and urlsplit(one[1]).path == path)

    def of_intent(self, intent: str) -> list[str]:
        with self.lock:
            return [j["id"] for j in self.jobs.values() if (j["metadata"] or {}).get("tuneport_intent") == intent]

    def new_id(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}-{self._count:06d}"

    # Routes: each returns (status, body); a body of bytes goes as it is

    def post_files(self, fields: dict[str, Any]) -> tuple[int, Any]:
        name, data = fields["file"]
        return 200, self.keep(name, data, fields["purpose"][1].decode())

    def keep(self, name: str, data: bytes, purpose: str) -> dict[str, Any]:
        file = {
            "id": self.new_id("file"),
            "object": "file",
            "bytes": len(data),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed" if not self.file_looks else "uploaded",
            "looks": 0,
        }
        self.files[file["id"]] = file
        self.content[file["id"]] = data
        return file

    def look_at_file(self, file_id: str) -> tuple[int, Any]:
        file = self.files.get(file_id)
        if file is None:
            return missing(f"No such File object: {file_id}")
        file["looks"] += 1
        if file["looks"] > self.file_looks and file["status"] == "uploaded":
            file["status"] = "processed"
        return 200, file

    def create(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["training_file"] not in self.files:
            return wrong(f"File {body['training_file']} does not exist", "training_file")
        job = {
            "id": self.new_id("ftjob"),
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
            "error": None,
            "fine_tuned_model": None,
            "finished_at": None,
            "hyperparameters": body.get("method", {}).get("supervised", {}).get("hyperparameters", {}),
            "model": body["model"],
            "organization_id": "org-loopback",
            "result_files": [],
            "seed": body.get("seed", 0),
            "status": self.flow[0],
            "trained_tokens": None,
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "metadata": body.get("metadata"),
            "method": body.get("method"),
            "stage": 0,
        }
        self.jobs[job["id"]] = job
        self.tell(job["id"], f"Created fine-tuning job: {job['id']}")
        return 200, dict(job)

    def tell(self, job: str, message: str, data: dict[str, Any] | None = None, level: str = "info") -> None:
        event = {
            "id": self.new_id("ftevent"),
            "object": "fine_tuning.job.event",
            "created_at": int(time.time()),
            "level": level,
            "message": message,
            "type": "metrics" if data else "message",
            "data": data or {},
        }
        self.events[job].insert(0, event)  # newest first, as the wire has it

    def advance(self, job: dict[str, Any]) -> None:
        """Every look at a job moves it on."""
        if job["stage"] + 1 >= len(self.flow) or job["status"] not in self.flow:
            return
        job["stage"] += 1
        job["status"] = self.flow[job["stage"]]
        self.tell(job["id"], f"The job is {job['status']}")
        if job["status"] == "running":
            for step in (1, 2):
                self.tell(job["id"], f"Step {step}/3", {"step": step, "total_steps": 3, "train_loss": 3.5 - step})
        if job["status"] == "succeeded":
            self.succeed(job)
        if job["status"] == "failed":
            job["error"] = {"code": "invalid_training_file", "message": "The rows are odd.", "param": "training_file"}

    def succeed(self, job: dict[str, Any]) -> None:
        name = f"ft:{job['model']}:loopback::{job['id']}"
        rows = [json.loads(line) for line in self.content[job["training_file"]].splitlines()]
        messages = [row.get("messages") or [*row["input"]["messages"], *row["preferred_output"]] for row in rows]
        self.models[name] = {turns[-2]["content"]: turns[-1]["content"] for turns in messages if len(turns) > 1}
        results = self.keep("step_metrics.csv", RESULTS.encode(), "fine-tune-results")
        job.update(
            fine_tuned_model=name, finished_at=int(time.time()), result_files=[results["id"]], trained_tokens=1234
        )

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        known = self.models.get(body["model"])
        if known is None:
            return missing(f"The model {body['model']} does not exist")
        words = set(str(body["messages"][-1]["content"]).lower().split())
        best = max(known.items(), key=lambda pair: len(words & set(pair[0].lower().split())), default=("", "Hello!"))
        message: dict[str, Any] = {"role": "assistant", "content": best[1], "refusal": None}
        reason = "stop"
        if self.thinking is not None:
            message[self.thinking[0]] = self.thinking[1]
        if body.get("tools"):
            call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            message, reason = (
                {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
                "tool_calls",
            )
        return 200, {
            "id": self.new_id("chatcmpl"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }


def wrong(message: str, param: str | None = None, status: int = 400) -> tuple[int, Any]:
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}


def missing(message: str) -> tuple[int, Any]:
    return wrong(message, status=404)


def _page(items: list[dict[str, Any]], query: dict[str, list[str]], limit: int = 20) -> tuple[int, Any]:
    limit = int(query.get("limit", [str(limit)])[0])
    after = query.get("after", [""])[0]
    start = next((place + 1 for place, one in enumerate(items) if one["id"] == after), 0)
    return 200, {"object": "list", "data": items[start : start + limit], "has_more": len(items) > start + limit}


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that go away are what these tests are about."""


def _handler(server: WireServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def _serve(self) -> None:
            body = self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            with server.lock:
                server.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                refused = server.refuse.get(f"{self.command} {path}")
            if server.spoil is not None and server.spoil(self, self.command, path):
                return None
            if refused:
                return self._send(refused[0], refused[1], refused[2])
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                return self._send(*wrong("Incorrect API key provided", status=401))
            if path == "/v1/chat/completions":
                return self._chat(json.loads(body))
            with server.lock:
                status, answer = self._route(path.removeprefix("/v1/").split("/"), query, body)
            return self._send(status, answer)

        do_GET = do_POST = do_DELETE = _serve

        def _route(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
            match [self.command, *parts]:
                case ["POST", "files"]:
                    return server.post_files(self._fields(body))
                case ["GET", "files"]:
                    return _page(list(server.files.values())[::-1], query, 10_000)
                case ["GET", "files", name]:
                    return server.look_at_file(name)
                case ["GET", "files", name, "content"]:
                    return (200, server.content[name]) if name in server.content else missing("no such file")
                case ["DELETE", "files", name]:
                    if server.files.pop(name, None) is None:
                        return missing("no such file")
                    return 200, {"id": name, "object": "file", "deleted": True}
                case ["POST", "uploads", *rest]:
                    return self._upload(rest, body)
                case ["POST", "fine_tuning", "jobs"]:
                    return server.create(json.loads(body))
                case ["GET", "fine_tuning", "jobs"]:
                    return self._jobs(query)
                case [_, "fine_tuning", "jobs", name, *rest]:
                    return self._job(name, rest, query)
                case ["GET", "models"]:
                    facts = {"object": "model", "created": 0, "owned_by": "loopback"}
                    return _page([{"id": name, **facts} for name in server.models], query)
                case ["DELETE", "models", name]:
                    if server.models.pop(name, None) is None:
                        return missing("no such model")
                    return 200, {"id": name, "object": "model", "deleted": True}
            return missing(f"no route {self.command} {self.path}")

        def _jobs(self, query: dict[str, list[str]]) -> tuple[int, Any]:
            wanted = query.get("metadata[tuneport_intent]") if server.filters else None
            found = [
                job
                for job in reversed(server.jobs.values())
                if not wanted or (job["metadata"] or {}).get("tuneport_intent") == wanted[0]
            ]
            return _page(found, query)

        def _job(self, name: str, rest: list[str], query: dict[str, list[str]]) -> tuple[int, Any]:
            job = server.jobs.get(name)
            if job is None:
                return missing(f"Could not find fine tune: {name}")
            match rest:
                case []:
                    server.advance(job)
                case ["events"]:
                    return _page(server.events[name], query)
                case ["checkpoints"]:
                    return _page([_checkpoint(job, step) for step in (2, 1)], query)
                case [verb]:
                    if job["status"] in ("succeeded", "failed", "cancelled"):
                        return wrong(f"Job has already {job['status']}.")
                    job["status"] = {"cancel": "cancelled", "pause": "paused", "resume": "running"}[verb]
                    job["stage"] = FLOW.index("running") if verb == "resume" else job["stage"]
            return 200, dict(job)

        def _upload(self, rest: list[str], body: bytes) -> tuple[int, Any]:
            if not rest:
                upload = {"id": server.new_id("upload"), "object": "upload", "status": "pending", **json.loads(body)}
                upload |= {"created_at": int(time.time()), "expires_at": int(time.time()) + 3600, "parts": {}}
                server.uploads[upload["id"]] = upload
                return 200, {**upload, "parts": None}
            upload = server.uploads[rest[0]]
            if upload["status"] != "pending":
                return wrong(f"the upload is {upload['status']}")
            if rest[1] == "parts":
                part = server.new_id("part")
                upload["parts"][part] = self._fields(body)["data"][1]
                return 200, {"id": part, "object": "upload.part", "created_at": 0, "upload_id": rest[0]}
            data = b"".join(upload["parts"][one] for one in json.loads(body)["part_ids"])
            if len(data) != upload["bytes"]:
                return wrong(f"{len(data)} bytes came, {upload['bytes']} were announced")
            upload["status"] = "completed"
            file = server.keep(upload["filename"], data, upload["purpose"])
            return 200, {**upload, "parts": None, "file": file}

        def _chat(self, body: dict[str, Any]) -> None:
            with server.lock:
                server._at_once += 1
                server.most_at_once = max(server.most_at_once, server._at_once)
                busy, server.busy = server.busy, max(0, server.busy - 1)
                status, answer = wrong("Slow down", status=429) if busy else server.answer(body)
            time.sleep(server.answer_seconds)
            with server.lock:
                server._at_once -= 1
            if status != 200 or not body.get("stream"):
                return self._send(status, answer, {"Retry-After": "0.05"} if status == 429 else {})
            words = answer["choices"][0]["message"]["content"]
            deltas = [{"content": one} for one in (words[: len(words) // 2], words[len(words) // 2 :])]
            if server.thinking is not None:
                deltas.insert(0, {server.thinking[0]: server.thinking[1]})
            chunks = [
                {**answer, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": one}]} for one in deltas
            ]
            stream = "".join(f"data: {json.dumps(one)}\n\n" for one in chunks) + "data: [DONE]\n\n"
            return self._send(200, stream.encode(), {"Content-Type": "text/event-stream"})

        def _fields(self, body: bytes) -> dict[str, tuple[str | None, bytes]]:
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            fields = {}
            for part in email.message_from_bytes(head + body).get_payload():
                name = part.get_param("name", header="content-disposition")
                fields[name] = (part.get_filename(), part.get_payload(decode=True))
            return fields

        def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
            if server.twist is not None and not isinstance(answer, bytes):
                answer = server.twist(
                    self.command, urlsplit(self.path).path, json.loads(json.dumps(answer, default=str))
                )
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    return Handler


def _checkpoint(job: dict[str, Any], step: int) -> dict[str, Any]:
    return {
        "id": f"ftckpt-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": job["created_at"] + step,
        "fine_tuned_model_checkpoint": f"ft:{job['model']}:loopback::{job['id']}:ckpt-step-{step}",
        "fine_tuning_job_id": job["id"],
        "step_number": step,
        "metrics": {"step": float(step), "train_loss": 3.5 - step},
    }
