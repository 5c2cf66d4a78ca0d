"""Runs the command, in this process, and reads what it printed."""

from __future__ import annotations

import json
from typing import Any, Callable, NamedTuple

import pytest
from drivers.conftest import name_socket_for_kingbase
from servers import import_or_skip

from dbpool import cli

POSTGRES = ("psycopg2", "psycopg", "ksycopg2")


class Said(NamedTuple):
    """How a check ended, what it printed, what it complained of."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def codes(self) -> list[str]:
        return [finding["code"] for finding in self.json["findings"]]

    @property
    def facts(self) -> dict[str, Any]:
        return self.json["facts"]


@pytest.fixture
def check(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """`check(dsn, "--json")`."""
    monkeypatch.delenv(cli.CHECK_DSN, raising=False)

    def check(*arguments: Any) -> Said:
        capfd.readouterr()
        try:
            status = cli.main(["check", *map(str, arguments)])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Said(status, *capfd.readouterr())

    return check


@pytest.fixture(params=POSTGRES)
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver that speaks to PostgreSQL."""
    import_or_skip(request.param)
    return str(request.param)


@pytest.fixture
def dsn(server: Any) -> str:
    """The server that the tests share."""
    name_socket_for_kingbase(server.dsn)
    return str(server.dsn)
