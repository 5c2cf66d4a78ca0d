"""Every case on psycopg2.pool first, then on its fork and on the twins: what differs is in the table, or a bug."""

from __future__ import annotations

import pytest
from servers import import_or_skip

from . import attributes, leasing, making  # noqa: F401  (they register their cases)
from .cases import CASES
from .differences import BUG_FIX, DIFFERENCES, ON_PURPOSE
from .subjects import REFERENCE, SUBJECTS, Subject

FORK = "ksycopg2.pool"
TWINS = ["dbpool.psycopg2", "dbpool.ksycopg2"]
LIKE = [f"{twin} like psycopg2" for twin in TWINS]
EACH = [(case, kind) for case in CASES.values() for kind in case.kinds]
EACH_OF_POOLS = [(case, kind) for case, kind in EACH if not case.of_names]
references = {}  # (case, kind) -> its outcome on psycopg2.pool


def named(cases):
    return [pytest.param(case, kind, id=f"{case.name}-{kind[:-14]}") for case, kind in cases]


def tried(case, kind, name, dsn):
    """Return the outcome of *case*."""
    with pytest.MonkeyPatch.context() as patch:
        subject = Subject(name, kind, dsn, patch)
        try:
            return case.outcome(subject)
        finally:
            subject.close()


def reference(case, kind, dsn):
    if (case, kind) not in references:
        references[case, kind] = tried(case, kind, REFERENCE, dsn)
    return references[case, kind]


def difference(case, kind):
    found = DIFFERENCES.get(case.name)
    return found if found is not None and kind in found.classes else None


@pytest.mark.parametrize(("case", "kind"), named(EACH))
def test_the_fork_does_as_psycopg2(case, kind, server):
    assert tried(case, kind, FORK, server.dsn) == reference(case, kind, server.dsn)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize(("case", "kind"), named(EACH))
def test_the_twin_does_as_psycopg2_but_for_the_table(case, kind, name, server):
    expected, outcome = reference(case, kind, server.dsn), tried(case, kind, name, server.dsn)
    entry = difference(case, kind)
    if entry is None or entry.only_like_psycopg2:
        assert outcome == expected
    else:
        assert outcome != expected, f"no longer differs: strike {case.name} from DIFFERENCES"


@pytest.mark.parametrize("name", LIKE)
@pytest.mark.parametrize(("case", "kind"), named(EACH_OF_POOLS))
def test_like_psycopg2_only_bugs_are_mended(case, kind, name, server):
    expected, outcome = reference(case, kind, server.dsn), tried(case, kind, name, server.dsn)
    entry = difference(case, kind)
    if entry is None or entry.kind == ON_PURPOSE:
        assert outcome == expected
    else:
        assert outcome != expected, f"no longer differs: strike {case.name} from DIFFERENCES"


def test_the_table_names_cases_and_gives_reasons():
    for name, entry in DIFFERENCES.items():
        assert name in CASES
        assert entry.kind in (BUG_FIX, ON_PURPOSE)
        assert entry.reason
        assert set(entry.classes) <= set(CASES[name].kinds)


def test_the_suite_notices_what_is_not_in_the_table(server, monkeypatch):
    import_or_skip("psycopg2")
    case, kind = CASES["last_in_first_out"], "SimpleConnectionPool"
    monkeypatch.setattr("dbpool.psycopg2._Psycopg2._defaults", SUBJECTS[LIKE[0]][2].replace(idle_order="fifo"))
    assert tried(case, kind, "dbpool.psycopg2", server.dsn) != reference(case, kind, server.dsn)
