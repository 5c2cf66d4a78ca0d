"""The benchmarks: what is committed, the READMEs and the pictures are of one run; `make bench-check` can fail."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

import pytest
from test_samples import ROOT

from benchmarks import bench, check, figures, readme, results, words
from benchmarks.results import Series, Workload
from benchmarks.work import contention, hits
from dbpool import ThreadedConnectionPool

if TYPE_CHECKING:
    from benchmarks.results import Results

CASE = hits.one_thread("psycopg2")
MINE, THEIRS = "dbpool twin Threaded", "psycopg2.pool Threaded"


def measured(ours: float, theirs: float = 1000.0) -> Results:
    """Return what a run of the hit path might have found."""
    tape = Workload("hits", "")
    tape.add(CASE, hits.CPU, "ns", {MINE: [ours] * 5, THEIRS: [theirs] * 5})
    return {"hits": tape}


@pytest.mark.parametrize(("file", "language", "write"), readme.pages())
def test_the_figures_in_the_pages_are_those_of_the_committed_run(file, language, write):
    page = file.read_text(encoding="utf-8")
    assert readme.BEGIN in page, "the marks between which they stand are gone"
    assert page == readme.filled(page, write(*results.load(), language)), "run python -m benchmarks.readme"


def test_every_figure_has_chinese_words():
    assert set(words.FIGURES) == {figure.what for figure in figures.FIGURES}


def test_the_readme_shows_every_picture_that_there_is():
    drawn = {path.stem.removeprefix("bench-") for path in (ROOT / "docs" / "images").glob("bench-*.svg")}
    assert drawn == set(readme.PICTURES)


def test_the_committed_run_tells_its_figures_and_its_machine():
    found, about = results.load()
    assert [vars(line) for line in figures.lines(found)] == about["figures"]
    assert about["machine"]["versions"]["psycopg2-binary"]


def test_what_is_saved_is_what_is_loaded(tmp_path):
    results.save(measured(600.0), {"machine": {}}, tmp_path)
    found, about = results.load(tmp_path)
    assert found == measured(600.0)
    assert about == {"machine": {}}


def test_a_regression_of_a_fifth_fails_and_less_does_not():
    for ours, failed in ((600.0, False), (710.0, False), (730.0, True), (500.0, False)):
        (compared,) = check.compare(measured(600.0), [measured(ours)], ["hits"])
        assert compared.failed is failed, ours


def test_both_sides_slower_is_no_regression():
    (compared,) = check.compare(measured(600.0), [measured(1800.0, 3000.0)], ["hits"])
    assert not compared.failed


def test_the_best_of_several_attempts_counts():
    (compared,) = check.compare(measured(600.0), [measured(900.0), measured(610.0)], ["hits"])
    assert not compared.failed


def test_a_ratio_that_is_no_longer_measured_fails():
    (compared,) = check.compare(measured(600.0), [{"hits": Workload("hits", "")}], ["hits"])
    assert compared.failed


def test_where_more_is_better_less_is_a_regression():
    cell = contention.QUICK[2].name

    def rates(ours: float) -> Results:
        tape = Workload("contention", "")
        samples = {"dbpool Threaded": [ours] * 3, "psycopg_pool": [100.0] * 3}
        tape.add(cell, contention.RATE, "1/s", samples, lower=False)
        return {"contention": tape}

    (compared,) = check.compare(rates(100.0), [rates(75.0)], ["contention"])
    assert compared.failed
    (compared,) = check.compare(rates(100.0), [rates(90.0)], ["contention"])
    assert not compared.failed


class OnFakes(bench.Bench):
    """A run that needs no server: hits on fakes, of a few rounds."""

    def pooling(self, kind, fits=lambda peer: True):
        names = ("dbpool Threaded", "psycopg2.pool Threaded")
        return [peer for peer in super().pooling(kind, fits) if kind == "fake" and peer.name in names]


def test_a_slower_getconn_is_found_by_measuring(monkeypatch):
    pytest.importorskip("psycopg2")
    monkeypatch.setattr(hits, "ROUNDS", {"fake": 40})
    monkeypatch.setattr(hits, "MANY", ())
    monkeypatch.setattr(bench, "QUICK", frozenset(("dbpool Threaded", "psycopg2.pool Threaded")))
    committed = copy.deepcopy(measure())
    quick = ThreadedConnectionPool.getconn

    def slow(self, *args):
        for _ in range(50):
            time.monotonic()
        return quick(self, *args)

    monkeypatch.setattr(ThreadedConnectionPool, "getconn", slow)
    assert any(each.failed for each in check.measured(OnFakes(quick=True), committed, ["hits"]))


def measure() -> Results:
    """Measure hits once."""
    run = OnFakes(quick=True)
    run.run("hits", hits.TITLE, hits.run)
    return run.results


def test_jains_index():
    assert contention.jain([5, 5, 5, 5]) == 1
    assert contention.jain([20, 0, 0, 0]) == 0.25


def test_ratios_are_taken_round_by_round():
    series = Series("", "", "", samples={"mine": [1.0, 10.0, 3.0], "theirs": [2.0, 20.0, 6.0]})
    assert series.ratio("mine", "theirs") == 0.5


def test_a_peer_that_is_not_installed_is_left_out_with_a_note():
    from benchmarks.peers import SYNC, installed

    class Missing(type(SYNC[0])):
        needs = ("no_such_pool_at_all", "no_such_package.pool")

    there, notes = installed([Missing("Threaded")])
    assert there == []
    assert notes[0].endswith("left out, not installed: no_such_pool_at_all, no_such_package.pool")
