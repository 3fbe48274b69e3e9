"""The page in a real browser: live values, history, episodes, health, settings, and a connection that breaks."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from daemon_process import Daemon
from mqtt_rig import eventually
from playwright.sync_api import Browser, BrowserContext, expect
from playwright.sync_api import Page as Tab
from web_rig import Device, Page, open_episode

from edge_sser.events import HealthState, Level
from edge_sser.history.schema import FILE_NAME

VIEWS = ("live", "history", "episodes", "health", "settings")
READY = {  # what a view shows when its data has come
    "live": ".card",
    "history": "#curve-title:has-text('stress over time')",
    "episodes": "tbody tr",
    "health": "tbody tr",
    "settings": "details h2",
}


def show(tab: Tab, page: Page, view: str) -> None:
    yesterday = f"?day={int(time.time()) - 86_400}" if view == "history" else ""
    tab.goto(f"{page.url}#/{view}{yesterday}")
    tab.wait_for_selector(READY[view])


def test_levels_and_curves_follow_what_is_heard(tab: Tab, page: Page, device: Device) -> None:
    device.hear(0.04, Level.LOW)
    device.hear(0.11, Level.LOW, source="source-2")
    show(tab, page, "live")
    card = tab.locator("[data-source='cab/source-1']")
    expect(card.locator(".value")).to_have_text("4\u202f%")
    expect(card.locator("header .pill")).to_have_text("low")
    before = card.locator("canvas").evaluate("canvas => canvas.toDataURL()")

    device.hear(0.93, Level.HIGH)
    expect(card.locator(".value")).to_have_text("93\u202f%")
    expect(card.locator("header .pill")).to_have_text("high")
    expect(tab.locator("#tile-stressed")).to_have_text("1 of 2")
    expect(tab.locator("#announcer")).to_have_text("source-1: high")
    eventually(lambda: card.locator("canvas").evaluate("canvas => canvas.toDataURL()") != before, "the curve moves")

    device.tell(open_episode())
    expect(card.locator(".state")).to_contain_text("Episode, 5 s")
    device.hear(None, Level.HIGH)
    expect(card.locator(".value")).to_have_class(re.compile("quiet"))  # silence is not calm, nor stressed
    device.hear(0.2, Level.LOW, state=HealthState.MISSING)
    expect(card.locator("header .pill")).to_have_text("Missing")
    expect(card.locator(".state")).to_have_text("plug it in again")
    expect(tab.locator("#tile-faults")).to_have_text("1")


def test_what_listen_hears_is_on_the_page(tab: Tab, page: Page, tmp_path: Path, speech: Path) -> None:
    config = tmp_path / "listen.toml"
    config.write_text("[history]\n")
    environment = {"XDG_STATE_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    daemon = Daemon("--config", str(config), "--source", str(speech), environment=environment)
    try:
        tab.goto(page.url)
        card = tab.locator("[data-source='cab12/demo']")
        expect(card.locator(".value")).to_have_text(re.compile(r"^\d+\u202f%$"), timeout=60_000)
        expect(tab.locator("#connection")).to_have_text("live")
        assert daemon.stop() == 0
        expect(tab.locator("#connection")).to_have_text("not listening", timeout=30_000)
    finally:
        daemon.kill()


def test_sources_in_the_order_of_their_level(tab: Tab, page: Page, device: Device) -> None:
    device.hear(0.04, Level.LOW)
    device.hear(0.93, Level.HIGH, source="source-2")
    show(tab, page, "live")
    expect(tab.locator(".card h3")).to_have_text(["source-1", "source-2"])
    tab.get_by_label("Order").select_option("by level")
    expect(tab.locator(".card h3")).to_have_text(["source-2", "source-1"])


def test_a_broken_connection_is_told_and_comes_back(tab: Tab, page: Page, device: Device) -> None:
    device.hear(0.04, Level.LOW)
    show(tab, page, "live")
    expect(tab.locator("#connection")).to_have_text("live")
    assert page.stop() == 0
    expect(tab.locator("#banner")).to_contain_text("Connection lost at ")
    expect(tab.locator("#connection")).to_have_text("no connection")
    expect(tab.locator(".cards")).to_have_class(re.compile("stale"))
    expect(tab.locator("#pause")).to_be_disabled()
    page.start()
    device.hear(0.93, Level.HIGH)
    expect(tab.locator("#banner")).to_be_hidden()
    expect(tab.locator("[data-source='cab/source-1'] .value")).to_have_text("93\u202f%")
    expect(tab.locator("#connection")).to_have_text("live")


def test_a_device_that_does_not_listen_says_so(tab: Tab, page: Page) -> None:
    tab.goto(page.url)
    expect(tab.locator("#connection")).to_have_text("not listening")
    expect(tab.locator("main")).to_contain_text("Nobody listens at the moment")


def test_without_a_history_the_page_tells_how_to_get_one(context: BrowserContext, tmp_path: Path) -> None:
    tab, page = context.new_page(), Page(tmp_path)
    remedy = "page.toml has no [history]: write it there, and run edge-sser listen"
    try:
        tab.goto(page.start().url)
        expect(tab.locator("main")).to_contain_text("There is nothing to show yet")
        expect(tab.locator("main")).to_contain_text(remedy)
    finally:
        told = page.close()
    assert told.startswith("edge-sser: the page is empty until there is a history: ")
    assert told.endswith(f"{remedy}\n")


def test_listening_is_paused_after_a_question_and_resumed(tab: Tab, page: Page, device: Device) -> None:
    device.hear(0.04, Level.LOW)
    show(tab, page, "live")
    tab.get_by_role("button", name="Pause listening").click()
    tab.get_by_role("button", name="Cancel").click()
    assert not device.paused.exists()
    tab.get_by_role("button", name="Pause listening").click()
    tab.get_by_role("button", name="Pause", exact=True).click()
    expect(tab.locator("#connection")).to_have_text("paused")
    assert device.paused.exists()
    tab.get_by_role("button", name="Resume listening").click()
    expect(tab.locator("#connection")).to_have_text("live")
    assert not device.paused.exists()


def test_the_history_of_a_day_and_a_week_by_keyboard(tab: Tab, page: Page, device: Device) -> None:
    tab.goto(f"{page.url}#/history?day={int(device.first_day)}")
    tab.wait_for_selector(READY["history"])
    heat = tab.get_by_role("application", name="All sources")
    heat.focus()
    tab.keyboard.press("Home")
    for _ in range(12 * 4 + 2):  # from midnight to half past twelve
        tab.keyboard.press("ArrowRight")
    readout = tab.locator(".readout").first
    expect(readout).to_contain_text("12:30 to 12:45: highest 9")
    expect(readout.locator(".pill")).to_have_text("high")
    tab.get_by_role("button", name="Week").click()
    expect(heat).to_be_visible()
    heat.focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    expect(tab.locator("#heat-title")).to_contain_text("source-2, ")
    expect(tab.locator("#history-source")).to_have_value("cab/source-2")
    tab.get_by_text("The same as a table").click()
    expect(tab.locator("details tbody tr").first).to_be_visible()
    curve = tab.get_by_role("application", name="source-2: stress over time")
    curve.focus()
    tab.keyboard.press("ArrowRight")
    expect(tab.locator(".readout").last).to_contain_text("average")
    tab.get_by_role("button", name="30 days").click()
    expect(tab.locator("#curve-title")).to_contain_text("source-2")


def test_the_source_that_leads_is_the_one_with_most_stress_in_its_speech(tab: Tab, page: Page, device: Device) -> None:
    """Not the one that was listened to for longer, nor one with a few seconds of speech."""
    few = "source_id = (SELECT id FROM sources WHERE source = 'source-2')"
    with sqlite3.connect(device.state / FILE_NAME) as db:
        db.execute("UPDATE minutes SET (low_s, elevated_s, high_s) = (30, 15, 0)")
        db.execute(f"UPDATE minutes SET (low_s, elevated_s, high_s) = (5, 40, 0) WHERE {few}")
        db.execute(f"DELETE FROM minutes WHERE {few} AND minute % 86400 / 3600 != 12")
    tab.goto(f"{page.url}#/history?day={int(device.first_day)}")
    title = "source-2: stress over time (the source with the most stressed speech)"
    expect(tab.locator("#curve-title")).to_have_text(title)
    with sqlite3.connect(device.state / FILE_NAME) as db:
        db.execute(f"UPDATE minutes SET (low_s, elevated_s, high_s) = (0, 0.1, 0) WHERE {few}")
    tab.reload()
    expect(tab.locator("#curve-title")).to_contain_text("source-1: stress over time")


def test_episodes_are_filtered_and_downloaded(tab: Tab, page: Page, device: Device) -> None:
    show(tab, page, "episodes")
    expect(tab.locator(".count")).to_contain_text("4 episodes, 6 min 20 s in all")
    tab.get_by_label("Source").select_option("source-2")
    expect(tab.locator("tbody tr")).to_have_count(2)
    with tab.expect_download() as download:
        tab.get_by_role("link", name="Download CSV").click()
    content = download.value.path().read_text()
    rows = list(csv.DictReader(io.StringIO(content)))
    assert [(row["source"], row["level"], row["duration_s"]) for row in rows] == [("source-2", "high", "95.0")] * 2
    tab.get_by_label("From").fill("2031-01-01")
    expect(tab.locator(".count")).to_have_text("The first day lies after the last.")
    tab.get_by_label("From").fill("2020-06-01")
    tab.get_by_label("To", exact=True).fill("2020-06-30")
    expect(tab.locator("main")).to_contain_text("No episode in this time")


def test_health_and_what_the_doctor_finds(tab: Tab, page: Page, device: Device) -> None:
    device.hear(0.2, Level.LOW, state=HealthState.SILENT)
    show(tab, page, "health")
    expect(tab.locator("section").first).to_contain_text("no sound")
    expect(tab.locator("section").first).to_contain_text("plug it in again")
    tab.get_by_role("button", name="Run the checks").click()
    doctor = tab.locator("section", has=tab.get_by_role("heading", name="Doctor"))
    expect(doctor.locator("tr", has_text="model")).to_contain_text("fine", timeout=60_000)
    expect(doctor).not_to_contain_text("microphones")  # no page may open a microphone


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_checks_of_axe_pass(browser: Browser, page: Page, device: Device, scheme: str) -> None:
    device.hear(0.04, Level.LOW)
    device.hear(0.74, Level.ELEVATED, source="source-2")
    device.tell(open_episode("source-2"))
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1400, "height": 900})  # type: ignore[arg-type]
    context.set_default_timeout(30_000)
    tab = context.new_page()
    for view in VIEWS:
        show(tab, page, view)
        found = Axe().run(tab)
        assert found.violations_count == 0, f"{view}: {found.generate_report()}"
    context.close()


def test_axe_would_find_something(tab: Tab, page: Page) -> None:
    show(tab, page, "settings")
    tab.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=\"static/icon.svg\">')")
    assert Axe().run(tab).violations_count == 1


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_has_all_without_scrolling_sideways(
    browser: Browser, page: Page, device: Device, width: int
) -> None:
    device.hear(0.04, Level.LOW)
    device.hear(0.2, Level.LOW, source="source-2", state=HealthState.MISSING)
    context = browser.new_context(viewport={"width": width, "height": 700}, has_touch=True)
    context.set_default_timeout(30_000)
    tab = context.new_page()
    for view in VIEWS:
        show(tab, page, view)
        assert tab.evaluate("document.documentElement.scrollWidth") == width, view
        for link in tab.locator("nav a").all():
            box = link.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width, view
    context.close()


def test_nothing_is_fetched_elsewhere_and_no_cookie_is_left(tab: Tab, page: Page, device: Device) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    device.hear(0.04, Level.LOW)
    for view in VIEWS:
        show(tab, page, view)
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith(page.url)] == []
    assert tab.context.cookies() == []


def test_colours_are_chosen_and_remembered(tab: Tab, page: Page) -> None:
    tab.goto(page.url)
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(background)
    tab.get_by_role("button", name="Colours: as the system").click()
    tab.get_by_role("button", name="Colours: light").click()
    expect(tab.get_by_role("button", name="Colours: dark")).to_be_visible()
    assert tab.evaluate(background) != light
    tab.reload()
    expect(tab.get_by_role("button", name="Colours: dark")).to_be_visible()
