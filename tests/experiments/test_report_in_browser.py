"""The report in a real browser: Chromium without a window, spoken to in the DevTools protocol
through a pair of pipes, so that no package is needed."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from select import select
from typing import Any

import pytest

from experiments.report import write
from mtp.command_line import COMMITTED

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# Root has no sandbox in a container; the page is our own and has no network.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


class Browser:
    """One page. `events` is all that the browser has told unasked."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM
        low, self.asking = os.pipe()
        self.told, also_low = os.pipe()
        # Chromium reads requests from descriptor 3 and writes to 4. The shell puts ours there; they
        # must not be 3 or 4 already.
        asked, telling = (fcntl(each, F_DUPFD, 10) for each in (low, also_low))
        os.close(low)
        os.close(also_low)
        begin = f'exec "$@" 3<&{asked} 4>&{telling} {asked}<&- {telling}>&-'
        flags = [*FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", begin, "bash", CHROMIUM, *flags], pass_fds=(asked, telling),
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(asked)
        os.close(telling)
        self.number, self.rest = 0, b""
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        request |= {"sessionId": self.session} if self.session else {}
        os.write(self.asking, json.dumps(request).encode() + b"\0")
        while True:
            message = self.next()
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    def next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select([self.told], [], [], 60)
            assert ready, "the browser does not answer"
            part = os.read(self.told, 1 << 16)
            assert part, "the browser has ended"
            self.rest += part
        first, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(first)
        if "id" not in message:
            self.events.append(message)
        return message

    def open(self, file: Path, width: int, scheme: str = "light") -> None:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=media)
        self.events.clear()
        self.ask("Page.navigate", url=file.as_uri())
        while not self.of("Page.loadEventFired"):
            self.next()

    def of(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event["method"] == method]

    def run(self, script: str) -> Any:
        given = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self.ask("Runtime.evaluate", **given)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        code = {"Enter": 13, "Tab": 9}[key]
        same = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask(
            "Input.dispatchKeyEvent", type="keyDown", **same, **({"text": text} if text else {})
        )
        self.ask("Input.dispatchKeyEvent", type="keyUp", **same)

    def close(self) -> None:
        with suppress(AssertionError, OSError):
            self.ask("Browser.close")
        self.process.wait(20)
        os.close(self.asking)
        os.close(self.told)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(ROOT / COMMITTED, tmp_path_factory.mktemp("page") / "index.html")


# so that lazy images are there too
LOAD = """Promise.all([...document.images].map(image => {
    image.loading = "eager";
    return image.decode().then(() => "", () => image.src);
})).then(found => found.filter(Boolean))"""


def test_it_needs_no_network_and_reports_no_error(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    assert browser.run(LOAD) == []
    pictures = browser.run("document.images.length")
    asked = [each["request"]["url"] for each in browser.of("Network.requestWillBeSent")]
    assert len(asked) == pictures + 1 > 3 and all(url.startswith("file:") for url in asked)
    assert not browser.of("Runtime.exceptionThrown") and not browser.of("Log.entryAdded")
    assert not browser.of("Runtime.consoleAPICalled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, 375, scheme)
    assert browser.run(LOAD) == []
    assert browser.run("innerWidth") == 375
    assert browser.run("document.scrollingElement.scrollWidth") <= 375
    wide = """[...document.querySelectorAll("body *")].filter(
        e => !e.closest(".box") && e.getBoundingClientRect().right > 375).map(e => e.outerHTML)"""
    assert browser.run(wide) == []


def test_dark_has_light_text_and_figures_on_white(browser: Browser, page: Path) -> None:
    colours = """["body", ".card"].map(
        name => getComputedStyle(document.querySelector(name)).backgroundColor)"""
    browser.open(page, 1280, "dark")
    ground, card = browser.run(colours)
    assert card == "rgb(255, 255, 255)"
    assert max(map(int, ground[4:-1].split(","))) < 60
    browser.open(page, 1280, "light")
    assert min(map(int, browser.run(colours)[0][4:-1].split(","))) > 240


COLUMN = """(() => {
    const table = document.querySelector("#sweep-n table");
    const head = [...table.tHead.rows[0].cells].find(c => c.textContent === "bits per byte");
    window.head = head;
    return [head.ariaSort, [...table.tBodies[0].rows].map(r => r.cells[head.cellIndex].innerText)];
})()"""


def test_a_column_sorts_by_click_and_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    sort, values = browser.run(COLUMN)
    numbers = sorted(map(float, values))
    assert sort is None and list(map(float, values)) != numbers
    browser.run("window.head.querySelector('button').click()")
    sort, values = browser.run(COLUMN)
    assert (sort, list(map(float, values))) == ("ascending", numbers)
    # by keyboard: from the heading before it with Tab, then Enter
    browser.run("window.head.previousElementSibling.querySelector('button').focus()")
    browser.press("Tab")
    browser.press("Enter", "\r")
    sort, values = browser.run(COLUMN)
    assert (sort, list(map(float, values))) == ("descending", numbers[::-1])
    assert browser.run("document.querySelectorAll('#sweep-n th[aria-sort]').length") == 1


def test_columns_of_text_and_of_gaps_sort(browser: Browser, tmp_path: Path, page: Path) -> None:
    """Gaps stay last in both directions; numbers within text count as numbers."""
    text = page.read_text()
    start, rest = text.index("<table>"), text.index("</table>")
    cells = "".join(f"<tr><td>{cell}</td></tr>" for cell in ("n=16", "–", "n=2", "n=8"))
    table = f"<table><thead><tr><th data-sort>arm</th></tr></thead><tbody>{cells}</tbody>"
    file = tmp_path / "index.html"
    file.write_text(text[:start] + table + text[rest:])
    browser.open(file, 1280)
    found = []
    for _ in range(2):
        browser.run("document.querySelector('th button').click()")
        found.append(
            browser.run("[...document.querySelectorAll('td')].slice(0, 4).map(c => c.innerText)")
        )
    assert found == [["n=2", "n=8", "n=16", "–"], ["n=16", "n=8", "n=2", "–"]]
