"""The page's files: how much they weigh, where the vendored one comes from, and that all is said in Chinese."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import dbpool.monitor
from dbpool.verdict import CODES

STATIC = Path(dbpool.monitor.__file__).parent / "static"
VENDORED = re.compile(r"^([0-9a-f]{64})  (\S+)$", re.MULTILINE)
OURS = sorted(path for path in STATIC.glob("*.js") if not path.name.startswith("uPlot"))
MOST = 100_000  # bytes


def read(name):
    return (STATIC / name).read_text(encoding="utf-8")


def test_the_whole_page_weighs_less_than_100_000_bytes():
    served = [path for path in STATIC.iterdir() if path.suffix in (".html", ".css", ".js")]
    assert sum(path.stat().st_size for path in served) < MOST


def test_what_is_vendored_is_what_came():
    listed = dict(map(reversed, VENDORED.findall(read("uPlot.txt"))))
    assert set(listed) == {path.name for path in STATIC.glob("uPlot.*")} - {"uPlot.txt"}
    for name, checksum in listed.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == checksum, name


def test_it_says_where_it_came_from_and_which_version_it_is():
    assert "https://registry.npmjs.org/uplot/-/uplot-1.6.32.tgz" in read("uPlot.txt")
    assert read("uPlot.iife.min.js").startswith("/*! https://github.com/leeoniya/uPlot (v1.6.32) */")
    assert read("uPlot.LICENSE").startswith("The MIT License (MIT)")


def test_all_that_is_said_in_english_is_said_in_chinese():
    chinese = set(re.findall(r'^  "(.+?)":', read("text.js"), re.MULTILINE))
    said = {text for path in OURS for text in re.findall(r'\bt\("([^"]+)"', path.read_text(encoding="utf-8"))}
    assert said - chinese == set()


def test_every_verdict_has_its_word_and_its_colour():
    words = re.findall(r'^  (\w+): \["[^"]+", "[^"]+",\s+"[^"]+", "[^"]+"\]', read("text.js"), re.MULTILINE)
    assert set(words) == {*CODES, "unknown"}
    assert all(f"[data-code={code}]" in read("style.css") for code in set(CODES) - {"closed"})  # grey


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_is_ever_set_as_markup(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", text)


def test_the_page_loads_nothing_from_elsewhere():
    ours = [read("page.html"), read("style.css"), *(path.read_text(encoding="utf-8") for path in OURS)]
    assert {address for text in ours for address in re.findall(r"https?://[^\s\"'<>`]+", text)} == {
        "http://www.w3.org/2000/svg"
    }
    assert not re.search(r"<script>|<style|\son\w+=|\sstyle=", read("page.html"))
