"""A real browser for the tests of the monitor's page; what it complains of, and what it asks for, is kept."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

import pytest
from servers import import_or_skip, require_or_skip
from unit.threads import Caller

from dbpool import ThreadedConnectionPool

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0  # seconds until a test gives up on something that the page should show
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# What the policy forbids is an error, too.
WATCH = "addEventListener('securitypolicyviolation', e => console.error('policy:', e.violatedDirective, e.blockedURI))"


@contextmanager
def started() -> Iterator[Any]:
    """Yield a browser."""
    playwright = import_or_skip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        require_or_skip("chromium", f"none of {', '.join(PROGRAMS)} is on PATH")
    with playwright.sync_playwright() as tools:
        # Root's browser has no sandbox, and a container's /dev/shm is small.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = tools.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser of a module: while it runs, its loop is that of this thread, so other modules must not meet it."""
    with started() as browser:
        yield browser


class Viewer:
    """Someone who looks at the page, with a browser of their own: their choices are kept in it."""

    def __init__(self, chromium: Any, **options: Any) -> None:
        self.url = ""
        self.complaints: list[str] = []  # errors in the console, violations of the policy, exceptions in scripts
        self.asked: list[str] = []  # the addresses that the page asked for
        self.expected: tuple[str, ...] = ()  # parts of complaints that a test brings about itself
        size = {"width": 1280, "height": 900}
        self.context = chromium.new_context(**{"locale": "en-US", "viewport": size, "color_scheme": "light", **options})
        self.context.set_default_timeout(1000 * PATIENCE)
        self.page = self.context.new_page()
        self.page.add_init_script(WATCH)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, url: str, wait: bool = True) -> Viewer:
        """Load the page at *url*; *wait* for its first figures."""
        self.url = url
        self.page.goto(url)
        if wait:
            self.until("document.querySelector('.verdict')?.dataset.code && document.querySelector('canvas')")
        return self

    def until(self, is_so: str, argument: Any = None) -> None:
        """Wait until this JavaScript is true; with an *argument* it is a function. (A text would need eval().)"""
        function = is_so if argument is not None else f"() => {is_so}"
        self.page.wait_for_function(function, arg=argument, polling=50)

    def text(self, selector: str) -> str:
        """Return what is shown there, in one line."""
        return " ".join(self.page.locator(selector).first.inner_text().split())

    def has(self, selector: str, text: str) -> None:
        """Wait until *text* is shown there."""
        self.until("([where, what]) => document.querySelector(where)?.innerText.includes(what)", [selector, text])

    def see(self, code: str) -> float:
        """Wait for a verdict of that code; return the seconds that it took."""
        began = time.monotonic()
        self.until("code => document.querySelector('.verdict')?.dataset.code === code", code)
        return time.monotonic() - began

    def chart(self, name: str, what: str) -> Any:
        """Return *what*, in JavaScript, of a chart: `plot` is uPlot's."""
        script = f"({{ plot, history }}) => {what}"
        return self.page.evaluate(f"({script})(document.querySelector('[data-chart={name}]').chart)")

    def leave(self) -> None:
        """Leave the page, as if it had never been seen; it must have complained of nothing."""
        self.page.unroute_all()
        self.page.goto("about:blank")
        self.page.emulate_media(color_scheme="light")
        self.context.clear_cookies()
        complaints = [each for each in self.complaints if not any(part in each for part in self.expected)]
        elsewhere = [each for each in self.asked if not each.startswith((self.url, "data:", "about:"))]
        self.complaints.clear()
        self.asked.clear()
        self.expected = ()
        assert (complaints, elsewhere) == ([], [])


@pytest.fixture(scope="module")
def passer(chromium: Any) -> Viewer:
    """One who looks at many pages, each below a port of its own: to begin anew takes half a second."""
    return Viewer(chromium)


@pytest.fixture
def viewer(chromium: Any, passer: Viewer) -> Iterator[Callable[..., Viewer]]:
    """Makes viewers: `viewer(url, color_scheme="dark")`; at the end none of them may have complained."""
    viewers: list[Viewer] = []

    def look(url: str, wait: bool = True, **options: Any) -> Viewer:
        viewers.append(Viewer(chromium, **options) if options or passer in viewers else passer)
        return viewers[-1].open(url, wait)

    yield look
    for each in viewers:
        each.leave()
        if each is not passer:
            each.context.close()


def _memory() -> Any:
    return sqlite3.connect(":memory:", check_same_thread=False)  # any thread may use what another has opened


@pytest.fixture
def open_pool() -> Iterator[Callable[..., Any]]:
    """Opens a pool, of sqlite3's connections if nothing else is said; it is closed after the test."""
    pools: list[Any] = []

    def open_pool(
        name: str = "orders",
        minconn: int = 1,
        maxconn: int = 4,
        connect: Any = _memory,
        *arguments: Any,
        **options: Any,
    ) -> Any:
        config = {"name": name, **options}
        pools.append(ThreadedConnectionPool(minconn, maxconn, *arguments, connect=connect, config=config))
        return pools[-1]

    yield open_pool
    for pool in pools:
        pool.close(timeout=0)


@pytest.fixture
def monitor(serve: Callable[..., Any]) -> Callable[..., Any]:
    """Starts the monitor of some pools, or of all."""

    def monitor(*pools: Any, port: int = 0, **options: Any) -> Any:
        return serve(port, pools=pools or None, **options)

    return monitor


def named(name: str, work: Callable[[], Any]) -> Caller:
    """Have a thread of that name do some work."""
    caller = Caller(work)
    caller._thread.name = name
    return caller
