"""The live page of a project that is served, with a real Redis, in a real Chromium.

Each test ends with a look at the console, which must have no error.
"""

import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    expect,
    sync_playwright,
)
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from tests.baking import ROUTES, Answers
from tests.servers import find
from tests.serving import (
    PASSWORD,
    free_port,
    get,
    make_serve,
    redis_env,
    redis_server,
    wait_until,
)

pytestmark = pytest.mark.xdist_group("live page")
expect.set_options(timeout=30_000)  # milliseconds: other tests keep the machine busy

#: Options that Chromium needs to run as root, and to leave the network alone.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
#: Milliseconds between two looks of the page at the numbers.
EVERY = 200
#: Where the picture of the README goes; to renew it:
#: SCREENSHOT=docs/live-page.png .venv/bin/pytest tests/test_live_page.py -k picture_of_it
SCREENSHOT = os.environ.get("SCREENSHOT")
#: The lowest contrast that a text has with what is behind it, as WCAG 2 defines it.
CONTRAST = """() => {
    const parts = (color) => color.match(/[0-9.]+/g).map(Number);
    const luminance = (color) => {
        const [r, g, b] = parts(color).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (node) => {
        const color = getComputedStyle(node).backgroundColor;
        return parts(color)[3] === 0 ? behind(node.parentElement) : color;
    };
    const texts = [...document.body.querySelectorAll("*")].filter((node) =>
        node.getClientRects().length && [...node.childNodes].some((child) =>
            child.nodeType === Node.TEXT_NODE && child.data.trim()));
    return Math.min(...texts.map((node) => {
        const style = getComputedStyle(node);
        const color = node instanceof SVGElement ? style.fill : style.color;
        const [dark, light] = [luminance(color), luminance(behind(node))].sort((a, b) => a - b);
        return (light + 0.05) / (dark + 0.05);
    }));
}"""


class Served:
    """A served project and its Redis."""

    def __init__(self, project: Path, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.port = folder, stack, free_port()
        self.start_redis()
        env = redis_env(self.port)
        self.url = stack.enter_context(make_serve(project, workers=2, **env))

    def start_redis(self) -> None:
        """Start Redis, again if it was killed."""
        _, self.redis = self.stack.enter_context(redis_server(self.folder, self.port))

    def ask(self, *paths: str) -> None:
        """Ask for pages as strangers do."""
        for path in paths:
            assert get(self.url + path, password=None)[0] == 200

    def visit(self, *paths: str) -> None:
        """Ask for pages, and wait until both workers have counted that."""
        before = self.counted()
        self.ask(*paths)
        wait_until(lambda: self.counted() >= before + len(paths))

    def counted(self) -> float:
        """Return how many look-ups and bypasses are counted."""
        text = get(f"{self.url}/metrics")[1]
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in ("cache_gets_total", "cache_bypasses_total")
        )


@pytest.fixture(scope="module")
def served(
    project: Callable[[Answers], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("live page")
    shutil.copytree(project(Answers("redis", tuple(ROUTES))), folder / "shop")
    with ExitStack() as stack:
        yield Served(folder / "shop", folder, stack)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find("Chromium")
    assert path, "Chromium is missing: python -m tests.servers"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Live:
    """Opens the live page; notes what it asks for, and the errors in its console."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.asked: set[str] = set()
        self.errors: list[str] = []
        self.tolerated = "no error"
        self.contexts: list[BrowserContext] = []

    def open(self, url: str, **options: Any) -> Page:
        """Open it in a browser that has no history; return when it shows the numbers."""
        login = {"username": "monitoring", "password": PASSWORD}
        context = self.browser.new_context(http_credentials=login, **options)  # type: ignore[arg-type]
        self.contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: self.asked.add(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._listen)
        page.goto(f"{url}/cache/?every={EVERY}")
        expect(page).to_have_title("Cache of shop")
        return page

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type == "error" and self.tolerated not in message.text:
            self.errors.append(message.text)


@pytest.fixture
def live(browser: Browser) -> Iterator[Live]:
    live = Live(browser)
    yield live
    for context in live.contexts:
        context.close()
    assert not live.errors


def look_on(page: Page, times: int = 2) -> None:
    """Return after the page has looked at the numbers so many times more."""
    for _ in range(times):
        with page.expect_response("**/cache/stats"):
            pass


def warning(page: Page, title: str) -> Locator:
    """Return the place of a warning, which may be there or not."""
    heading = page.get_by_role("heading", name=f"Warning: {title}", exact=True)
    return page.locator("#notices article").filter(has=heading)


def cell(page: Page, cache: str, column: str) -> Locator:
    """Return a cell of the table."""
    index = page.locator("thead th").all_inner_texts().index(column)
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=cache))
    return row.locator("th, td").nth(index)


def total(page: Page, title: str) -> Locator:
    """Return a number that is no cache's own."""
    return page.locator("#totals div").filter(has_text=title).locator("dd")


def test_it_loads_and_asks_for_nothing_but_its_own(served: Served, live: Live) -> None:
    page = live.open(served.url)
    look_on(page)
    expect(page.get_by_role("status")).to_have_text("Updated every 0.2 seconds.")
    icon = f"{served.url}/cache/static/icon.svg"
    assert live.asked | {icon} == {  # an icon need not be shown without a window
        *(f"{served.url}/cache/{path}" for path in (f"?every={EVERY}", "stats")),
        *(f"{served.url}/cache/static/{name}" for name in ("live.js", "live.css", "icon.svg")),
    }
    assert get(icon)[0] == 200


def test_its_policy_refuses_everything_else(served: Served, live: Live) -> None:
    page = live.open(served.url)
    page.evaluate(
        """() => {
            document.body.append(Object.assign(new Image(), {src: "data:,"}));
            document.body.append(Object.assign(document.createElement("script"), {text: "1"}));
        }"""
    )
    look_on(page)
    refused = [error for error in live.errors if "Content Security Policy" in error]
    assert len(refused) == len(live.errors) == 2
    live.errors.clear()


def test_its_numbers_change_after_requests(served: Served, live: Live) -> None:
    served.visit("/?numbers")
    page = live.open(served.url)
    hits, misses = (
        int(cell(page, "hello.hello", column).inner_text()) for column in ("Hits", "Misses")
    )
    served.visit(*["/?numbers"] * 3, "/?other")
    expect(cell(page, "hello.hello", "Hits")).to_have_text(str(hits + 3))
    expect(cell(page, "hello.hello", "Misses")).to_have_text(str(misses + 1))


def test_its_picture_grows_where_there_are_look_ups(served: Served, live: Live) -> None:
    page = live.open(served.url)
    look_on(page)
    expect(page.locator("#rate-now")).to_have_text("no look-ups yet")
    expect(page.locator("#rate .dot")).to_have_count(0)
    for _ in range(3):  # a dot for each, since nothing is asked for between them
        served.visit("/?picture")
        look_on(page, 3)
    expect(page.locator("#rate .dot")).to_have_count(3)
    expect(page.locator("#latency .dashed.dot")).to_have_count(1)  # stored once
    # Its name describes it to screen readers.
    expect(page.get_by_role("img", name="Hit rate in percent")).to_have_accessible_name(
        re.compile(r"over time\. last 100\.0 %, overall 66\.7 %$")
    )


def test_it_names_a_cache_with_a_poor_hit_rate_and_what_causes_that(
    served: Served, live: Live
) -> None:
    served.visit(*["/?poor"] * 40)
    page = live.open(served.url)
    look_on(page)
    poor = warning(page, "The hit rate of hello.hello is poor")
    expect(poor).to_have_count(0)
    served.visit(*(f"/?poor={number}" for number in range(20)))
    expect(poor).to_contain_text("its keys are too fine")
    # While it lasts, it is left as it is: nobody wants to hear of it again and again.
    poor.evaluate("notice => { notice.same = true; }")
    served.visit("/?poor=another")
    look_on(page)
    assert poor.evaluate("notice => notice.same")
    served.visit(*["/?poor"] * 30)
    expect(poor).to_have_count(0)


def test_it_says_that_entries_are_evicted_and_what_helps(served: Served, live: Live) -> None:
    served.visit(*(f"/?fill={number}" for number in range(10)))
    page = live.open(served.url)
    look_on(page)
    evicted = warning(page, "Entries have been evicted since the page was opened")
    expect(evicted).to_have_count(0)
    with Redis(port=served.port) as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        redis.config_set("maxmemory", 1)
        served.visit("/?more")
        redis.config_set("maxmemory", 0)
    expect(evicted).to_contain_text("raise the limit of entries")
    expect(total(page, "Evicted")).not_to_have_text("0")


def test_it_shows_the_open_breaker_until_it_closes(served: Served, live: Live) -> None:
    page = live.open(served.url)
    breaker = warning(page, "The breaker is open")
    expect(total(page, "Breaker")).to_have_text("closed")
    expect(breaker).to_have_count(0)
    served.redis.kill()
    served.redis.wait()
    served.visit(*["/?breaker"] * 20)
    expect(breaker).to_contain_text("the server is down or unreachable")
    expect(total(page, "Breaker")).to_have_text("open")
    served.start_redis()
    expect(breaker).to_have_count(0)
    expect(total(page, "Breaker")).to_have_text("closed")


def test_it_goes_on_when_the_server_is_back(
    project: Callable[[Answers], Path], live: Live, tmp_path: Path
) -> None:
    shutil.copytree(project(Answers("disk", ("hello",))), tmp_path / "shop")
    port = str(free_port())
    with make_serve(tmp_path / "shop", workers=1, PORT=port) as url:
        page = live.open(url)
        expect(page.locator("#empty")).to_be_visible()
        expect(page.get_by_text("No warnings.")).to_be_visible()
        for _ in range(10):
            get(url, password=None)
        expect(cell(page, "hello.hello", "Hits")).to_have_text("9")
        live.tolerated = "Failed to load resource"  # also if it is told late
    expect(page.get_by_role("status")).to_contain_text("no new numbers, the server does not answer")
    expect(cell(page, "hello.hello", "Hits")).to_have_text("9")
    with make_serve(tmp_path / "shop", workers=1, PORT=port) as url:
        get(url, password=None)
        expect(page.get_by_role("status")).to_have_text("Updated every 0.2 seconds.")
        # The server has begun to count anew; the page remembers the numbers from before.
        expect(cell(page, "hello.hello", "Hits")).to_have_text("1")
        expect(page.locator("#rate-now")).to_have_text("last 100.0 %, overall 90.9 %")


def test_it_is_used_by_keyboard(served: Served, live: Live) -> None:
    served.visit("/?keyboard", "/recent_posts")
    page = live.open(served.url)
    titles = page.locator("thead th").all_inner_texts()
    reached = []
    for _ in range(len(titles) + 3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().split('\\n')[0]"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["Pause", "Caches by name", *titles, "JSON"]

    column = page.get_by_role("columnheader", name="Cache")
    expect(column).to_have_attribute("aria-sort", "ascending")
    names = page.get_by_role("rowheader").all_inner_texts()
    assert names == sorted(names)
    column.get_by_role("button", name="Cache", exact=True).focus()
    page.keyboard.press("Enter")
    expect(column).to_have_attribute("aria-sort", "descending")
    assert page.get_by_role("rowheader").all_inner_texts() == names[::-1]

    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Paused.")
    hits = int(cell(page, "hello.hello", "Hits").inner_text())
    served.visit("/?keyboard")
    page.wait_for_timeout(3 * EVERY)
    expect(cell(page, "hello.hello", "Hits")).to_have_text(str(hits))
    page.keyboard.press("Space")
    expect(cell(page, "hello.hello", "Hits")).to_have_text(str(hits + 1))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_by_night_and_on_a_phone(scheme: str, served: Served, live: Live) -> None:
    served.visit(*(f"/?night={number}" for number in range(60)), "/recent_posts", "/daily_stats")
    page = live.open(
        served.url, color_scheme=scheme, viewport={"width": 360, "height": 740}, has_touch=True
    )
    served.visit(*(f"/?{scheme}={number}" for number in range(20)))
    expect(warning(page, "The hit rate of hello.hello is poor")).to_be_visible()
    root = page.locator("html")
    assert root.evaluate("root => root.scrollWidth") == 360
    assert page.get_by_role("region", name="Caches by name").evaluate(
        "region => region.scrollWidth > region.clientWidth"
    )
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert page.evaluate(CONTRAST) >= 4.5


def test_a_picture_of_it_is_taken(served: Served, live: Live, tmp_path: Path) -> None:
    page = live.open(served.url, viewport={"width": 1120, "height": 800})
    for number in range(30):
        users = [f"/user/{user}" for user in (1, 2, 3)]
        served.ask(*["/recent_posts", "/daily_stats", *users] * 3)
        served.ask(*(f"/?utm_source={number}-{mail}" for mail in range(number % 7)))
        look_on(page, 1)
    look_on(page)
    for chart in ("rate", "latency"):
        expect(page.locator(f"#{chart} .line[d*=L]")).not_to_have_count(0)
    picture = tmp_path / "live-page.png"
    page.screenshot(path=picture, full_page=True)
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert width == 1120
    assert 700 < height < 2000
    assert len(content) > 30_000  # more than an empty page has
    if SCREENSHOT:
        Path(SCREENSHOT).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, SCREENSHOT)
