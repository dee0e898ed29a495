"""The page in a real Chromium, on the whole running pipeline: what a person would see when watching it.

Chromium is Debian's package. It is installed here when that is possible; where it is not, the tests are skipped with
the reason, but never in CI.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from marketfeed.local.stack import Addresses
from marketfeed.local.ui_build import build_ui

# A first run may have to install Chromium.
pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.timeout(900)]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# No sandbox: it cannot be had as root. The rest keeps the browser from speaking to anybody but us.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
IN_CI = os.environ.get("CI", "") not in ("", "0", "false")
STARTED_MS = 90_000
SEEN_MS = 20_000
BACK_MS = 45_000

# The right end of the price line: the last column of the chart that has a pixel in the line's colour.
LINE_END = """() => {
  const probe = document.createElement('span');
  probe.style.color = 'var(--accent)';
  document.body.append(probe);
  const [r, g, b] = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
  probe.remove();
  let end = -1;
  for (const canvas of document.querySelectorAll('#chart canvas')) {
    const { data, width, height } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    for (let y = 0; y < height; y += 1) {
      for (let x = width - 1; x > end; x -= 1) {
        const i = 4 * (y * width + x);
        const far = Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b);
        if (data[i + 3] > 200 && far < 40) end = x;
      }
    }
  }
  return end;
}"""


def chromium() -> str:
    """Path of a Chromium; installs Debian's if it may. Skips the test, or fails it in CI, when there is none."""
    for name in CHROMIUM:
        if (found := shutil.which(name)) is not None:
            return found
    reason = "there is no Chromium, and only root can install it (apt-get install chromium)"
    if os.geteuid() == 0 and shutil.which("apt-get") is not None:
        for step in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            done = subprocess.run(["apt-get", *step], capture_output=True, text=True, timeout=600, check=False)
            reason = f"apt-get {' '.join(step)} failed: {done.stderr.strip()[-300:]}"
        if (found := shutil.which("chromium")) is not None:
            return found
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


class Demo:
    """A running `marketfeed demo`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def url(self) -> str:
        """Address of the page, as soon as the demo tells it."""
        found: list[str] = []

        def told() -> bool:
            found.extend(re.findall(r"the page: (\S+)", self.log.read_text()))
            return bool(found)

        self.until(told, "the page is announced", STARTED_MS)
        return found[0]

    def service(self, name: str) -> psutil.Process | None:
        """The process of a service, if it runs."""
        for child in psutil.Process(self.process.pid).children():
            try:
                if child.cmdline()[-2:] == ["-m", f"marketfeed.{name}"]:
                    return child
            except psutil.Error:
                continue
        return None

    def until(self, condition: Callable[[], bool], what: str, timeout_ms: int) -> None:
        """Wait for something that the demo does; fails with what it printed."""
        deadline = time.monotonic() + timeout_ms / 1000
        while not condition():
            assert self.process.poll() is None, f"the demo ended early:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"not within {timeout_ms} ms: {what}\n{self.log.read_text()}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of the page."""
    path = chromium()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def demo(browser: Browser, stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The pipeline with a generator, on the servers of the test session; Chromium is known to be there by then."""
    build_ui(lambda text: None)
    state = tmp_path_factory.mktemp("page")
    options = (
        "--rate",
        "60",
        "--symbols",
        "4",
        "--port",
        "0",
        "--feed",
        f"page{os.getpid()}",
        "--state-dir",
        str(state),
        "--orders",
    )
    command = (sys.executable, "-m", "marketfeed.cli.main", "demo", *options)
    with (state / "demo.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **stack.env()})
    try:
        yield Demo(process, state / "demo.log")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """The page, live, with the errors that it logged checked at the end."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    opened = context.new_page()
    failures: list[str] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.goto(demo.url())
    expect(opened.locator("#pill")).to_have_attribute("data-kind", "live", timeout=STARTED_MS)
    yield opened
    context.close()
    assert failures == []


def price(page: Page) -> str:
    """The price as it is shown."""
    return page.locator("#price").text_content() or ""


def bars(page: Page) -> int:
    """How many 1-second bars the page says it shows; 0 while it says nothing."""
    found = re.match(r"([\d,]+) bars?", page.locator("#facts").text_content() or "")
    return int(found[1].replace(",", "")) if found else 0


def wait_for(page: Page, condition: Callable[[], bool], what: str, timeout_ms: int = SEEN_MS) -> None:
    """Wait until what the page shows fulfils a condition."""
    deadline = time.monotonic() + timeout_ms / 1000
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_ms} ms: {what}"
        page.wait_for_timeout(100)


def differences(page: Page, url: str) -> list[object]:
    """Seconds in which the page's bars are not those of GET /v1/bars; the newest few, still moving, left out."""
    shown = {bar["startS"]: bar for bar in page.evaluate("marketfeed.bars()")}
    symbol = page.locator("#symbol").text_content()
    first, last = min(shown), max(shown) - 5
    query = f"v1/bars?symbol={symbol}&interval=1s&from={first}&to={last + 1}&fill=none"
    with urllib.request.urlopen(url + query, timeout=10) as answer:
        columns = json.load(answer)["bars"]
    names = ("open", "high", "low", "close", "volume", "trades")
    stored = {start: [columns[name][i] for name in names] for i, start in enumerate(columns["start"])}
    held = {start: [bar[name] for name in names] for start, bar in shown.items() if start <= last}
    return [
        (start, held.get(start), stored.get(start))
        for start in held.keys() | stored
        if held.get(start) != stored.get(start)
    ]


def test_the_price_moves_and_the_chart_grows(page: Page) -> None:
    """Several prices in turn, more bars, and a line whose end is further right than before."""
    wait_for(page, lambda: price(page) != "–", "a price is on show")
    seen = {price(page)}

    def moved() -> bool:
        seen.add(price(page))
        return len(seen) >= 4

    wait_for(page, moved, "the price changes three times")
    assert all(re.fullmatch(r"[\d,]+\.\d{2,}", text) for text in seen), seen
    wait_for(page, lambda: bars(page) > 0, "bars are on show")
    first_bars, first_end = bars(page), page.evaluate(LINE_END)
    assert first_end > 0, "no line is drawn"
    wait_for(page, lambda: bars(page) >= first_bars + 4, "four more bars")
    wait_for(page, lambda: page.evaluate(LINE_END) > first_end + 4, "the line reaches further to the right")
    assert " ago" in (page.locator("#age").text_content() or "")
    assert "symbol=" in page.url


def test_the_page_recovers_from_a_killed_server_without_a_reload(page: Page, demo: Demo) -> None:
    """mds is killed: the page says so, keeps its chart, comes back by itself and goes on."""
    wait_for(page, lambda: bars(page) > 2, "bars are on show")
    page.evaluate("window.neverReloaded = true")
    before = bars(page)
    server = demo.service("mds")
    assert server is not None
    server.kill()
    expect(page.locator("#pill")).not_to_have_attribute("data-kind", "live", timeout=SEEN_MS)
    expect(page.locator("#quote")).to_have_attribute("data-fresh", "false", timeout=SEEN_MS)
    expect(page.locator("#watch-list li[data-fresh=true]")).to_have_count(0, timeout=SEEN_MS)
    least = before

    def back() -> bool:
        nonlocal least
        least = min(least, bars(page))
        return page.locator("#pill").get_attribute("data-kind") == "live"

    wait_for(page, back, "the page is live again", BACK_MS)
    old = price(page)
    wait_for(page, lambda: price(page) != old, "the price moves again")
    wait_for(page, lambda: bars(page) > before, "the chart grows again")
    assert least == before, "the chart was emptied while the server was away"
    wait_for(page, lambda: differences(page, demo.url()) == [], "the page's bars are those of the history")
    assert page.evaluate("marketfeed.unread()") == 0
    assert page.evaluate("window.neverReloaded") is True


def test_a_feed_that_stops_is_said_to_be_stale(page: Page, demo: Demo) -> None:
    """Ingest stands still: the price is marked as old within seconds, and as current when it goes on."""
    ingest = demo.service("ingest")
    assert ingest is not None
    ingest.send_signal(signal.SIGSTOP)
    try:
        expect(page.locator("#pill")).to_have_attribute("data-kind", re.compile("stale|down"), timeout=BACK_MS)
        expect(page.locator("#quote")).to_have_attribute("data-fresh", "false", timeout=SEEN_MS)
    finally:
        ingest.send_signal(signal.SIGCONT)
    expect(page.locator("#pill")).to_have_attribute("data-kind", "live", timeout=BACK_MS)


def test_a_watch_list_beside_the_stock(page: Page) -> None:
    """Other symbols' prices move beside the one on show; a row shows its symbol whole; what is taken off stays off."""
    rows = page.locator("#watch-list li")
    expect(rows).to_have_count(4, timeout=SEEN_MS)
    shown = page.locator("#symbol").text_content() or ""
    other = next(name for i in range(4) if (name := rows.nth(i).get_attribute("data-symbol")) != shown)
    row = page.locator(f'#watch-list li[data-symbol="{other}"]')
    seen: set[str] = set()

    def moved() -> bool:
        seen.add(row.locator(".last").text_content() or "")
        return len(seen - {"–"}) >= 3

    wait_for(page, moved, "the price of a watched symbol changes twice")
    row.locator(".pick").click()
    expect(page.locator("#symbol")).to_have_text(other)
    wait_for(page, lambda: bars(page) > 0, "the bars of the symbol that was watched are on show")
    first = page.locator(f'#watch-list li[data-symbol="{shown}"]')
    expect(first.locator(".pick")).to_have_attribute("aria-current", "false")
    old = first.locator(".last").text_content()
    wait_for(page, lambda: first.locator(".last").text_content() != old, "the price of the one shown before moves on")
    page.locator("#star").click()
    expect(rows).to_have_count(3)
    page.reload()
    expect(rows).to_have_count(3, timeout=SEEN_MS)
    expect(row).to_have_count(0)
    expect(page.locator("#star")).to_have_attribute("aria-pressed", "false")
    page.locator("#star").click()
    expect(row.locator(".last")).to_have_text(re.compile(r"\d"), timeout=SEEN_MS)


def place(page: Page, quantity: str, side: str = "buy", limit: float | None = None) -> None:
    """Fill in the ticket and place the order."""
    page.locator(f"#ticket input[value={side}]").check(force=True)
    page.locator(f"#ticket input[value={'market' if limit is None else 'limit'}]").check(force=True)
    page.locator("#ticket-quantity").fill(quantity)
    if limit is not None:
        page.locator("#ticket-limit").fill(f"{limit:.2f}")
    page.locator("#ticket-place").click()


def test_a_paper_order_is_placed_and_fills(page: Page) -> None:
    """A market order fills; a limit order rests until it is cancelled; one too far from the price is rejected."""
    expect(page.locator("#ticket")).to_be_visible()
    wait_for(page, lambda: price(page) != "–", "a price is on show")
    now, symbol = float(price(page).replace(",", "")), page.locator("#symbol").text_content()
    first = page.locator("#orders-list li").first
    place(page, "10")
    expect(first.locator("b")).to_have_text(f"Buy 10 {symbol} at market", timeout=SEEN_MS)
    expect(first.locator(".state")).to_have_text("Filled", timeout=SEEN_MS)
    expect(first.locator("small")).to_have_text(re.compile(r"10 filled at \d"))
    place(page, "2.5", "sell", now * 1.05)
    expect(first.locator("b")).to_have_text(f"Sell 2.5 {symbol} at {now * 1.05:.2f}", timeout=SEEN_MS)
    expect(first.locator(".state")).to_have_text("Working")
    first.locator(".drop").click()
    expect(first.locator(".state")).to_have_text("Cancelled", timeout=SEEN_MS)
    expect(first.locator(".drop")).to_be_hidden()
    place(page, "1", "buy", now * 0.5)
    expect(first.locator(".state")).to_have_text("Rejected", timeout=SEEN_MS)
    expect(first.locator("small")).to_have_text("too far from the price")
    page.locator("#ticket-quantity").fill("many")
    expect(page.locator("#ticket-place")).to_be_disabled()
    place(page, "0.0000001")
    expect(page.locator("#ticket-said")).to_have_attribute("data-kind", "bad", timeout=SEEN_MS)


def test_an_order_placed_while_the_service_is_away_is_placed_once(page: Page, demo: Demo) -> None:
    """The order service is killed: the page says so, asks again under the same id, and shows one order more."""
    wait_for(page, lambda: price(page) != "–", "a price is on show")
    place(page, "3", "buy", float(price(page).replace(",", "")) * 0.95)
    resting = page.locator('#orders-list li[data-state="WORKING"]')
    expect(resting.first).to_be_visible(timeout=SEEN_MS)
    before = page.locator("#orders-list li").count()
    orders = demo.service("orders")
    assert orders is not None
    orders.kill()
    place(page, "7", "sell")
    expect(page.locator("#ticket-link")).to_have_text("Connecting to the order service", timeout=SEEN_MS)
    newest = page.locator("#orders-list li").first
    expect(newest.locator(".state")).to_have_text("Filled", timeout=BACK_MS)
    expect(newest.locator("b")).to_have_text(re.compile("^Sell 7 "))
    expect(page.locator("#ticket-link")).to_have_text("", timeout=BACK_MS)
    assert page.locator("#orders-list li").count() == before + 1
    resting.first.locator(".drop").click()
    expect(resting).to_have_count(0, timeout=SEEN_MS)


def test_another_symbol_by_keyboard_alone(page: Page) -> None:
    """`/`, some letters and Enter show another stock, with its own address; Back returns."""
    first = page.locator("#symbol").text_content() or ""
    page.keyboard.press("/")
    expect(page.locator("#search-list [role=option]").nth(1)).to_be_visible(timeout=SEEN_MS)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#symbol")).not_to_have_text(first)
    second = page.locator("#symbol").text_content() or ""
    assert f"symbol={second}" in page.url
    expect(page.locator("#pill")).to_have_attribute("data-kind", "live", timeout=SEEN_MS)
    page.go_back()
    expect(page.locator("#symbol")).to_have_text(first)


def test_fits_a_phone(browser: Browser, demo: Demo) -> None:
    """At 360 pixels nothing sticks out sideways, and chart and price are in sight."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, color_scheme="dark")
    phone = context.new_page()
    phone.goto(demo.url())
    expect(phone.locator("#pill")).to_have_attribute("data-kind", "live", timeout=STARTED_MS)
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    for place in ("#price", "#chart", "#search-input"):
        box = phone.locator(place).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert box["y"] < 740
    context.close()
