"""Takes the pictures of the page that the documents show: a shop's pools on a real PostgreSQL, well and in trouble.

PYTHONPATH=.:tests python -m monitor.pictures docs/images
"""

from __future__ import annotations

import random
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asking import tell
from clusters import installed, new_cluster
from servers import choose_for_clusters

from dbpool import PoolTimeout, ThreadedConnectionPool
from dbpool.monitor import pool_monitor

from .browser import Viewer, started

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = {"width": 1120, "height": 1040}
HISTORY = 100  # seconds of daily work before the first picture
WORKERS, REPORTERS, IMPORTERS, FORGOTTEN = 7, 2, 9, 3
QUERIES = (0.02, 0.3)  # seconds, at least and at most
TROUBLE = (Exception,)  # what a worker of the shop meets, it meets again at the next request


def within(path: str) -> Any:
    """Have a function stand in another file: the pictures show a shop's paths, and none of this machine's."""

    def moved(function: Any) -> Any:
        function.__code__ = function.__code__.replace(co_filename=path)
        return function

    return moved


@within("/srv/shop/checkout.py")
def checkout(orders: Any, stop: threading.Event) -> None:
    while not stop.wait(random.uniform(*QUERIES)):
        try:
            with orders.connection() as conn:
                tell(conn, f"SELECT pg_sleep({random.uniform(*QUERIES)})")
        except TROUBLE:
            stop.wait(0.2)


@within("/srv/shop/reports.py")
def daily_report(reports: Any, stop: threading.Event) -> None:
    while not stop.wait(random.uniform(0.1, 1.5)):
        try:
            with reports.connection() as conn:
                tell(conn, f"SELECT pg_sleep({random.uniform(0.1, 1.2)})")
        except TROUBLE:
            stop.wait(0.2)


@within("/srv/shop/stock.py")
def import_stock(orders: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            with orders.connection():
                stop.wait(random.uniform(2, 4))  # calls the supplier while it has a connection
        except PoolTimeout:
            pass


@within("/srv/shop/invoices.py")
def export_invoices(orders: Any, stop: threading.Event) -> None:
    conn = orders.getconn()
    stop.wait()
    orders.putconn(conn)


tell.__code__ = tell.__code__.replace(co_filename="/srv/shop/db.py")


@contextmanager
def working(work: Any, pool: Any, count: int, name: str) -> Iterator[None]:
    """Have so many threads at work."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=work, args=(pool, stop), name=f"{name}-{number}") for number in range(1, count + 1)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Photographer:
    """Looks at the page in both themes, and takes a picture in one of them."""

    def __init__(self, chromium: Any, url: str, folder: Path) -> None:
        self.folder = folder
        themes = ("light", "dark")
        self.seen = {theme: Viewer(chromium, color_scheme=theme, viewport=SIZE).open(url) for theme in themes}

    def take(self, name: str, code: str, theme: str, after: float) -> None:
        """Take a picture, so many seconds *after* the verdict is *code*."""
        seen = self.seen[theme]
        seen.see(code)
        seen.page.wait_for_timeout(1000 * after)
        seen.see(code)
        path = self.folder / f"monitor-{name}.png"
        seen.page.screenshot(path=path)
        print(f"{path}: {path.stat().st_size:,} bytes")


def main(folder: Path) -> None:
    programs, _ = choose_for_clusters("auto")
    with installed(programs.binaries) as installation, new_cluster(installation) as cluster, started() as chromium:
        dsn = cluster.start().tcp_dsn
        options = {"leak_threshold": 10.0, "timeout": 30.0, "trace": True, "connect_timeout": 5.0}
        orders = ThreadedConnectionPool(2, 8, dsn, config={"name": "orders", **options})
        reports = ThreadedConnectionPool(1, 4, dsn, config={"name": "reports", "max_uses": 50})
        with orders, reports, pool_monitor(0) as monitor, working(checkout, orders, WORKERS, "web"), \
                working(daily_report, reports, REPORTERS, "report"):  # fmt: skip
            photographer = Photographer(chromium, f"{monitor.url}#orders", folder)
            time.sleep(HISTORY)
            photographer.take("healthy", "healthy", "light", 0)
            with working(import_stock, orders, IMPORTERS, "import"):
                photographer.take("exhausted", "exhausted", "dark", 9)
            photographer.seen["light"].see("healthy")
            with working(export_invoices, orders, FORGOTTEN, "export"):
                photographer.take("leak", "leak_suspected", "dark", 6)
            time.sleep(15)
            cluster.stop("immediate")
            photographer.take("down", "database_refuses", "light", 8)
            cluster.start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
