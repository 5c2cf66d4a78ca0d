"""Every sample of the two READMEs runs as it stands, and both tell the same, truly."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import import_or_skip

import dbpool

ROOT = Path(__file__).resolve().parent.parent
ENGLISH, CHINESE = PAGES = ("README.md", "README.zh-CN.md")
DSN_OF_THE_SAMPLES = "host=db.example.com dbname=shop user=web"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)


def prose(page: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def rows(page: str) -> list[list[str]]:
    """Return the rows of all tables whose first cell is one word of code, as lists of cells."""
    lines = re.findall(r"^\| `\w+` \|.*$", prose(page), re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


SAMPLES = [
    pytest.param(code, id=f"{page}-{number}")
    for page in PAGES
    for number, code in enumerate(blocks(page, "python"), start=1)
]


def run_in(folder: Path, code: str, *through: str) -> None:
    """Run *code* in *folder*, in a process of its own; warnings are errors. *through*: as ``python THROUGH FILE``."""
    program = folder / "sample.py"
    program.write_text(code, encoding="utf-8")
    command = [sys.executable, "-W", "error", *through, program.name]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr


@pytest.mark.parametrize("code", SAMPLES)
def test_sample_runs_in_an_empty_folder(code, tmp_path, request):
    if DSN_OF_THE_SAMPLES in code:
        import_or_skip("psycopg2")
        dsn = request.getfixturevalue("server").dsn
        code = code.replace(f'"{DSN_OF_THE_SAMPLES}"', repr(dsn))
    run_in(tmp_path, code)


def test_each_page_has_samples():
    assert all(len(blocks(page, "python")) >= 5 for page in PAGES)


def test_both_pages_have_the_same_samples_but_for_the_comments():
    english, chinese = ([ast.dump(ast.parse(code)) for code in blocks(page, "python")] for page in PAGES)
    assert chinese == english


def test_both_pages_have_the_same_commands():
    assert blocks(CHINESE, "sh") == blocks(ENGLISH, "sh")


def test_both_pages_have_the_same_headings_and_tables():
    english, chinese = (re.findall(r"^#+(?= )", prose(page), re.MULTILINE) for page in PAGES)
    assert chinese == english
    assert [cells[0] for cells in rows(CHINESE)] == [cells[0] for cells in rows(ENGLISH)]
    for mark in ("\n- ", "\n| "):
        assert prose(CHINESE).count(mark) == prose(ENGLISH).count(mark)


@pytest.mark.parametrize("page", PAGES)
def test_the_table_of_options_is_complete_and_its_defaults_are_true(page):
    options = inspect.signature(dbpool.PoolConfig).parameters
    table = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(page)}
    assert {name: table.get(name) for name in options} == {
        name: repr(option.default) for name, option in options.items()
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_public_name_is_explained(page):
    text = prose(page)
    assert [name for name in dbpool.__all__ if f"`{name}" not in text] == []
