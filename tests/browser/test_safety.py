"""Rows and answers are only text, and a violation of the policy is noticed."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from serving import jsonl, until_over

pytestmark = pytest.mark.timeout(120)
HOSTILE = (
    "</pre></textarea></title><script>alert(1);fetch('http://example.org/')</script>"
    "<img src=http://example.org/x onerror=alert(2)><svg onload=alert(3)>"
    '<a href="javascript:alert(4)">x</a><style>body{display:none}</style>\u202e&amp;"\''
)


def test_hostile_rows_names_and_answers_are_text(page, start, client) -> None:
    rows = jsonl([(f"PIN {HOSTILE}", HOSTILE)] * 12)
    broken = client.files.create(
        file=(HOSTILE, rows + json.dumps({"messages": HOSTILE, HOSTILE: 1}).encode()), purpose="fine-tune"
    ).id
    id_ = start(rows, suffix=HOSTILE[:64], metadata={"x": HOSTILE})
    name = until_over(client, id_).fine_tuned_model
    failed = until_over(client, client.fine_tuning.jobs.create(model="finch", training_file=broken).id).id
    for path in ("/", f"/jobs/{id_}", f"/jobs/{failed}", f"/files/{broken}", "/ask"):
        page.goto(path)
        expect(page.locator("main")).to_be_visible()
    page.goto(f"/jobs/{id_}")
    page.get_by_role("button", name="Answer 3").click()
    shown = HOSTILE.replace("\u202e", "\ufffd")
    expect(page.get_by_role("article").first.locator("pre").last).to_have_text(shown)
    page.goto("/ask")
    page.get_by_label("Model").select_option(name)
    page.get_by_label("Question").fill(f"PIN {HOSTILE}")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answers pre").first).to_have_text(shown)
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert page.evaluate("document.querySelectorAll('main img, main style, main svg').length") == 0
    page.wait_for_timeout(2500)  # one live update, which parses what the server says


def test_a_violation_of_the_policy_is_noticed(visitor) -> None:
    visitor.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.breached = true";
            document.body.append(script);
            const picture = document.createElement("img");
            picture.src = "http://example.org/x.png";
            document.body.append(picture);
        }"""
    )
    visitor.page.wait_for_timeout(300)
    assert not visitor.page.evaluate("window.breached === true")
    seen = [one for one in visitor.wrong if "Content Security Policy" in one]
    assert len(seen) >= 2, visitor.wrong
    visitor.wrong.clear()


def test_a_page_of_another_site_gets_nothing_with_the_cookie(visitor, served) -> None:
    elsewhere = served.url.replace("127.0.0.1", "localhost").removesuffix("/v1")
    answer = visitor.page.request.post(f"{served.url.removesuffix('/v1')}/logout", headers={"Origin": elsewhere})
    assert answer.status == 403
    visitor.page.goto("/")
    expect(visitor.page.get_by_role("heading", name="Jobs")).to_be_visible()
