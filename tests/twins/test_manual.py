"""examples/ksycopg2_manual.py under ``python -m dbpool run``: over ksycopg2, and where there is none."""

from __future__ import annotations

import pytest
from servers import import_or_skip

from .processes import python

PRINTED = """\
fetchone: (1, '张三')
fetchall: [(2, '李四'), (3, '王五')]
SimpleConnectionPool (1, '张三')
AbstractConnectionPool (1, '张三')
PersistentConnectionPool (1, '张三')
with a dict (1, '张三')
kbcode: 42P01
"""


@pytest.fixture
def address(tcp):
    """The server, in the environment variables that the script reads."""
    words = dict(word.split("=", 1) for word in tcp.tcp_dsn.split())
    return {
        f"KINGBASE_{name}": words[word]
        for name, word in (
            ("HOST", "host"),
            ("PORT", "port"),
            ("USER", "user"),
            ("PASSWORD", "password"),
            ("DATABASE", "dbname"),
        )
    }


@pytest.mark.parametrize("strict", [(), ("--strict",)], ids=["", "strict"])
@pytest.mark.parametrize("hide", ["", "ksycopg2"], ids=["ksycopg2", "shim"])
def test_the_manuals_script_runs_unchanged(hide, strict, address):
    if not hide:
        import_or_skip("ksycopg2")
    ended = python("-m", "dbpool", "run", *strict, "examples/ksycopg2_manual.py", hide=hide, **address)
    assert ended == (0, PRINTED, "")
