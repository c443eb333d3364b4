"""Clients without a token lock nobody out, and no client holds a connection without progress."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import re
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import psutil
import pytest

from attacks import HALF_HEAD, NO_HTTP, SLOW_BODY, SLOW_LOGIN, WRONG_TOKEN, Crowd, hang_up_after
from serving import PATIENCE, Served, jsonl
from tuneport_server.network.patience import is_too_slow

LIMITS = ("requests=64", "head_seconds=2", "silence_seconds=3", "least_rate=1000")
SLACK = 20.0  # seconds beyond a limit, on a machine that is busy
WRONG_LOGIN = (
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 8\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken=tp"
)
UPGRADE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
FORM = b"POST /login HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = FORM + b"Transfer-Encoding: chunked\r\n\r\n"
BAD_CHUNK = CHUNKED + b"no size\r\n"
HIDDEN = b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n"  # to be read as a part of the body before it
CROWDS = {
    "slow logins": (560, SLOW_LOGIN, b"a"),
    "wrong logins": (700, WRONG_LOGIN, WRONG_LOGIN),
    "half heads": (1100, HALF_HEAD, b""),
    "dripping heads": (1100, HALF_HEAD, b"a"),
    "silent connections": (1100, b"", b""),
    "wrong tokens": (700, b"".join(WRONG_TOKEN % number for number in range(10)), WRONG_TOKEN % 7),
    "no HTTP": (700, NO_HTTP, NO_HTTP),
    "broken bodies": (700, BAD_CHUNK, b""),
    "web sockets": (700, UPGRADE, UPGRADE),
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, parrot_site: Path) -> Iterator[Served]:
    """A server that may open 256 files, with short time limits."""
    options = [word for limit in LIMITS for word in ("--limit", limit)]
    home = tmp_path_factory.mktemp("door") / "home"
    served = Served(home, "--models", "gray=parrot:gray", *options, site=parrot_site, descriptors=256)
    yield served.start()
    served.end()
    assert "Traceback" not in served.stderr(), served.stderr()[-4000:]


def log_size(served: Served) -> int:
    return served.home.with_suffix(".log").stat().st_size


def use(served: Served) -> None:
    """What a client with a token does, on a separate connection, without retries."""
    with served.client(max_retries=0) as client:
        assert client.models.retrieve("gray").id == "gray"
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune")
        assert client.files.content(file.id).read() == jsonl()


def log_in(served: Served) -> bool:
    """Does a login succeed, on a separate connection, without retries?"""
    form, origin = f"token={served.token}", f"http://127.0.0.1:{served.port}"
    headers = {"Origin": origin, "Content-Type": "application/x-www-form-urlencoded"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)) as one:
        try:
            one.request("POST", "/login", form, headers)
            return one.getresponse().status == 303
        except (http.client.HTTPException, ConnectionError):  # displaced before its form had come
            return False


def attack(served: Served, count: int, first: bytes, drip: bytes, seconds: float) -> None:
    """A client works and logs in from the attacker's address, while a crowd attacks; the log hardly grows."""
    size, end = log_size(served), time.monotonic() + seconds
    with Crowd(served.port, count, first, drip=drip, pause=0.25):
        use(served)
        logins = [log_in(served) for _ in range(10)]
        while time.monotonic() < end:
            use(served)
            logins += [log_in(served) for _ in range(10)]
            time.sleep(0.2)
    use(served)
    print(f"{logins.count(False)} of {len(logins)} logins cut off")
    assert logins.count(False) <= len(logins) // 10 + 1
    assert not re.search("F{3}", "".join("TF"[not one] for one in logins)), logins  # the third try is the last
    assert log_size(served) < size + 20_000, served.stderr()[-2000:]


@pytest.mark.parametrize("kind", CROWDS)
def test_a_crowd_without_a_token_keeps_no_client_with_one_out(door: Served, kind: str) -> None:
    count, first, drip = CROWDS[kind]
    attack(door, count * 2 // 5, first, drip, seconds=1)  # more than the files and requests of this server


@pytest.mark.soak
@pytest.mark.parametrize("kind", CROWDS)
def test_a_large_crowd_keeps_nobody_out_for_a_minute(tmp_path: Path, parrot_site: Path, kind: str) -> None:
    served = Served(tmp_path / "home", "--models", "gray=parrot:gray", site=parrot_site, descriptors=1024).start()
    try:
        count, first, drip = CROWDS[kind]
        attack(served, count, first, drip, seconds=60)
    finally:
        served.end()
    assert "Traceback" not in served.stderr()


def test_a_login_succeeds_while_slow_forms_hold_every_place(door: Served) -> None:
    body = b"token=" + door.token.encode()
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: %d\r\n"
    kind = b"Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n"
    with Crowd(door.port, 60, SLOW_LOGIN, drip=b"a"):
        time.sleep(1.2)
        _, answer = hang_up_after(door.port, head % len(body) + kind + body, PATIENCE)
    assert answer.startswith(b"HTTP/1.1 303 "), answer


LOGIN_PAGE = b"GET /login HTTP/1.1\r\nHost: localhost\r\n"
UNFINISHED = {
    "nothing": (b"", b"", b""),
    "half head": (HALF_HEAD, b"", b"408"),
    "dripping head": (HALF_HEAD, b"a", b"408"),
    "half form": (SLOW_LOGIN, b"", b"408"),
    "dripping form": (SLOW_LOGIN, b"a", b"408"),
    "dripping chunks": (CHUNKED, b"1\r\na\r\n", b"408"),
    "a chunk's size without end": (CHUNKED, b"0", b"408"),
    "a chunk's extension without end": (CHUNKED + b"1;", b"a", b"408"),
    "a trailer without end": (CHUNKED + b"1\r\na\r\n0\r\nX: ", b"a", b"408"),
    "half body": (SLOW_BODY, b"", b"408"),
    "dripping body": (SLOW_BODY, b"a", b"408"),
    "at rest": (LOGIN_PAGE + b"\r\n", b"", b"200"),
    "half a second head": (LOGIN_PAGE + b"\r\n" + LOGIN_PAGE, b"", b"200"),
    "a body that nobody reads": (LOGIN_PAGE + b"Content-Length: 9000000\r\n\r\n", b"a", b"200"),
}


def test_what_does_not_go_on_is_given_up(door: Served) -> None:
    def send(kind: str) -> bytes:
        sent, drip, _ = UNFINISHED[kind]
        return hang_up_after(door.port, sent.replace(b"%s", door.token.encode()), 10 + SLACK, drip)[1]

    with concurrent.futures.ThreadPoolExecutor(len(UNFINISHED)) as threads:
        answers = dict(zip(UNFINISHED, threads.map(send, UNFINISHED), strict=True))
    for kind, answer in answers.items():
        assert answer[9:12] == UNFINISHED[kind][2], (kind, answer)
        assert (b"\r\nx-request-id: req_" in answer) == bool(answer), (kind, answer)
        assert (b'"code": "request_timeout"' in answer.replace(b'":"', b'": "')) == (answer[9:12] == b"408")


def test_a_slow_sender_is_disconnected_before_the_last_deadline() -> None:
    assert is_too_slow(received=0, taken=10.1, grace=10, rate=1024)
    assert is_too_slow(received=50 * 1024, taken=60.1, grace=10, rate=1024)
    assert not is_too_slow(received=50 * 1024, taken=59.9, grace=10, rate=1024)


def until(true: Callable[[], bool], seconds: float = 3 + SLACK) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def sockets(served: Served) -> int:
    process = psutil.Process(served.process.pid)
    return sum(one.status == "ESTABLISHED" for one in process.net_connections("tcp"))


@pytest.mark.parametrize("asked", ["a file", "pages without a token"])
def test_a_client_that_never_reads_is_given_up(door: Served, asked: str) -> None:
    with door.client() as client:
        large = client.files.create(file=("large.jsonl", (b"x" * 79 + b"\n") * 300_000), purpose="fine-tune")
    until(lambda: sockets(door) == 0)
    if asked == "a file":
        head = f"GET /v1/files/{large.id}/content HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {door.token}"
        sent = f"{head}\r\n\r\n".encode()
    else:
        sent = b"GET /page.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
    opened = []
    for _ in range(4):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", door.port))
        one.setblocking(False)
        one.send(sent)
        opened.append(one)
    until(lambda: sockets(door) > 0)
    until(lambda: sockets(door) == 0)
    files = [one.path for one in psutil.Process(door.process.pid).open_files()]
    assert not [path for path in files if "/files/" in path]
    for one in opened:
        one.close()


def test_a_body_that_keeps_the_rate_is_not_cut_off_by_a_crowd(door: Served) -> None:
    rows = jsonl() * 100
    form = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b\r\nContent-Disposition: '
    form += b'form-data; name="file"; filename="rows.jsonl"\r\n\r\n' + rows + b"\r\n--b--\r\n"
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {door.token}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    with (
        Crowd(door.port, 100, HALF_HEAD, pause=0.25) as crowd,
        socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE) as one,
    ):
        one.sendall(head.encode())
        for start in range(0, len(form), len(form) // 8):
            one.sendall(form[start : start + len(form) // 8])
            time.sleep(0.5)
        answer = b"".join(iter(lambda: one.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert crowd.closed > 0


def test_a_server_without_descriptors_says_so_once_a_second_and_comes_back(door: Served) -> None:
    pid = door.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    began, size = time.monotonic(), log_size(door)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds(), limits[1]))
    try:
        with Crowd(door.port, 50, HALF_HEAD):
            time.sleep(3)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    lines = door.stderr()[size:].splitlines()
    use(door)
    refused = [line for line in lines if "No connection can be accepted" in line]
    assert 1 <= len(refused) <= time.monotonic() - began + 2, lines
    assert all("Too many open files" in line for line in lines)  # of a check that cannot start, too


STRANGE = {
    "long head": (b"GET /login HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 60_000 + b"\r\n\r\n", b"431"),
    "many headers": (b"GET /login HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 200 + b"\r\n", b"431"),
    "10,000 headers": (b"GET /login HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 10_000 + b"\r\n", b"431"),
    "long path": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"431"),
    "two framings": (FORM + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN, b"400"),
    "two lengths": (FORM + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd" + HIDDEN, b"400"),
    "signed length": (FORM + b"Content-Length: +4\r\n\r\nabcd" + HIDDEN, b"400"),
    "hexadecimal length": (FORM + b"Content-Length: 0x4\r\n\r\nabcd" + HIDDEN, b"400"),
    "unknown framing": (FORM + b"Transfer-Encoding: gzip\r\n\r\n" + HIDDEN, b"501"),
    "framing twice": (FORM + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n" + HIDDEN, b"501"),
    "framing in disguise": (FORM + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN, b"400"),
    "two hosts": (b"GET /login HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n" + HIDDEN, b"400"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
    "HTTP/2 with a host": (b"GET /login HTTP/2.0\r\nHost: localhost\r\n\r\n" + HIDDEN, b"505"),
    "broken chunk": (BAD_CHUNK + HIDDEN, b"400"),
    "chunk longer than its size": (CHUNKED + b"1\r\nabc\r\n0\r\n\r\n" + HIDDEN, b"400"),
    "chunks of bare line feeds": (CHUNKED + b"1\na\n0\n\n" + HIDDEN, b"400"),
    "null byte": (b"GET /login HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n" + HIDDEN, b"400"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_bytes_that_are_not_plain_http_get_an_error_in_the_wires_shape(door: Served, kind: str) -> None:
    sent, status = STRANGE[kind]
    _, answer = hang_up_after(door.port, sent, PATIENCE)
    assert answer[9:12] == status, answer
    assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)) == 1  # and nothing behind it is taken for a request
    assert b"\r\nx-request-id: req_" in answer
    assert b'"error": {"message": "' in answer.replace(b'":{"', b'": {"').replace(b'message":"', b'message": "')


def test_a_tls_client_is_disconnected_at_once(door: Served) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE) as one, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(one, server_hostname="localhost")
    assert time.monotonic() < began + SLACK


def test_an_upgrade_is_ignored_and_the_request_is_answered(door: Served) -> None:
    for protocol in (b"websocket", b"h2c"):
        head = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: %s\r\n" % protocol
        _, answer = hang_up_after(door.port, head + b"Authorization: Bearer %s\r\n\r\n" % door.token.encode(), PATIENCE)
        assert answer.startswith(b"HTTP/1.1 200 "), answer


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(door: Served) -> None:
    head = b"Host: localhost\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\n" % door.token.encode()
    for path, kind in ((b"chat/completions", b"application/json"), (b"files", b"multipart/form-data; boundary=b")):
        sent = b"POST /v1/%s HTTP/1.1\r\n%sContent-Length: 99999999999\r\nContent-Type: %s\r\n\r\n"
        _, answer = hang_up_after(door.port, sent % (path, head, kind), PATIENCE)
        assert answer.startswith(b"HTTP/1.1 413 "), answer


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_ipv6_is_served_and_a_mapped_ipv4_address_counts_as_the_same_client(tmp_path: Path, parrot_site: Path) -> None:
    served = Served(tmp_path / "home", "--models", "gray=parrot:gray", "--host", "::", site=parrot_site)
    served.start()
    try:
        for host in ("[::1]", "127.0.0.1", "localhost"):
            with openai.OpenAI(api_key=served.token, base_url=f"http://{host}:{served.port}/v1") as client:
                assert client.models.retrieve("gray").id == "gray"
    finally:
        served.end()


@pytest.mark.parametrize("token", [True, False])
def test_only_a_client_with_a_token_may_send_its_body(door: Served, token: bool) -> None:
    key = f"Authorization: Bearer {door.token}\r\n" if token else ""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{key}Content-Length: 9\r\n"
    with socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE) as one:
        one.sendall(head.encode() + b"Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n")
        answer = one.recv(65536)
        assert answer.startswith(b"HTTP/1.1 100 " if token else b"HTTP/1.1 401 ")
        one.sendall(b'{"a": 1}\n' if token else b"")
        rest = b"".join(iter(lambda: one.recv(65536), b""))
    if token:
        assert rest.startswith(b"HTTP/1.1 400 ")


def test_requests_on_one_connection_are_answered_one_after_another(door: Served) -> None:
    one = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {door.token}\r\n\r\n"
    last = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    _, answer = hang_up_after(door.port, (one * 50 + last).encode(), PATIENCE)
    assert answer.count(b"HTTP/1.1 200 ") == 51
    assert len(set(re.findall(rb"req_[0-9a-f]{32}", answer))) == 51


def test_one_client_with_many_connections_is_served(door: Served) -> None:
    """More connections at once than its address may have: they wait or are asked to, and none is lost."""
    with (
        openai.OpenAI(api_key=door.token, base_url=door.url, timeout=PATIENCE, max_retries=20) as client,
        concurrent.futures.ThreadPoolExecutor(100) as threads,
    ):
        found = list(threads.map(lambda _: client.models.retrieve("gray").id, range(300)))
    assert found == ["gray"] * 300
