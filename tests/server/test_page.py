"""The page: who may see it, what it shows, and that hostile content is only text."""

from __future__ import annotations

import http.client
import json
import re
import urllib.parse
from html.parser import HTMLParser

import pytest

from serving import Served, jsonl, until_checked, until_over

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e&amp;\"'"


class Browser:
    """A cookie and a few forms."""

    def __init__(self, served: Served, cookie: str = "") -> None:
        self.served, self.cookie = served, cookie

    def ask(self, method: str, path: str, fields: dict[str, str] | None = None, **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=30)
        sent = {"Accept": "text/html", **({"Cookie": f"tuneport={self.cookie}"} if self.cookie else {}), **headers}
        body = None
        if fields is not None:
            body = urllib.parse.urlencode(fields)
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            sent.setdefault("Origin", f"http://127.0.0.1:{self.served.port}")
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text

    def log_in(self, token: str):
        answer, text = self.ask("POST", "/login", {"token": token})
        if answer.status == 303:
            self.cookie = re.match("tuneport=([^;]+)", answer.headers["Set-Cookie"])[1]
        return answer, text

    def page(self, path: str) -> str:
        answer, text = self.ask("GET", path)
        assert answer.status == 200, text
        return text


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def browser(shared: Served, token: str) -> Browser:
    made = Browser(shared)
    assert made.log_in(token)[0].status == 303
    return made


def harmless(text: str) -> None:
    """Only our own script, no handlers, no styles, no addresses of other sites."""
    for name, attributes in Elements(text).found:
        assert name not in ("img", "iframe", "object", "style", "base")
        assert not any(key.startswith("on") or key == "style" for key in attributes)
        if name == "script":
            assert attributes == {"src": "/page.js", "defer": None}
        for key in ("href", "src", "action"):
            assert (attributes.get(key) or "/").startswith(("/", "#content"))
    assert "\u202e" not in text


def test_without_a_session_there_is_only_the_login_form(shared: Served, token: str) -> None:
    stranger = Browser(shared)
    for path in ("/", "/jobs/x", "/files/x", "/ask", "/nothing"):
        answer, _ = stranger.ask("GET", path)
        assert (answer.status, answer.headers["Location"]) == (303, "/login" if path == "/" else f"/login?next={path}")
        assert stranger.ask("GET", path, Accept="*/*")[0].status == 401
        assert stranger.ask("POST", path, {})[0].status == 401
    answer, text = stranger.ask("GET", "/login")
    assert answer.status == 200
    harmless(text)
    assert stranger.log_in("tp-wrong")[0].status == 401
    assert stranger.ask("POST", "/login", {"token": token}, Origin="http://evil.example")[0].status == 403
    assert Browser(shared, "forged").ask("GET", "/")[0].status == 303


def test_a_deep_link_survives_the_login(shared: Served, token: str) -> None:
    made = Browser(shared)
    answer, _ = made.ask("GET", "/ask?model=gray%20one&x=%22")
    address = answer.headers["Location"]
    assert address.startswith("/login?next=/ask%3Fmodel")
    _, form = made.ask("GET", address)
    (goal,) = [found["value"] for name, found in Elements(form).found if found.get("name") == "next"]
    assert goal == "/ask?model=gray%20one&x=%22"
    answer, form = made.ask("POST", "/login", {"token": "tp-wrong", "next": goal})
    assert answer.status == 401
    assert goal in [found.get("value") for _, found in Elements(form).found], "a wrong token forgets nothing"
    answer, _ = made.ask("POST", "/login", {"token": token, "next": goal})
    assert (answer.status, answer.headers["Location"]) == (303, goal)


@pytest.mark.parametrize(
    "goal",
    [
        *("//evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil.example", "https://evil.example/"),
        *("\\\\evil.example", "javascript:alert(1)", " //evil.example", "evil.example", "/a\r\nSet-Cookie: x=y"),
        *("", "/login?next=/", "/logout", "/\u202e", "/" + "x" * 3000),
    ],
)
def test_a_login_does_not_redirect_to_another_site(shared: Served, token: str, goal: str) -> None:
    made = Browser(shared)
    answer, _ = made.ask("POST", "/login", {"token": token, "next": goal})
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    _, form = made.ask("GET", f"/login?next={urllib.parse.quote(goal)}")
    harmless(form)
    assert 'name="next"' not in form
    assert made.ask("GET", "//evil.example/")[0].headers["Location"] == "/login"


def test_the_cookie_is_strict_and_valid_for_the_page_only(shared: Served, token: str) -> None:
    made = Browser(shared)
    answer, _ = made.log_in(token)
    cookie = answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token not in cookie
    assert made.ask("GET", "/v1/models", Accept="*/*")[0].status == 401
    answer, _ = made.ask("GET", "/")
    policy = answer.headers.get_all("Content-Security-Policy")
    assert len(policy) == 1
    assert "unsafe" not in policy[0]
    assert "script-src 'self'" in policy[0]
    assert made.ask("POST", "/logout", {})[0].status == 303
    assert made.ask("GET", "/")[0].status == 303


def test_a_form_of_another_page_does_nothing(shared: Served, browser: Browser) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert browser.ask("POST", "/logout", {}, Origin=origin)[0].status == 403
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=30)
    connection.request("POST", "/logout", "", {"Cookie": f"tuneport={browser.cookie}"})
    assert connection.getresponse().status == 403
    connection.close()
    browser.page("/")


def test_a_removed_token_ends_its_sessions(shared: Served) -> None:
    made = Browser(shared)
    made.log_in(shared.add_token("leaving"))
    made.page("/")
    shared.remove_token("leaving")
    assert made.ask("GET", "/")[0].status == 303


def test_jobs_files_and_answers_are_shown_as_text(shared: Served, token: str, browser: Browser) -> None:
    rows = [(f"PIN {HOSTILE}", HOSTILE)] * 3 + [("card", "card")] * 9
    with shared.client(token) as client:
        bad = jsonl(rows) + json.dumps({"messages": HOSTILE}).encode()
        files = [client.files.create(file=(HOSTILE, body), purpose="fine-tune") for body in (jsonl(rows), bad)]
        jobs = [client.fine_tuning.jobs.create(model="gray", training_file=one.id).id for one in files]
        tuned, failed = (until_over(client, one) for one in jobs)
    assert (tuned.status, failed.status) == ("succeeded", "failed")
    index = browser.page("/")
    harmless(index)
    assert all(one in index for one in (*jobs, tuned.fine_tuned_model))
    page = browser.page(f"/jobs/{tuned.id}")
    harmless(page)
    assert "training loss=0.50" in page
    assert "<svg" in page
    page = browser.page(f"/jobs/{failed.id}")
    harmless(page)
    assert "no-messages" in page
    page = browser.page(f"/files/{files[1].id}")
    harmless(page)
    assert "/messages" in page
    assert "<dt>rows rejected</dt><dd>1</dd>" in page
    harmless(browser.page(f"/files/{tuned.result_files[0]}"))
    _, page = browser.ask("POST", "/ask", {"model": tuned.fine_tuned_model, "question": f"PIN {HOSTILE}", "system": ""})
    harmless(page)
    assert "&lt;script&gt;alert(1)" in page
    assert "<h2>gray</h2>" in page, "a tuned model is shown next to its base"
    _, page = browser.ask("POST", "/ask", {"model": HOSTILE, "question": "x", "system": "y"})
    harmless(page)
    assert "No such model" in page


def test_a_missing_page_is_reported_on_a_page(shared: Served, browser: Browser) -> None:
    for method, path in (("GET", "/jobs/none"), ("GET", "/files/none"), ("POST", "/jobs/none/cancel")):
        answer, text = browser.ask(method, path, {} if method == "POST" else None)
        assert answer.status == 404
        assert "<h1>Not found</h1>" in text
        assert "Back to the jobs" in text
        harmless(text)


def test_a_button_acts_and_returns_to_the_job(shared: Served, token: str, browser: Browser) -> None:
    with shared.client(token) as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
        job = until_over(client, client.fine_tuning.jobs.create(model="gray", training_file=file).id)
    answer, text = browser.ask("POST", f"/jobs/{job.id}/cancel", {})
    assert answer.status == 400
    assert "already completed" in text
    assert browser.ask("POST", f"/jobs/{job.id}/explode", {})[0].status == 404


LONG = " ".join(f"word{number}" for number in range(200))


@pytest.fixture
def tuned(shared: Served, token: str) -> tuple[str, str]:
    """A job whose model answers one long text and two short ones, and the name of that model."""
    rows = [("long story", LONG), ("My card never arrived", "card"), ("I forgot my PIN", "pin")] * 4
    with shared.client(token) as client:
        file = client.files.create(file=("rows.jsonl", jsonl(rows)), purpose="fine-tune").id
        job = until_over(client, client.fine_tuning.jobs.create(model="gray", training_file=file).id)
    assert job.fine_tuned_model
    return job.id, job.fine_tuned_model


def test_the_playground_shows_that_an_answer_was_cut(browser: Browser, tuned: tuple[str, str]) -> None:
    asked = {"model": tuned[1], "question": "long story", "max_tokens": "7", "temperature": "0.5"}
    answer, text = browser.ask("POST", "/ask", asked)
    assert answer.status == 200
    harmless(text)
    assert "word6</pre>" in text
    assert text.count("Cut at the limit of 7 tokens.") == 1, "the base was not cut"
    fields = {found["name"]: found for name, found in Elements(text).found if name == "input" and "name" in found}
    assert (fields["max_tokens"]["value"], fields["temperature"]["value"]) == ("7", "0.5")
    _, text = browser.ask("POST", "/ask", {**asked, "max_tokens": "200"})
    assert "word199</pre>" in text
    assert "Cut at" not in text


def lines_of(browser: Browser, **fields: str) -> list[dict[str, object]]:
    answer, text = browser.ask("POST", "/ask", fields, Accept="application/x-ndjson")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in text.splitlines()]


def test_a_script_gets_the_answers_as_lines(browser: Browser, tuned: tuple[str, str]) -> None:
    lines = lines_of(browser, model=tuned[1], question="long story", max_tokens="7")
    assert lines[0] == {"names": [tuned[1], "gray"]}
    said = ["".join(str(one.get("text", "")) for one in lines if one.get("at") == place) for place in (0, 1)]
    assert said == [" ".join(LONG.split()[:7]), "Hello!"]
    assert [one for one in lines if "notice" in one] == [{"at": 0, "notice": "Cut at the limit of 7 tokens."}]
    assert "\u202e" not in json.dumps(lines_of(browser, model=HOSTILE, question="x"), ensure_ascii=False)
    assert lines_of(browser, model="none", question="x")[1:] == [{"at": 0, "error": "No such model: none"}]


def test_a_stream_needs_the_session_and_the_pages_own_origin(shared: Served, browser: Browser) -> None:
    fields, accept = {"model": "gray", "question": "x"}, "application/x-ndjson"
    assert Browser(shared).ask("POST", "/ask", fields, Accept=accept)[0].status == 401
    assert browser.ask("POST", "/ask", fields, Accept=accept, Origin="http://evil.example")[0].status == 403
    answer, text = browser.ask("POST", "/ask", {**fields, "max_tokens": "0"}, Accept=accept)
    assert (answer.status, "<form" in text) == (400, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("max_tokens", one) for one in ("0", "-1", "many", "1.5", "nan", "1e99", HOSTILE)),
        *(("temperature", one) for one in ("-0.1", "2.1", "inf", "warm", HOSTILE)),
    ],
)
def test_the_playground_refuses_a_number_out_of_range(browser: Browser, field: str, value: str) -> None:
    answer, text = browser.ask("POST", "/ask", {"model": "gray", "question": "still here?", field: value})
    assert answer.status == 400
    harmless(text)
    name = field.replace("_", " ").capitalize()
    assert f"{name}: Enter a" in text
    assert "still here?" in text, "the form keeps what was typed"


def test_samples_are_marked_and_show_that_they_were_cut(browser: Browser, tuned: tuple[str, str]) -> None:
    assert browser.ask("POST", f"/jobs/{tuned[0]}/samples", {})[0].status == 303
    page = browser.page(f"/jobs/{tuned[0]}")
    harmless(page)
    marks = [found["aria-label"] for _, found in Elements(page).found if found.get("role") == "img"]
    assert [mark for mark in marks if mark and mark.endswith("as expected")] == [
        *("not as expected", "not as expected"),  # base and tuned: the long answer is cut
        *("not as expected", "as expected") * 2,
    ]
    assert (page.count(">✓<"), page.count(">✗<")) == (2, 4)
    assert page.count("Cut at the limit of 128 tokens.") == 1


def test_the_same_finding_is_shown_once_with_its_count(shared: Served, token: str, browser: Browser) -> None:
    broken = json.dumps({"messages": [{"role": "wizard", "content": HOSTILE}]}).encode() + b"\n"
    with shared.client(token) as client:
        file = client.files.create(file=("rows.jsonl", jsonl() + broken * 1234), purpose="fine-tune").id
        until_checked(client, file)
    text = browser.page(f"/files/{file}")
    harmless(text)
    rows = [row for row in re.findall("<tr>(.*?)</tr>", text) if ">unknown-role<" in row]
    assert len(rows) == 1
    assert ">1,234<" in rows[0]
    assert "line 13 at /messages/0" in rows[0]
    assert "and 1,231 more" in rows[0]
