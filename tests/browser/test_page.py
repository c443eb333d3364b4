"""The page in a real Chromium: live jobs, curves, samples, files, buttons and questions."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from serving import jsonl, until_over

pytestmark = pytest.mark.timeout(120)


def test_a_token_opens_the_page_and_a_wrong_one_shows_an_error(visit, token: str) -> None:
    visitor = visit()
    page = visitor.page
    page.goto("/jobs/anything")
    expect(page).to_have_title("Log in · tuneport")
    page.get_by_label("Access token").fill("tp-wrong")
    with page.expect_response("**/login") as refused:
        page.get_by_role("button", name="Log in").click()
    assert refused.value.status == 401
    expect(page.get_by_role("alert")).to_have_text("Unknown access token.")
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    assert page.url.endswith("/jobs/anything"), "the login leads to what was asked for"
    page.goto("/")
    page.get_by_role("button", name="Log out").click()
    page.goto("/")
    expect(page).to_have_title("Log in · tuneport")
    visitor.wrong = [one for one in visitor.wrong if "401" not in one and "404" not in one]  # the console's words


def test_a_job_is_seen_live_from_its_first_step_to_its_model(page, start) -> None:
    page.goto("/")
    page.evaluate("window.stays = true")
    id_ = start(suffix="live one", epochs=2)
    row = page.get_by_role("row").filter(has_text="live one")
    expect(row.get_by_text("running")).to_be_visible()
    expect(row.get_by_text(re.compile(r"\d+ of 40 steps"))).to_be_visible()
    assert page.evaluate("window.stays"), "nobody has loaded the page again"
    row.get_by_role("link", name="live one").click()
    page.wait_for_url(f"**/jobs/{id_}")
    page.evaluate("window.stays = true")
    curve = page.locator("svg polyline.train")
    expect(curve).to_be_attached()
    before = curve.get_attribute("points").count(",")
    expect(page.locator("#state")).to_contain_text("succeeded")
    assert curve.get_attribute("points").count(",") == 40 > before
    expect(page.locator("svg polyline.valid")).to_be_attached()
    expect(page.get_by_role("img", name=re.compile("training loss .* at step 40"))).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="Step 40/40: training loss=0.")).to_be_visible()
    expect(page.get_by_role("link", name="Ask the tuned model")).to_be_visible()
    assert page.evaluate("window.stays")


def test_buttons_pause_resume_and_cancel(page, start, client) -> None:
    id_ = start(epochs=40)
    page.goto(f"/jobs/{id_}")
    expect(page.locator("#state")).to_contain_text("running")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_contain_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#state")).to_contain_text("running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert client.fine_tuning.jobs.retrieve(id_).status == "cancelled"


def test_samples_show_both_answers_next_to_the_expected_one(page, start, client) -> None:
    id_ = start()
    until_over(client, id_)
    page.goto(f"/jobs/{id_}")
    page.get_by_role("button", name="Answer 3 training rows").click()
    samples = page.get_by_role("article")
    expect(samples).to_have_count(3)
    assert samples.nth(0).locator("pre").all_inner_texts() == ["My card never arrived 0", "card", "Hello!", "card"]
    page.reload()
    expect(samples).to_have_count(3)
    expect(samples.nth(0).get_by_role("img", name="as expected", exact=True)).to_have_text("✓")
    expect(samples.nth(0).get_by_role("img", name="not as expected")).to_have_text("✗")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()


def test_a_file_is_shown_with_the_findings_of_its_check(page, client) -> None:
    broken = json.dumps({"messages": [{"role": "user"}]}).encode() + b"\n"
    good = client.files.create(file=("good.jsonl", jsonl()), purpose="fine-tune")
    client.files.create(file=("bad.jsonl", jsonl() + broken), purpose="fine-tune")
    page.goto("/")
    page.get_by_role("link", name="bad.jsonl").click()
    expect(page.get_by_role("heading", name="bad.jsonl")).to_be_visible()
    expect(page.locator("dl").filter(has_text="rejected")).to_contain_text("rows rejected1")
    expect(page.get_by_role("row").filter(has_text="/messages/0").get_by_role("cell", name="13").first).to_be_visible()
    page.goto(f"/files/{good.id}")
    expect(page.locator("dl").filter(has_text="rejected")).to_contain_text("rows used12rows rejected0")


def test_the_playground_asks_a_tuned_model_and_its_base(page, start, client) -> None:
    name = until_over(client, start()).fine_tuned_model
    page.goto("/")
    page.get_by_role("link", name="Playground").click()
    page.get_by_label("Model").select_option(name)
    page.get_by_label("Question").fill("where is my card?")
    page.evaluate("window.stays = true")
    page.get_by_role("button", name="Ask").click()
    answers = page.locator(".answers section")
    expect(page.locator(".answers")).not_to_have_attribute("aria-busy", "true")
    assert page.evaluate("window.stays"), "the answers came without another page"
    expect(answers).to_have_count(2)
    assert answers.all_inner_texts() == [f"{name}\ncard", "finch\nHello!"]
    expect(page.get_by_label("Question")).to_have_value("where is my card?")


def test_an_answer_is_shown_while_it_arrives(page) -> None:
    page.goto("/ask")
    page.get_by_label("Question").fill("sing a song")
    page.get_by_label("Max tokens").fill("40")
    page.get_by_role("button", name="Ask").click()
    answer = page.locator(".answers pre")
    expect(answer).to_contain_text("la1 ")
    early = answer.inner_text()
    expect(page.get_by_text("Cut at the limit of 40 tokens.")).to_be_visible()
    assert answer.inner_text().count("la") == 40 > early.count("la")


def test_the_page_refuses_a_number_out_of_range(page) -> None:
    page.goto("/ask")
    page.get_by_label("Question").fill("sing a song")
    page.get_by_label("Max tokens").fill("0")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("input:invalid")).to_have_count(1)
    expect(page.locator(".answers")).to_have_count(0)


def test_the_playground_works_without_a_script(visit) -> None:
    page = visit(java_script_enabled=False).log_in().page
    page.goto("/ask")
    page.get_by_label("Question").fill("where is my card?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answers pre")).to_have_text("Hello!")
    expect(page.get_by_label("Max tokens")).to_have_value("512")


def test_a_part_in_use_does_not_change_while_the_others_are_updated(page, start) -> None:
    id_ = start(epochs=2)
    page.goto(f"/jobs/{id_}")
    button = page.get_by_role("button", name="Pause")
    button.focus()
    expect(page.locator("#state")).to_contain_text("succeeded")
    expect(button).to_be_focused()
    page.get_by_role("link", name="Playground").focus()
    expect(page.get_by_role("link", name="Ask the tuned model")).to_be_visible()
