"""Scripts in processes of their own: for what befalls a process as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dbpool

ROOT = Path(dbpool.__file__).resolve().parents[1]
PATIENCE = 50.0  # seconds


def script_of(folder: Path, text: str, cluster: Any, **words: Any) -> Path:
    """Write a script, in which {dsn!r} and other *words* stand for what they say; return its file."""
    file = folder / "script.py"
    file.write_text(text.format(dsn=cluster.dsn, **words), encoding="utf-8")
    return file


def begin(script: Path, **pipes: Any) -> subprocess.Popen[str]:
    """Start a script that finds the package. Coverage is not measured: it takes descriptors, threads and rights."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environ["PYTHONPATH"] = path
    command = [sys.executable, str(script)]
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=script.parent, env=environ, **pipes
    )


def run(script: Path) -> str:
    """Run a script to its end, which must be a good one without complaints; return what it has printed."""
    return run_timed(script)[0]


def run_timed(script: Path) -> tuple[str, float]:
    """The same, and when it ended, by the clock that all processes share."""
    with begin(script) as process:
        try:
            printed, complaints = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        ended = time.monotonic()
    assert (process.returncode, complaints) == (0, "")
    return printed, ended
