"""The mutants themselves: which are made and which are not, how they are known again, and what becomes of them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytest.importorskip("cosmic_ray", reason="cosmic-ray makes the mutants: install the extra mutants")

from .equivalents import parsed
from .making import distinct, mutants, operators
from .running import Fate, Workshop, wait
from .stages import Stage

SOURCE = '''
"""What it is."""
from __future__ import annotations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class Counter:
    """Counts."""

    __slots__ = ("most", "seen")
    most: int | None

    def count(self, seen: int | None = None) -> bool | None:
        """Count."""
        self.seen += 1  # one more
        if seen is not None:
            self.seen += 1
        return self.seen >= 5
'''


@pytest.fixture(scope="module")
def made():
    return distinct(SOURCE, [mutant for name in operators() for mutant in mutants("counter.py", SOURCE, name)])


def test_what_is_computed_is_changed_and_each_statement_left_out_once(made):
    becomes = {mutant.becomes for mutant in made if mutant.was == "return self.seen >= 5"}
    assert becomes >= {"return self.seen > 5", "return self.seen == 5", "return self.seen >= 6", "pass"}
    assert [mutant.nth for mutant in made if mutant.was == "self.seen += 1" and mutant.becomes == "pass"] == [1, 2]


def test_what_has_no_meaning_when_it_runs_is_not_changed(made):
    assert all(mutant.where == "Counter.count" for mutant in made)
    assert not any("|" in mutant.becomes.partition("def")[2] for mutant in made)


def test_each_is_another_program_and_known_by_its_key(made):
    assert len({mutant.source for mutant in made}) == len({mutant.key for mutant in made}) == len(made)
    assert SOURCE not in {mutant.source for mutant in made}


def test_what_the_compiler_warns_of_is_none_and_no_comment_is_part_of_a_key(made):
    assert not any(" is 5" in mutant.becomes for mutant in made)
    assert not any("one more" in mutant.was + mutant.becomes for mutant in made)


def test_equivalent_ones_are_listed_with_a_reason():
    text = "# why\n\na.py f\n- x\n+ y\n- x\n+ z\nNo\nmatter.\n\nb.py C.g #2\n- 1\n+ 2\nNone.\n"
    first, second = parsed(text)
    assert first.keys == (("a.py", "f", "x", "y", 1), ("a.py", "f", "x", "z", 1))
    assert (first.reason, second.keys) == ("No matter.", (("b.py", "C.g", "1", "2", 2),))


@pytest.mark.parametrize("text", ["a.py f\n- x\n+ y\n", "a.py f\n- x\nNo.", "a.py f\nNo."])
def test_one_that_is_listed_without_a_reason_or_half_is_refused(text):
    with pytest.raises(ValueError, match="not pairs"):
        parsed(text)


TEST = """
import dbpool, os, time

def test_it():
    assert dbpool.count(2) == 3

def test_it_ends():
    while dbpool.count(0) != 1:
        pass
"""


@pytest.fixture
def workshop(tmp_path):
    """A copy of a project with one function and two tests."""
    for folder in ("dbpool", "tests"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    (tmp_path / "root" / "dbpool" / "__init__.py").write_text("def count(n):\n    return n + 1\n")
    (tmp_path / "root" / "tests" / "test_it.py").write_text(TEST)
    (tmp_path / "root" / "setup.cfg").write_text("[tool:pytest]\n")
    (tmp_path / "root" / "pyproject.toml").write_text("")
    return Workshop(tmp_path / "root", tmp_path / "home")


def test_each_is_run_and_its_fate_told(workshop, tmp_path):
    """In a process that has not imported the pool, as the target's has not."""
    program = f"""
import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from mutants.making import Mutant
from mutants.running import Workshop
from mutants.stages import Stage
shop, stage = Workshop(Path({str(workshop.home)!r}), Path({str(tmp_path / "other")!r})), Stage("unit", ("tests",), 60.0)
seconds = {{stage: shop.measure(stage)}}
for text in ("n + 2", "n + 1 if n else 0", "1 + n", "n +"):
    mutant = Mutant("dbpool/__init__.py", "count", "", "", 1, 2, f"def count(n):\\n    return {{text}}\\n")
    fate = shop.try_out(mutant, [Stage("unit", ("tests",), 6.0)], {{Stage("unit", ("tests",), 6.0): 0.1}})
    print(fate.stage or "survived", fate.test)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == [
        "unit tests/test_it.py::test_it",
        "unit tests/test_it.py::test_it_ends",
        "survived ",
        "unit tests/test_it.py",
    ]
    assert (workshop.home / "dbpool" / "__init__.py").read_text() == "def count(n):\n    return n + 1\n"


@pytest.mark.parametrize("stopped", [False, True])
def test_one_that_was_stopped_is_told_from_one_that_hangs(stopped):
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    if stopped:
        child.send_signal(signal.SIGSTOP)
    assert wait(child.pid, 2.0) == (None, stopped)
    child.wait()


def test_killed_is_who_met_a_stage_that_failed(made):
    assert Fate(made[0], "unit", "test_it").killed
    assert not Fate(made[0]).killed
    assert Stage("unit", (), 1.0).waits is False
