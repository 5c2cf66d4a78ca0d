"""Takes the picture of the terminal view that the documents show: a shop's pools on a real PostgreSQL.

PYTHONPATH=.:tests python -m top.pictures docs/images
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

from clusters import installed, new_cluster
from monitor.browser import started
from monitor.pictures import checkout, daily_report, import_stock, working
from servers import choose_for_clusters

from dbpool import ThreadedConnectionPool
from dbpool.monitor import pool_monitor
from dbpool.top.app import TopApp
from dbpool.top.client import Monitor

SIZE, WIDTH = (118, 34), 1060
DAILY, CROWDED = 45, 14  # seconds


async def drawn(url: str, orders: Any) -> str:
    """Return the screen as SVG, after daily work and a crowd."""
    app = TopApp(Monitor(url))
    async with app.run_test(size=SIZE) as pilot:
        await asyncio.sleep(DAILY)
        with working(import_stock, orders, 9, "import"):
            await asyncio.sleep(CROWDED)
            await pilot.press("s")
            await pilot.pause(2)
            picture = app.export_screenshot()
    return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # those are fetched from elsewhere


def main(folder: Path) -> None:
    programs, _ = choose_for_clusters("auto")
    with installed(programs.binaries) as installation, new_cluster(installation) as cluster:
        dsn = cluster.start().tcp_dsn
        options = {"leak_threshold": 10.0, "timeout": 30.0, "trace": True, "connect_timeout": 5.0}
        orders = ThreadedConnectionPool(2, 8, dsn, config={"name": "orders", **options})
        reports = ThreadedConnectionPool(1, 4, dsn, config={"name": "reports", "max_uses": 50})
        with orders, reports, pool_monitor(0) as monitor, working(checkout, orders, 7, "web"), \
                working(daily_report, reports, 2, "report"):  # fmt: skip
            picture = asyncio.run(drawn(monitor.url, orders))
    page = folder / "top.svg"
    page.write_text(picture, encoding="utf-8")
    with started() as chromium:
        width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture)[0])
        viewer = chromium.new_page(viewport={"width": WIDTH, "height": round(WIDTH * height / width)})
        viewer.goto(page.resolve().as_uri())
        viewer.screenshot(path=folder / "top.png")
    page.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
