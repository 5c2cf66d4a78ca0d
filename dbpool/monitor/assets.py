"""Assets: the page and what belongs to it: a fixed list of files, read once."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dbpool.monitor.messages import Response, answer, refusal

FOLDER = Path(__file__).parent / "static"
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
NO_PAGE = '<!doctype html><meta charset="utf-8"><title>dbpool</title><p>No page is installed: <a href="json">json</a>'
LOGIN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>dbpool</title><link rel="icon" href="data:,"><link rel="stylesheet" href="static/style.css">
<script src="static/theme.js"></script></head>
<body class="login"><form class="panel" method="post" action="login"><h1>dbpool</h1>
<label for="token">Token<input id="token" name="token" type="password" required autofocus
autocomplete="current-password"></label>{said}<button>Log in</button></form></body></html>
"""


class Asset(NamedTuple):
    """A file."""

    body: bytes
    kind: str
    tag: str


@lru_cache(maxsize=1)
def _all() -> dict[str, Asset]:
    found = {}
    for path in sorted(FOLDER.glob("*")) if FOLDER.is_dir() else ():
        if path.suffix in KINDS:
            body = path.read_bytes()
            found[path.name] = Asset(body, KINDS[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


@lru_cache(maxsize=1)
def page() -> bytes:
    """Return the page."""
    path = FOLDER / "page.html"
    return path.read_bytes() if path.exists() else NO_PAGE.encode()


def login_page(failed: bool = False) -> str:
    """Return the page that asks for the token."""
    return LOGIN.format(said='<p role="alert">That is not the token.</p>' if failed else "")


def names() -> frozenset[str]:
    """Return the names that there are."""
    return frozenset(_all())


def served(name: str, known: str) -> Response:
    """Return the asset called *name*; nothing of it to who has it in mind, by its tag."""
    found = _all().get(name)
    if found is None:
        return refusal(404, "there is nothing here")
    tag = ("ETag", found.tag)
    if known and found.tag in known:
        return answer(304, b"", found.kind, tag, cache="no-cache")
    return answer(200, found.body, found.kind, tag, cache="no-cache")
