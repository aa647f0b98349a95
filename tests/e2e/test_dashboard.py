"""The pages in a real browser, while a stream runs. Needs Chromium; one server and one browser for all of it."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from penstock.app.api_keys import create_key
from penstock.core.clock import SystemClock
from tests.e2e.made_once import made_once
from tests.e2e.watched_pages import CHROMIUM, FLAGS, WIDTHS, Served, Watched, serving
from tests.services import needs

PAGES = (
    "/",
    "/decisions",
    "/features",
    "/features?show=lineage",
    "/features/view%3Acard_spending",
    "/models",
    "/models/fraud",
    "/performance",
    "/compare?model=fraud:1&model=fraud:2",
    "/drift",
    "/experiments",
    "/alerts",
    "/dead-letters",
    "/lists",
    "/lists/blocked_cards",
    "/jobs",
    "/system",
)
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>'
NAME = '<img src=x onerror="window.hacked=1">'

pytestmark = needs("chromium")


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    template = made_once(tmp_path_factory.getbasetemp(), "shop", "tests.e2e.dashboard_project", "--small")
    folder = tmp_path_factory.mktemp("pages") / "shop"
    shutil.copytree(template, folder)
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def browser(served):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, served) -> Iterator[Watched]:
    opened = Watched(browser, served)
    yield opened
    opened.check()
    opened.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_opens(browser, served, width):
    opened = Watched(browser, served, width=width, scheme="light" if width == "wide" else "dark")
    for path in PAGES:
        assert opened.open(path).status == 200, path
        assert opened.page.locator("h1").inner_text(), path
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width][0], path
        assert opened.page.locator("h1").inner_text() not in {"Not found", "Not now"}, path
        opened.check()
    opened.close()


def test_first_page_is_fast(browser, served):
    opened = Watched(browser, served)
    opened.open("/")
    opened.context.clear_cookies()
    started = time.perf_counter()
    opened.page.goto(served.url + "/", wait_until="domcontentloaded")
    opened.page.wait_for_selector(".tile .figure")
    assert time.perf_counter() - started < 3  # 1.5 s on a quiet machine
    opened.close()


def test_numbers_are_the_api_s(page, served):
    served.streams.clear()
    time.sleep(0.3)
    page.open("/")
    tile = page.page.locator(".tile", has_text="Events").locator(".figure")
    expected = f"{served.get('/v1/status')['totals']['received']:,}"
    page.page.wait_for_function(
        "text => document.querySelector('.tile .figure').innerText === text", arg=expected
    )
    assert tile.inner_text() == expected
    newest = served.get("/v1/decisions?limit=1")["items"][0]
    first = page.page.locator("table[aria-label='Newest decisions'] tbody tr").first
    assert first.locator("td").first.inner_text() == newest["event_id"]
    assert f"{newest['score']:.3f}" in first.inner_text()
    served.streams.set()


def test_a_decision_is_shown_within_a_second(page, served):
    page.open("/decisions")
    served.score(payment_id="in-time")
    started = time.perf_counter()
    page.page.wait_for_selector("text=in-time")
    assert time.perf_counter() - started < 2  # 1 s on a quiet machine


def test_filters_and_pause(page, served):
    page.open("/decisions?key=card-none")
    page.page.wait_for_selector("text=No decision passes these filters.")
    page.open("/decisions")
    page.page.get_by_role("button", name="Pause").click()
    page.page.wait_for_selector("text=Go on")
    time.sleep(0.3)
    before = page.page.locator("tbody tr td").first.inner_text()
    served.score(payment_id="while-paused")
    time.sleep(1.2)
    assert page.page.locator("tbody tr td").first.inner_text() == before
    page.page.get_by_role("button", name="Go on").click()
    page.page.wait_for_selector("text=while-paused")


def test_a_decision_with_its_reasons(page, served):
    answer = served.score(payment_id="to be/explained?")
    page.open(f"/decisions/payments/{quote('to be/explained?', safe='')}")
    text = page.page.locator(".page").inner_text()
    assert f"{answer['score']:.3f}" in text
    assert answer["model"] in text
    assert "payment.amount" in text
    assert page.page.locator(".meter .pin").count() == 1


def test_data_never_run(page, served):
    served.score(payment_id=EVIL, card_id=EVIL, shop_id=EVIL)
    served.http.post("/v1/endpoints/checkout/score", content=json.dumps({"payment_id": EVIL, "amount": EVIL}))
    whole, begins = "<script>window.hacked=2", "<img src=x"
    for path, seen in (
        ("/", whole),
        ("/decisions", whole),
        (f"/decisions/payments/{quote(EVIL, safe='')}", whole),
        ("/dead-letters", begins),
        ("/features", ""),
    ):
        page.open(path)
        page.page.wait_for_function(f"document.body.innerText.includes('{seen}')")
        page.page.mouse.move(600, 500)
        page.check()
    assert page.open(f"/models/{quote(NAME, safe='')}").status == 404
    assert NAME in page.page.locator(".page").inner_text()
    page.errors.clear()  # the browser notes a 404
    page.check()


def test_a_dead_letter_is_corrected(page, served):
    bad = served.score(payment_id="to-be-corrected", amount="12,50")
    assert bad["status"] == 422
    letter = served.get("/v1/dead-letters?limit=1")["items"][0]
    page.open(f"/dead-letters/{letter['id']}")
    box = page.page.locator("textarea")
    assert "to-be-corrected" in box.input_value()
    box.fill(box.input_value().replace('"12,50"', "12.5"))
    page.page.get_by_role("button", name="Send again").click()
    _confirm(page, "the shop writes commas", "Send again")
    page.page.wait_for_selector("text=The letter is gone.")
    assert served.http.get(f"/v1/dead-letters/{letter['id']}").status_code == 404
    assert served.get("/v1/sources/payments/events/to-be-corrected")["event"]["amount"] == 12.5


def test_a_card_is_blocked_by_hand(page, served):
    page.open("/lists/blocked_cards")
    page.page.wait_for_selector("text=Nobody yet.")
    page.page.get_by_role("button", name="Put keys on").click()
    page.page.locator("dialog[open] textarea").fill(f"card-hand\n{EVIL}\ncard-other")
    _confirm(page, "reported stolen", "Put on")
    page.page.wait_for_selector("td:has-text('card-hand')")
    page.check()
    assert served.score(payment_id="by-hand", card_id="card-hand")["rule"] == "blocked card"
    page.page.get_by_label("Key").fill("card-hand")
    page.page.wait_for_function(
        "document.querySelectorAll('table[aria-label=Members] tbody tr').length === 1"
    )
    page.page.get_by_role("button", name="card-hand").click()
    _confirm(page, "found again", "Take off")
    page.page.wait_for_selector("text=taken off blocked_cards")
    assert "rule" not in served.score(payment_id="by-hand-2", card_id="card-hand")
    page.open("/lists/blocked_cards?show=history")
    page.page.wait_for_selector("text=found again")
    rows = page.page.locator("table[aria-label=History] tbody tr")
    assert (rows.count(), rows.first.locator("td").first.inner_text()) == (4, "4")
    page.open("/lists")
    assert "cards reported stolen" in page.page.locator(".page").inner_text()
    assert [one["members"] for one in served.get("/v1/lists")["items"]] == [2]


def test_promote_and_roll_back_by_hand(page, served):
    assert served.get("/v1/models/fraud")["champion"] == "fraud:2"
    page.open("/models/fraud?version=1")
    page.page.get_by_role("button", name="Promote", exact=True).click()
    dialog = page.page.locator("dialog[open]")
    assert "in place of fraud:2" in dialog.inner_text()
    dialog.get_by_role("button", name="Promote").click()
    page.page.wait_for_selector("text=Say why: the history keeps it.")
    dialog.get_by_role("switch").check()
    _confirm(page, EVIL, "Promote")
    page.page.wait_for_selector("text=fraud:1 (champion)")
    assert served.get("/v1/models/fraud")["champion"] == "fraud:1"
    assert EVIL in page.page.locator(".steps").inner_text()
    page.page.get_by_role("button", name="Roll back").click()
    assert "fraud:2 decides again in place of fraud:1" in page.page.locator("dialog[open]").inner_text()
    _confirm(page, "it was a test", "Roll back")
    page.page.wait_for_selector("text=fraud:2 (champion)")
    assert served.get("/v1/models/fraud")["champion"] == "fraud:2"


def test_a_job_is_begun_and_watched(page, served):
    page.open("/jobs")
    page.page.get_by_role("button", name="Begin a job").click()
    dialog = page.page.locator("dialog[open]")
    dialog.locator("select").select_option("distributions")
    dialog.locator("textarea").fill('{"endpoint": "nowhere"}')
    _confirm(page, "", "Begin")
    page.page.wait_for_selector("text=nowhere")
    dialog.locator("textarea").fill('{"endpoint": "checkout"}')
    _confirm(page, "", "Begin")
    page.page.wait_for_url("**/jobs/job-*")
    page.page.wait_for_selector("text=distributions job")


def test_the_theme_is_remembered(page, served):
    page.open("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.page.evaluate(ground)
    page.page.get_by_role("button", name="Dark").click()
    dark = page.page.evaluate(ground)
    assert dark != light
    page.open("/models")
    assert page.page.evaluate(ground) == dark


def test_the_menu_opens_by_keyboard(browser, served):
    opened = Watched(browser, served, width="narrow")
    opened.open("/")
    menu = opened.page.get_by_role("button", name="Menu")
    menu.focus()
    opened.page.keyboard.press("Enter")
    opened.page.get_by_role("link", name="Models", exact=True).click()
    opened.page.wait_for_url("**/models")
    opened.check()
    opened.close()


def test_pages_cost_nothing_when_nobody_looks(browser, served):
    def reads() -> int:
        text = served.http.get("/metrics").text
        found = re.findall(r'penstock_http_requests_total\{[^}]*route="/v1/status"[^}]*\} ([\d.e+]+)', text)
        return round(sum(map(float, found)))

    def in_two_seconds() -> int:
        before = reads()
        time.sleep(2)
        return reads() - before

    opened = [Watched(browser, served) for _ in range(3)]
    for one in opened:
        one.open("/")
    assert 1 <= in_two_seconds() <= 3
    for one in opened:
        one.close()
    assert any(in_two_seconds() == 0 for _ in range(5))


def test_what_is_no_page_is_a_problem(served):
    answer = served.http.get("/v1/nothing", headers={"accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert served.http.get("/nothing").status_code == 404


def test_what_the_server_does_can_be_seen(served):
    told = served.doings()
    assert "follow" in told, "of the thread that scores"
    assert told.count("tasks of an event loop:") == 2, "of the server, and of who makes its pages"
    assert "Watched" not in told


def test_with_keys_one_has_to_log_in(browser, served):
    key = made_key(served.folder, "ana", "read")
    opened = Watched(browser, served)
    for _ in range(20):
        opened.goto("/")
        if opened.page.url.endswith("/login"):
            break
        time.sleep(0.2)
    opened.page.get_by_label("Key").fill(key)
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_selector(".tile .figure")
    assert "Sign out ana" in opened.page.locator(".side").inner_text()
    opened.open("/models/fraud")
    opened.page.get_by_role("button", name="Roll back").click()
    _confirm(opened, "I may not", "Roll back")
    opened.page.wait_for_selector("text=Not done")
    opened.errors.clear()
    opened.open("/")
    opened.page.get_by_role("button", name="Sign out").click()
    opened.page.wait_for_url("**/login")
    opened.close()


def made_key(folder: Path, name: str, scope: str) -> str:
    _, key = create_key(folder, name, [scope], actor="test", reason="a test", clock=SystemClock())
    return key


def _confirm(opened: Watched, reason: str, verb: str) -> None:
    dialog = opened.page.locator("dialog[open]")
    if reason:
        dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=verb).click()
