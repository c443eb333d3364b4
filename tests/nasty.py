"""A table of what servers do that no client expects: each scenario spoils some routes of the loopback server."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from typing import Any

from wire_server import WireServer

Act = Callable[[Any], None]
Change = Callable[[Any], Any]

CREATE = r"POST /v1/fine_tuning/jobs"
JOBS = r"GET /v1/fine_tuning/jobs"
JOB = r"GET /v1/fine_tuning/jobs/[^/]+"
EVENTS = r"GET /v1/fine_tuning/jobs/[^/]+/events"
CHECKPOINTS = r"GET /v1/fine_tuning/jobs/[^/]+/checkpoints"
FILES = r"GET /v1/files"
FILE = r"GET /v1/files/[^/]+"
CONTENT = r"GET /v1/files/[^/]+/content"
CHAT = r"POST /v1/chat/completions"
DELETE = r"DELETE /v1/.*"


@dataclass(frozen=True)
class Scenario:
    """`act` answers instead of the server (the first `times` times), `change` changes its answers. `fails` are the
    phases that must end with a TuneportError, of which one has the words `says`; all others must succeed.
    """

    route: str
    act: Act | None = None
    change: Change | None = None
    fails: tuple[str, ...] = ()
    says: str = ""
    times: int = 10**9
    most: int = 120
    then: tuple[Scenario, ...] = field(default=())

    def spoil(self, server: WireServer) -> None:
        parts, done = (self, *self.then), {}

        def instead(handler: Any, method: str, path: str) -> bool:
            for number, one in enumerate(parts):
                with server.lock:
                    fits = re.fullmatch(one.route, f"{method} {path}") and done.get(number, 0) < one.times
                    if fits and one.act is not None:
                        done[number] = done.get(number, 0) + 1
                if fits and one.act is not None:
                    handler.close_connection = True
                    with contextlib.suppress(OSError):
                        one.act(handler)
                    return True
            return False

        def changed(method: str, path: str, answer: Any) -> Any:
            for one in parts:
                if one.change is not None and re.fullmatch(one.route, f"{method} {path}"):
                    answer = one.change(answer)
            return answer

        server.spoil, server.twist = instead, changed


# What is sent


def reply(status: int, body: object, kind: str = "application/json", **headers: str) -> Act:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    def act(handler: Any) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(raw)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(raw)

    return act


def page(status: int, words: str) -> Act:
    return reply(status, f"<html><style>p {{}}</style><h1>{words}</h1></html>".encode(), "text/html")


def head(handler: Any, kind: str = "application/json", encoding: str = "") -> None:
    """The head of an answer whose body ends with the connection."""
    encoded = f"Content-Encoding: {encoding}\r\n" if encoding else ""
    handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{encoded}Connection: close\r\n\r\n".encode())


def endless(kind: str = "application/json", piece: bytes = b"[1," * 20_000, encoding: str = "") -> Act:
    """A body that never ends, as fast as it is read."""

    def act(handler: Any) -> None:
        head(handler, kind, encoding)
        machine = zlib.compressobj(wbits=31) if encoding else None
        while True:
            handler.wfile.write(machine.compress(piece * 20) if machine else piece)

    return act


def drip(first: bytes, piece: bytes, pause: float = 0.05) -> Act:
    """An answer that comes a little at a time, for ever; never silent for long."""

    def act(handler: Any) -> None:
        handler.wfile.write(first)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause)

    return act


def reset(handler: Any) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def half(handler: Any) -> None:
    """Half a JSON of which the whole was promised."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"id": "f')


@cache
def bomb(prefix: bytes = b'{"id": "', piece: bytes = b" ", megabytes: int = 64) -> bytes:
    """A gzip body that grows a thousandfold."""
    machine = zlib.compressobj(9, wbits=31)
    block = piece * (2**20 // len(piece))
    return machine.compress(prefix) + b"".join(machine.compress(block) for _ in range(megabytes)) + machine.flush()


def bombed(kind: str = "application/json", **options: Any) -> Act:
    return lambda handler: reply(200, bomb(**options), kind, Content_Encoding="gzip")(handler)


def stream(*events: object, done: bool = False, kind: str = "text/event-stream") -> Act:
    lines = [f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in events]
    return reply(200, "".join([*lines, "data: [DONE]\n\n"] if done else lines).encode(), kind)


def piece(text: str, reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def both(plain: Act, streamed: Act) -> Act:
    """One answer for a question, another for a question that is streamed."""

    def act(handler: Any) -> None:
        (streamed if b'"stream":true' in handler.body.replace(b" ", b"") else plain)(handler)

    return act


def completion(**facts: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **facts}


def event(number: int, **facts: Any) -> dict[str, Any]:
    fixed = {"id": f"e-{number}", "object": "fine_tuning.job.event", "created_at": 1_700_000_000, "level": "info"}
    return {**fixed, "message": f"message {number}", "type": "message", "data": {}, **facts}


def always_more(*items: Any) -> Act:
    return reply(200, {"object": "list", "data": list(items), "has_more": True})


def growing(make: Callable[[int], dict[str, Any]], size: int = 1) -> Act:
    """Each page brings new items, for ever."""
    count = [0]

    def act(handler: Any) -> None:
        count[0] += size
        always_more(*(make(count[0] + one) for one in range(size)))(handler)

    return act


def updated(**facts: Any) -> Change:
    return lambda answer: {**answer, **facts} if isinstance(answer, dict) else answer


def deep(levels: int = 100_000) -> bytes:
    return b'{"id":' + b"[" * levels + b"]" * levels + b"}"


DATE = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
PAST = "Wed, 21 Oct 2015 07:28:00 GMT"
BUSY = {"error": {"message": "Slow down"}}
AFTER_TRAIN = ("wait", "ask", "stream")
SLOW = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CSV = b"step,train_loss\n1,2.5\n"


def refusal(status: int, body: object, says: str, kind: str = "application/json") -> Scenario:
    return Scenario(CREATE, reply(status, body, kind), fails=("train",), says=f"{status}: {says}")


REFUSALS = {
    "a refusal as detail": refusal(422, {"detail": "no such model here"}, "no such model here"),
    "a refusal as a list of details": refusal(
        422, {"detail": [{"loc": ["body", "model"], "msg": "field required"}]}, "body.model: field required"
    ),
    "a refusal whose error is a text": refusal(400, {"error": "the disk is full"}, "the disk is full"),
    "a refusal as a message": refusal(403, {"message": "Missing Authentication Token"}, "Missing Authentication Token"),
    "a page with 403": Scenario(
        CREATE, page(403, "Blocked &amp; logged"), fails=("train",), says="403: Blocked & logged"
    ),
    "a page with 402": Scenario(CREATE, page(402, "Pay first"), fails=("train",), says="402: Pay first"),
    "a refusal as plain text": refusal(400, b"not today", "not today", "text/plain"),
    "a refusal without a body": refusal(400, b"", "no reason given"),
    "a refusal as bytes": refusal(400, bytes(range(128, 256)), "(bytes that are not text)", "image/png"),
    "a refusal that is deep": refusal(400, deep(), ""),
    "a refusal that never ends": Scenario(CREATE, endless(), fails=("train",), says="may have been started"),
    "a redirect": Scenario(CREATE, reply(307, b"", Location="http://127.0.0.1:9/x"), fails=("train",), says="307"),
    "a wire's own 402": Scenario(
        CREATE, reply(402, {"error": {"message": "no credit"}}), fails=("train",), says="(402): no credit"
    ),
}
CREATIONS = {
    "a creation answered with null": Scenario(CREATE, change=lambda _: None),
    "a creation answered with a list": Scenario(CREATE, change=lambda _: []),
    "a creation answered with a text": Scenario(CREATE, change=lambda _: "done"),
    "a creation answered without an id": Scenario(CREATE, change=updated(id=None)),
    "a creation answered with a number as id": Scenario(CREATE, change=updated(id=7)),
    "a creation answered with another's job": Scenario(
        CREATE, change=updated(id="ftjob-other", metadata={"tuneport_intent": "other"})
    ),
    "a creation answered deeply": Scenario(CREATE, change=lambda _: deep()),
    "a creation answered with bytes": Scenario(CREATE, change=lambda _: b"\xff\xfe\x00"),
    "a lost creation and a list that never ends": Scenario(
        CREATE,
        reset,
        fails=("train",),
        says="does not end",
        then=(Scenario(JOBS, always_more(event(1, created_at=4_000_000_000))),),
    ),
}
STATES = {
    "another job's state": Scenario(JOB, change=updated(id="ftjob-other"), fails=AFTER_TRAIN, says="about the job"),
    "an error that is a text": Scenario(
        JOB, change=updated(status="failed", error="the rows are odd"), fails=AFTER_TRAIN, says="the rows are odd"
    ),
    "an error that is a list": Scenario(JOB, change=updated(status="failed", error=[1]), fails=AFTER_TRAIN),
    "a success without a model": Scenario(
        JOB, change=updated(fine_tuned_model=None), fails=AFTER_TRAIN, says="names no model"
    ),
    "a success whose model is a number": Scenario(JOB, change=updated(fine_tuned_model=5), fails=AFTER_TRAIN),
    "a state full of nulls": Scenario(
        JOB,
        change=updated(created_at=None, model=None, method=None, result_files=None, metadata=None, trained_tokens=None),
    ),
    "numbers out of all bounds": Scenario(
        JOB, change=updated(created_at=10**400, finished_at=float("inf"), trained_tokens=-5, estimated_finish=1e300)
    ),
    "a state with half characters": Scenario(
        JOB, change=updated(error={"message": "\ud800"}, organization_id="\udfff")
    ),
    "a state that is deep": Scenario(JOB, reply(200, deep()), fails=AFTER_TRAIN, says="nested too deeply"),
    "three times busy": Scenario(JOB, reply(429, BUSY), times=3),
    "busy until a date": Scenario(JOB, reply(429, BUSY, Retry_After=PAST), times=2),
    "busy for nonsense": Scenario(JOB, reply(429, BUSY, Retry_After="\x07soon -1 nan"), times=2),
    "busy for a negative time": Scenario(JOB, reply(429, BUSY, Retry_After="-1"), times=2),
    "busy for ever": Scenario(JOB, reply(429, BUSY), fails=AFTER_TRAIN, says="The job continues"),
    "down three times": Scenario(JOB, page(503, "maintenance"), times=3),
    "a gateway's page twice": Scenario(JOB, page(200, "please wait"), times=2),
    "a lost connection": Scenario(JOB, reset, times=2),
    "half an answer": Scenario(JOB, half, times=1),
    "a state that never ends": Scenario(JOB, endless(), fails=AFTER_TRAIN, says="larger than"),
    "a state of a million values": Scenario(
        JOB, reply(200, b"[" + b"{}," * 1_100_000 + b"1]"), fails=AFTER_TRAIN, says="million"
    ),
    "a state that is a bomb": Scenario(JOB, bombed(), fails=AFTER_TRAIN, says="larger than"),
    "a bomb that never ends": Scenario(JOB, endless(encoding="gzip"), fails=AFTER_TRAIN, says="larger than"),
    "gzip that is none": Scenario(
        JOB, reply(200, b"plain", Content_Encoding="gzip"), fails=AFTER_TRAIN, says="cannot be decompressed"
    ),
    "gzip that is cut short": Scenario(
        JOB, reply(200, gzip.compress(b"{}" * 999)[:-9], Content_Encoding="gzip"), fails=AFTER_TRAIN, says="truncated"
    ),
    "an encoding nobody asked for": Scenario(
        JOB, reply(200, b"x", Content_Encoding="br"), fails=AFTER_TRAIN, says="was not requested"
    ),
    "a body that drips": Scenario(JOB, drip(SLOW + b"\r\n", b" "), times=1),
    "headers that drip": Scenario(JOB, drip(SLOW, b"X-Slow: yes\r\n"), times=1),
    "a head that never ends": Scenario(JOB, drip(SLOW, b"X-Long: " + b"x" * 60_000 + b"\r\n", 0), times=1),
    "early hints for ever": Scenario(JOB, drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), times=1),
}
LISTS = {
    "events that ignore their cursor": Scenario(EVENTS, always_more(*(event(one) for one in range(6, 0, -1)))),
    "events that all have one id": Scenario(EVENTS, always_more(*(event(1) for _ in range(50)))),
    "events that grow one by one": Scenario(EVENTS, growing(event), most=600),
    "events that are null": Scenario(EVENTS, reply(200, {"object": "list", "data": None, "has_more": True})),
    "events that are no objects": Scenario(EVENTS, always_more(None, "x", 7, [])),
    "events without ids and times": Scenario(EVENTS, always_more({"message": None}, {"data": [1]}, {})),
    "events with odd numbers": Scenario(
        EVENTS, always_more(event(1, type="metrics", created_at=10**300, data={"step": 1e308, "train_loss": 10**400}))
    ),
    "no events at all": Scenario(EVENTS, reply(404, {"detail": "Not Found"})),
    "events that are a page": Scenario(EVENTS, page(200, "hello")),
    "events that are bytes": Scenario(EVENTS, reply(200, bytes(range(256)))),
    "events that never end": Scenario(EVENTS, endless()),
    "files that always go on": Scenario(FILES, always_more({"id": "file-x", "filename": "x", "bytes": 1})),
    "files that grow": Scenario(FILES, growing(lambda n: {"id": f"f-{n}", "filename": "x", "bytes": 1}), most=200),
    "files that are null": Scenario(FILES, reply(200, {"data": None})),
    "checkpoints that always go on": Scenario(CHECKPOINTS, always_more({"id": "c", "step_number": "x", "metrics": 3})),
    "no checkpoints at all": Scenario(CHECKPOINTS, reply(404, {"detail": "Not Found"})),
}
CONTENTS = {
    "a result file of bytes": Scenario(CONTENT, reply(200, bytes(range(256)) * 99, "application/octet-stream")),
    "a result file of zeros": Scenario(CONTENT, reply(200, b"step,train_loss\n\0,\0\n" + b"\0" * 9_999, "text/csv")),
    "no result file": Scenario(CONTENT, reply(404, {"detail": "gone"})),
    "a result file that is a page": Scenario(CONTENT, page(200, "log in")),
    "a result file of one endless line": Scenario(CONTENT, endless("text/csv", b"step,x" * 10_000)),
    "a result file that is a bomb": Scenario(CONTENT, bombed("text/csv", prefix=CSV, piece=b"1,2\n", megabytes=128)),
    "a result file of numbers out of bounds": Scenario(
        CONTENT, reply(200, b"step,train_loss\n1e308,1\n-1,2\n" + b"9" * 5_000 + b",1\n", "text/csv")
    ),
    "a result file that breaks off": Scenario(CONTENT, half),
}
FILE_LOOKS = {
    "a file that stays uploaded": Scenario(
        FILE, change=updated(status="uploaded"), fails=("train",), says="'uploaded'"
    ),
    "another file's state": Scenario(FILE, change=updated(id="file-other"), fails=("train",), says="about the file"),
    "a file whose status is a number": Scenario(FILE, change=updated(status=5)),
    "a file that is bad at length": Scenario(
        FILE, change=updated(status="error", status_details=["x" * 9_999]), fails=("train",), says="rejected the file"
    ),
    "a busy look at a file": Scenario(FILE, reply(429, BUSY), times=2),
}
TALK = ("ask", "stream")
ANSWERS = {
    "no choices": Scenario(
        CHAT, both(reply(200, completion(choices=[])), stream(done=True)), fails=TALK, says="without a choice"
    ),
    "choices that are null": Scenario(
        CHAT, both(reply(200, completion(choices=None)), stream({"choices": None}, done=True)), fails=TALK
    ),
    "choices that are a text": Scenario(
        CHAT, both(reply(200, completion(choices="hi")), stream({"choices": "hi"}, done=True)), fails=TALK
    ),
    "a content that is a number": Scenario(
        CHAT,
        both(reply(200, completion(choices=[{"message": {"content": 5}}])), stream({"choices": [5]}, done=True)),
        fails=TALK,
    ),
    "an error as answer": Scenario(
        CHAT, both(reply(200, {"error": "tired"}), stream(piece("so "), {"error": "tired"})), fails=TALK
    ),
    "an answer with half characters": Scenario(
        CHAT,
        both(reply(200, completion(choices=[{"message": {"content": "a\ud800"}}])), stream(piece("\udcff", "stop"))),
    ),
    "a stream cut before its end": Scenario(
        CHAT, both(reply(200, completion()), stream(piece("so "))), fails=("stream",), says="too early"
    ),
    "a stream that ends with a reason": Scenario(CHAT, both(reply(200, completion()), stream(piece("so", "stop")))),
    "a stream that is reset": Scenario(
        CHAT,
        both(reply(200, completion()), lambda handler: (stream(piece("so "))(handler), reset(handler))[0]),
        fails=("stream",),
    ),
    "a stream that never ends": Scenario(
        CHAT,
        both(reply(200, completion()), endless("text/event-stream", b": ping\n\n" * 9_000)),
        fails=("stream",),
        says="larger than",
    ),
    "a line that never ends": Scenario(
        CHAT,
        both(reply(200, completion()), endless("text/event-stream", b"data: " + b"x" * 60_000)),
        fails=("stream",),
        says="a line of more than",
    ),
    "answers that are a page": Scenario(CHAT, page(200, "hello"), fails=TALK),
    "answers that are deep": Scenario(CHAT, reply(200, deep()), fails=TALK, says="nested too deeply"),
    "an answer for a day later": Scenario(CHAT, reply(429, BUSY, Retry_After=DATE), fails=TALK, says="Slow down"),
    "an answer for a year later": Scenario(CHAT, reply(503, BUSY, Retry_After="1e9"), fails=TALK, says="Slow down"),
    "an answer after a past date": Scenario(CHAT, reply(429, BUSY, Retry_After=PAST), times=1),
    "a busy model": Scenario(CHAT, reply(429, BUSY, retry_after_ms="5"), times=1),
}
REMOVALS = {
    "a deletion that is refused": Scenario(DELETE, page(403, "keep it"), fails=("delete",), says="keep it"),
    "a deletion answered with a page": Scenario(DELETE, page(200, "bye")),
    "a deletion that never ends": Scenario(DELETE, endless(), fails=("delete",), says="larger than"),
}
SCENARIOS = REFUSALS | CREATIONS | STATES | LISTS | CONTENTS | FILE_LOOKS | ANSWERS | REMOVALS
