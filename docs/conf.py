"""How Sphinx makes the site: `make docs`. Both languages are one build; the state diagram is drawn anew each time."""

from __future__ import annotations

import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import diagram  # noqa: E402

_metadata = ConfigParser()
_metadata.read(HERE.parent / "setup.cfg", encoding="utf-8")

project = "dbpool"
release = version = _metadata["metadata"]["version"]
author = _metadata["metadata"]["author"]

extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"dbpool {release}"
html_copy_source = False
html_use_index = False
html_show_sphinx = False

diagram.write()


def tell_the_language(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Have browsers choose fonts, hyphens and a voice for Chinese."""
    if page.startswith("zh/"):
        context["language"] = "zh-CN"


def setup(app: Any) -> None:
    """Be called by Sphinx."""
    app.connect("html-page-context", tell_the_language)
