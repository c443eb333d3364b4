"""The page fits wide and narrow windows, reads well in light and dark, and works by keyboard alone."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from reported_run import a_run
from serving import jsonl, until_over
from tuneport.reports import Sample, write_report

pytestmark = pytest.mark.timeout(120)

# Every piece of visible text with its contrast to what lies behind it, by WCAG 2's formula.
CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let one = element; one !== null; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement;
    if (node.textContent.trim() === "" || !element.checkVisibility() || element.tagName === "SCRIPT") continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    found.push([node.textContent.trim().slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  return found;
}"""


# Elements whose content is wider than they are.
SPILLING = """() => [...document.querySelectorAll("main *")]
  .filter((one) => one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1)
  .filter((one) => !["INPUT", "SELECT", "TEXTAREA"].includes(one.tagName) && getComputedStyle(one).display !== "inline")
  .map((one) => one.outerHTML.slice(0, 120))"""


@pytest.fixture
def addresses(start, client) -> list[str]:
    """The address of a page of every kind, with long words in the places for users' texts."""
    done = start(jsonl([("word" * 60, "x" * 200)] * 12), suffix="a-rather-long-suffix-" * 3)
    broken = json.dumps({"messages": [{"role": "wizard" * 20, "content": "x"}]}).encode()
    file = client.files.create(file=("a-long-name" * 12 + ".jsonl", jsonl() + broken), purpose="fine-tune").id
    failed = client.fine_tuning.jobs.create(model="finch", training_file=file).id
    running = start(epochs=50)
    until_over(client, done)
    until_over(client, failed)
    return ["/", f"/jobs/{done}", f"/jobs/{failed}", f"/jobs/{running}", f"/files/{file}", "/ask", "/jobs/none"]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_and_reads_well(visit, addresses, width: int, scheme: str) -> None:
    visitor = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)
    visitor.page.goto("/login")
    _fits_and_reads_well(visitor.page)
    visitor.log_in()
    for address in addresses:
        visitor.page.goto(address)
        if address == addresses[1]:
            visitor.page.get_by_role("button", name="Answer 3").click()
            expect(visitor.page.get_by_role("article")).to_have_count(3)
        _fits_and_reads_well(visitor.page)
    visitor.wrong = [one for one in visitor.wrong if "404" not in one]  # the console's word for the last address
    dark = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(245, 246, 248)"
    assert dark == (scheme == "dark")


def _fits_and_reads_well(page) -> None:
    page.wait_for_load_state()
    wide, there = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= there, page.url
    assert page.evaluate(SPILLING) == [], page.url
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 3
    assert [(text, round(ratio, 2)) for text, ratio in contrasts if ratio < 4.5] == [], page.url


@pytest.mark.parametrize("width", [1280, 420])
def test_a_report_fits_and_all_of_its_text_can_be_reached(chromium, tmp_path, width: int) -> None:
    settings = {"rank": 16, "targets": "all-linear " * 8}
    details = {"resolved": settings, "reasons": dict.fromkeys(settings, "auto: the rule for adapters of this size")}
    state = {"status": "succeeded", "details": {"peak_memory": 1_930_000_000, **details}}
    long = Sample(prompt="question " * 90, answer="x" * 900, base_answer="word " * 300, reference="short")
    file = write_report(tmp_path / "report.html", a_run(state=state, samples=[long], usd=1.25))
    context = chromium.new_context(viewport={"width": width, "height": 800}, java_script_enabled=True)
    page = context.new_page()
    page.goto(file.as_uri())
    for summary in page.locator("details.long > summary").all():
        summary.click()
    assert page.locator("details.long[open]").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [one for one in page.evaluate(SPILLING) if not one.startswith("<text")] == []
    context.close()


def test_everything_can_be_done_by_keyboard(visit, token: str, start, client) -> None:
    page = visit().page
    page.goto("/")
    expect(page.get_by_label("Access token")).to_be_focused()
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    start(epochs=50, suffix="by-keyboard")
    expect(page.get_by_role("link", name="by-keyboard")).to_be_visible()
    assert _walk(page) == [
        "Skip to the content",
        "tuneport",
        "Jobs",
        "Playground",
        "Log out",
        "by-keyboard",
        "rows.jsonl",
    ]
    _tab_to(page, "by-keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="by-keyboard")).to_be_visible()
    _tab_to(page, "Pause")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_contain_text("paused")
    _tab_to(page, "Cancel")
    page.keyboard.press("Space")
    expect(page.locator("#state")).to_contain_text("cancelled")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skips to the content
    assert page.evaluate("document.activeElement.id") == "content"
    _tab_to(page, "Playground")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Playground")).to_be_visible()
    _tab_to(page, "Question")
    page.keyboard.type("Is anybody there?")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".answers")).to_contain_text("Hello!")


FOCUSED = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  const name = one.labels?.length ? one.labels[0].textContent : one.textContent;
  const box = one.getBoundingClientRect();
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.width > 0 && box.left >= 0;
  return one === document.body ? null : [name, seen];
}"""


def _walk(page) -> list[str]:
    """Press Tab from the start of the page to its end. Returns what is focused, which must be visible each time."""
    page.evaluate("document.activeElement.blur()")
    names: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None or (len(names) > 1 and focused[0] == names[0]):
            return names
        name, seen = focused
        assert seen, f"{name} has the focus, and nobody sees it"
        names.append(name)
    raise AssertionError(f"the focus never comes to an end: {names}")


def _tab_to(page, name: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is not None and focused[0] == name:
            return
    raise AssertionError(f"no Tab leads to {name}")
