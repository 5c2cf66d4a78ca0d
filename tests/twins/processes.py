"""Programs in processes of their own, where drivers can be hidden or broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def python(*arguments: str, hide: str = "", path: Any = None, **env: str) -> tuple[int, str, str]:
    """Run ``python -W error ARGUMENTS``; return its status, what it printed, and what it complained of.

    *hide*: names of packages that are not found then, with commas between; *path*: a folder for sys.path.
    """
    folders = [HERE / "hiding", ROOT, *([] if path is None else [path]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PG", "KINGBASE"))},
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "PYTHONIOENCODING": "utf-8",
        "DBPOOL_TEST_HIDE": hide,
        **env,
    }
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", env=environment, cwd=ROOT, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr
