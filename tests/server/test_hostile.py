"""Two thousand hostile requests: each is answered, and none with a 5xx."""

from __future__ import annotations

import http.client
import json
import random

import pytest

from serving import Served, jsonl

REQUESTS = 2000
NASTY = (
    *(
        None,
        True,
        0,
        -1,
        1.5,
        1e308,
        10**30,
        -(2**63),
        2**64,
        "",
        " ",
        "\0",
        "a" * 3000,
        "../" * 40,
        "'; DROP TABLE jobs",
    ),
    *(
        [],
        {},
        [[]],
        {"": ""},
        [None] * 100,
        "\u202e\ud7ff\U0010ffff",
        "ft:",
        ":",
        "auto",
        "%00",
        {"$ref": "#"},
        ["text"] * 40,
    ),
)
RAW = (
    *(b"", b"{", b"null", b"[]", b'"x"', b"NaN", b'{"model": NaN}', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"a":1e999}'),
    *(b"[" * 100_000, b'{"model":"gray","model":"gray"}', b'{"model":"\\ud800"}', b'{"a":' * 5000 + b"1" + b"}" * 5000),
    *(b'{"model": 1' + b"0" * 9000 + b"}", b"\0" * 64, b"x=1&y=2", b'{"messages":[{}]}'),
)
ROUTES = (
    *("/v1/files", "/v1/files/{}", "/v1/files/{}/content", "/v1/models", "/v1/models/{}", "/v1/chat/completions"),
    *("/v1/responses", "/v1/responses/{}", "/v1/responses/{}/cancel", "/v1/responses/{}/input_items"),
    *(
        "/v1/fine_tuning/jobs",
        "/v1/fine_tuning/jobs/{}",
        "/v1/fine_tuning/jobs/{}/cancel",
        "/v1/fine_tuning/jobs/{}/pause",
    ),
    *("/v1/fine_tuning/jobs/{}/resume", "/v1/fine_tuning/jobs/{}/events", "/v1/fine_tuning/jobs/{}/checkpoints"),
    *(
        "/",
        "//",
        "/v1",
        "/v1/{}",
        "/v1/uploads",
        "/v1/uploads/{}/parts",
        "/v1/uploads/{}/complete",
        "/v1/uploads/{}/cancel",
        "/v1/fine_tuning/jobs/{}/{}",
        "/%2e%2e/{}",
        "/v1/files/",
        "/v1/models//",
    ),
)
METHODS = ("GET", "POST", "POST", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "BREW")
NAMES = (
    "after",
    "limit",
    "order",
    "purpose",
    "metadata",
    "metadata[a]",
    "metadata[",
    "metadata[']",
    "x",
    "",
    "limit[]",
)
CONTENT = ("application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=b", "", "a" * 500)
PARTS = (
    b'Content-Disposition: form-data; name="purpose"\r\n\r\nfine-tune',
    b'Content-Disposition: form-data; name="purpose"\r\n\r\n\xff\xfe',
    b'Content-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n' + jsonl(),
    b'Content-Disposition: form-data; name="file"; filename="\xff\xff"\r\n\r\nx',
    b'Content-Disposition: form-data; name="file"; filename=""\r\n\r\n',
    b'Content-Disposition: form-data; filename="x"\r\n\r\nx',
    b"Content-Disposition: attachment\r\n\r\nx",
    b"\r\n\r\nno headers",
    b"X: " + b"y" * 9000 + b"\r\n\r\nx",
    b'Content-Disposition: form-data; name="' + b"n" * 300 + b'"\r\n\r\n' + b"v" * 70_000,
)


def hostile(chance: random.Random, ids: list[str]) -> tuple[str, str, bytes, dict[str, str]]:
    """One request: method, path, body, headers."""

    def name() -> str:
        odd = ("%00", "..", "%2e%2e%2f", "'", "a" * 2000, "%F0%9F%92%A9", "%ff", "ft:a:b:c:d")
        return chance.choice((*ids, *odd))

    path = chance.choice(ROUTES)
    path = path.format(*(name() for _ in range(path.count("{}"))))
    if chance.random() < 0.4:
        values = ("", "1", "0", "-1", "9" * 400, "abc", "%00", "null", "asc", *ids)
        path += "?" + "&".join(f"{chance.choice(NAMES)}={chance.choice(values)}" for _ in range(chance.randrange(1, 4)))
    shape = chance.random()
    headers = {"Content-Type": "application/json"}
    if shape < 0.5:
        body = json.dumps(mutated(chance, template(chance, ids))).encode()
    elif shape < 0.7:
        body = chance.choice(RAW)
    else:
        headers["Content-Type"] = chance.choice(CONTENT)
        parts = [chance.choice(PARTS) for _ in range(chance.randrange(0, 5))]
        body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + chance.choice((b"--b--\r\n", b"--b", b""))
    if chance.random() < 0.1:
        headers[chance.choice(("X-Stainless-Retry-Count", "Accept", "Range", "Expect", "Origin"))] = chance.choice(
            ("1", "-1", "9" * 300, "bytes=0-", "bytes=9-1,,", "x")
        )
    return chance.choice(METHODS), path, body, headers


def template(chance: random.Random, ids: list[str]) -> dict:
    file = next((one for one in ids if one.startswith("file-")), "file-x")
    return chance.choice(
        (
            {
                "model": "gray",
                "training_file": file,
                "suffix": "s",
                "seed": 1,
                "metadata": {"a": "b"},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
            },
            {
                "model": "gray",
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
                ],
                "max_tokens": 5,
                "temperature": 0.5,
                "top_p": 0.5,
                "stop": ["x"],
                "n": 2,
                "stream": chance.random() < 0.5,
                "stream_options": {"include_usage": True},
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
                "seed": 4,
            },
        )
    )


def mutated(chance: random.Random, value):
    """Return the request with about one thing changed that makes it invalid."""
    if chance.random() < 0.15:
        return chance.choice(NASTY)
    if isinstance(value, dict):
        changed = {key: mutated(chance, one) if chance.random() < 0.4 else one for key, one in value.items()}
        if chance.random() < 0.1:
            changed[chance.choice(("", "unknown", "__proto__", "a" * 500))] = chance.choice(NASTY)
        return changed
    if isinstance(value, list):
        return [mutated(chance, one) for one in value] * chance.choice((1, 1, 1, 30))
    return value


def storm(served: Served, token: str, count: int, seed: int) -> dict[int, int]:
    """Send so many, one after another. Returns how often each status was returned."""
    chance = random.Random(seed)
    with served.client(token) as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
        ids = [file, client.fine_tuning.jobs.create(model="gray", training_file=file).id, "gray"]
    statuses: dict[int, int] = {}
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    for number in range(count):
        method, path, body, headers = hostile(chance, ids)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for key, value in {"Authorization": f"Bearer {token}", "Content-Length": str(len(body)), **headers}.items():
            connection.putheader(key, value)
        try:
            connection.endheaders(body)
            answer = connection.getresponse()
            answered = answer.read()
        except (http.client.HTTPException, ConnectionError):
            connection.close()  # the server may close without an answer where there is no HTTP to speak of
            statuses[0] = statuses.get(0, 0) + 1
            continue
        assert answer.status < 500, (number, method, path, body[:300], headers, answered[:500])
        if answer.status >= 400 and method != "HEAD" and answered.startswith(b"{"):
            assert set(json.loads(answered)["error"]) == {"message", "type", "param", "code"}
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
    connection.close()
    return statuses


def test_no_request_is_answered_with_a_5xx(shared: Served, token: str) -> None:
    statuses = storm(shared, token, REQUESTS, seed=1)
    assert statuses[400] > REQUESTS / 10
    assert statuses[404] > REQUESTS / 50
    assert statuses[200] > REQUESTS / 100
    assert statuses.get(0, 0) < REQUESTS / 20, statuses
    with shared.client(token) as client:
        assert client.models.retrieve("gray").id == "gray"


@pytest.mark.soak
def test_none_of_very_many_requests_is_answered_with_a_5xx(shared: Served, token: str) -> None:
    for seed in range(2, 30):
        storm(shared, token, REQUESTS, seed)
