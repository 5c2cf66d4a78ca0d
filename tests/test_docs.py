"""The pages in docs/ say the same in both languages, and what they say is so: samples, options, errors, links."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from drivers.conftest import name_socket_for_kingbase
from servers import import_or_skip
from test_samples import ROOT, blocks, prose, read, rows, run_in

import dbpool
from dbpool import cli, errors
from dbpool.entry import Status

DOCS = ROOT / "docs"
NAMES = sorted(path.name for path in (DOCS / "en").glob("*.md"))
ENGLISH, CHINESE = ([f"docs/{language}/{name}" for name in NAMES] for language in ("en", "zh"))
PAIRS = [pytest.param(*pair, id=name) for name, *pair in zip(NAMES, ENGLISH, CHINESE)]
PAGES = ["docs/index.md", *ENGLISH, *CHINESE]

# What stands in the samples for a server, and what the test puts in its place.
SETTINGS = '{"host": "db.example.com", "port": "54321", "database": "TEST", "user": "SYSTEM", "password": "secret"}'
STAND_INS = {
    '"host=db.example.com dbname=shop user=web"': lambda dsn, settings: repr(dsn),
    SETTINGS: lambda dsn, settings: repr(_with_database(settings)),
    '"postgresql://web@db.example.com/shop"': lambda dsn, settings: repr(uri("postgresql", settings)),
    '"kingbase://SYSTEM:secret@db.example.com:54321/TEST"': lambda dsn, settings: repr(uri("kingbase", settings)),
}
MYSQL = '{"host": "db.example.com", "user": "web", "password": "secret", "database": "shop"}'
# What a sample may need and a machine may lack. All else that a sample imports must be there.
OPTIONAL = (
    "psycopg2", "ksycopg2", "psycopg", "asyncpg", "aiosqlite", "pymysql", "MySQLdb", "sqlalchemy", "pandas",
    "prometheus_client", "flask", "fastapi",
)  # fmt: skip


def uri(scheme: str, settings: dict[str, str]) -> str:
    """Return a URI for the same server; its host may be the folder of a Unix socket."""
    from urllib.parse import quote, urlencode

    rest = {name: value for name, value in settings.items() if name != "dbname"}
    return f"{scheme}:///{quote(settings['dbname'])}?{urlencode(rest, quote_via=quote)}"


def _with_database(settings: dict[str, str]) -> dict[str, str]:
    return {"database" if name == "dbname" else name: value for name, value in settings.items()}


def samples(page: str) -> list[str]:
    return blocks(page, "python")


def through(code: str) -> list[str]:
    """Return what is put between ``python`` and the script, if the first line of a sample says how it is run."""
    said = re.match(r"# python (-m dbpool run(?: --strict)?) \w+\.py\n", code)
    return said.group(1).split() if said else []


def imported(code: str) -> set[str]:
    """Return the modules that a sample imports when it runs, not those inside its functions."""
    names: set[str] = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def need(code: str) -> None:
    """Skip the test if a module that the sample may lack is not installed."""
    modules = imported(code)
    if through(code):
        modules = {"psycopg2" if name.startswith("ksycopg2") else name for name in modules}  # the shim will do
    if "dbpool.psycopg2" in modules or "dbpool.ksycopg2" in modules or "host=db.example.com" in code:
        modules.add("psycopg2")
    for name in sorted(modules):
        if name.partition(".")[0] in OPTIONAL:
            import_or_skip(name)


def on_a_server(code: str, dsn: str) -> str:
    """Return a sample with the test's server in it."""
    from psycopg2.extensions import parse_dsn

    name_socket_for_kingbase(dsn)
    settings = parse_dsn(dsn)
    for literal, made in STAND_INS.items():
        code = code.replace(literal, made(dsn, settings))
    return code


SAMPLES = [
    pytest.param(code, id=f"{page[5:-3]}-{number}")
    for page in PAGES
    for number, code in enumerate(samples(page), start=1)
]


@pytest.mark.parametrize("code", SAMPLES)
def test_sample_runs_in_an_empty_folder(code, tmp_path, request):
    need(code)
    if any(literal in code for literal in STAND_INS):
        code = on_a_server(code, request.getfixturevalue("server").dsn)
    if MYSQL in code:
        code = code.replace(MYSQL, repr({"password": "", **request.getfixturevalue("mariadb")}))
    assert "db.example.com" not in code
    run_in(tmp_path, code, *through(code))


def test_there_are_pages_in_both_languages():
    assert len(NAMES) >= 15
    assert sorted(path.name for path in (DOCS / "zh").glob("*.md")) == NAMES


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_pages_have_the_same_samples_but_for_the_comments(english, chinese):
    trees = [[ast.dump(ast.parse(code)) for code in samples(page)] for page in (english, chinese)]
    assert trees[1] == trees[0]
    assert [through(code) for code in samples(chinese)] == [through(code) for code in samples(english)]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_pages_have_the_same_commands_and_inclusions(english, chinese):
    for language in ("sh", r"\{literalinclude\}[^\n]*", r"\{toctree\}"):
        assert blocks(chinese, language) == blocks(english, language)


def table_shapes(page: str) -> list[int]:
    """Return the number of cells in each line of each table."""
    return [line.count("|") for line in prose(page).splitlines() if line.startswith("|")]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_pages_have_the_same_headings_lists_and_tables(english, chinese):
    assert [level for level, _ in headings(chinese)] == [level for level, _ in headings(english)]
    assert table_shapes(chinese) == table_shapes(english)
    assert [cells[0] for cells in rows(chinese)] == [cells[0] for cells in rows(english)]
    assert prose(chinese).count("\n- ") == prose(english).count("\n- ")
    assert re.findall(r"(?m)^\d+\. ", prose(chinese)) == re.findall(r"(?m)^\d+\. ", prose(english))


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_pages_lead_to_the_same_pages_and_to_each_other(english, chinese):
    here, there = ([target.partition("#")[0] for target in links(page)] for page in (english, chinese))
    name = Path(english).name
    assert (here.pop(0), there.pop(0)) == (f"../zh/{name}", f"../en/{name}")
    assert sorted(there) == sorted(here)


@pytest.mark.parametrize("page", CHINESE)
def test_chinese_sentences_have_chinese_punctuation(page):
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", prose(page))
    assert re.findall(r"[\u4e00-\u9fff][,;:!?()]|[,;:!?(] ?[\u4e00-\u9fff]|[\u4e00-\u9fff]\.(?!\w)", text) == []


# Links. Sphinx looks at them, too; this takes no Sphinx.


def headings(page: str) -> list[tuple[str, str]]:
    return re.findall(r"(?m)^(#+) (.*)$", prose(page))


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^()\s]+)\)", prose(page))


def anchors(page: str) -> list[str]:
    """Return the ids of a page's headings, made as on GitHub."""
    slugs = [re.sub(r"[^\w\- ]", "", title.lower().strip()).replace(" ", "-") for _, title in headings(page)]
    assert len(set(slugs)) == len(slugs), page
    return slugs


@pytest.mark.parametrize("page", [*PAGES, "README.md", "README.zh-CN.md"])
def test_every_link_leads_somewhere(page):
    dead = []
    for link in links(page):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            found = target.resolve().relative_to(ROOT)
            if not target.is_file() or (anchor and anchor not in anchors(found.as_posix())):
                dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES)
def test_every_included_file_is_there(page):
    for path in re.findall(r"(?m)^```\{literalinclude\} (\S+)$", read(page)):
        assert ((ROOT / page).parent / path).is_file()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_is_in_the_contents(language):
    index = f"docs/{language}/index.md"
    (contents,) = blocks(index, r"\{toctree\}")
    listed = [f"{name}.md" for name in contents.split() if not name.startswith(":")]
    assert sorted([*listed, "index.md"]) == NAMES
    assert [link for link in links(index) if not link.startswith("../")] == listed


# What the pages say.


@pytest.mark.parametrize("page", ["docs/en/options.md", "docs/zh/options.md"])
def test_the_options_are_those_of_pool_config(page):
    parameters = inspect.signature(dbpool.PoolConfig).parameters
    table = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(page)}
    assert table == {name: repr(option.default) for name, option in parameters.items()}


@pytest.mark.parametrize("page", ["docs/en/from-others.md", "docs/zh/from-others.md"])
def test_what_other_pools_are_told_is_said_here_with_options_that_there_are(page):
    """In the second column `name=value` is ours: the option is there, and takes the value."""
    arguments = {"connect", "close", "ping", "total", "maxconn", "minconn"}
    lines = [line.split("|")[2] for line in prose(page).splitlines() if line.startswith("| ") and "---" not in line]
    said = [pair for line in lines for pair in re.findall(r"`(\w+)=([^`]*)`", line)]
    options = inspect.signature(dbpool.PoolConfig).parameters
    assert [name for name, _ in said if name not in {*options, *arguments}] == []
    given = [(name, value) for name, value in said if name in options and value]
    for name, value in given:
        dbpool.PoolConfig(**{name: ast.literal_eval(value)})
    assert len(given) >= 50


@pytest.mark.parametrize("page", ["docs/en/errors.md", "docs/zh/errors.md"])
def test_the_errors_are_those_of_the_package(page):
    table = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(page)}
    classes = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)]
    assert table == {kind.__name__: kind.__base__.__name__ for kind in classes}


@pytest.mark.parametrize("page", PAGES)
def test_every_name_of_a_pool_exists(page):
    kinds = {"asyncio": dbpool.AsyncConnectionPool, "endpoints": dbpool.EndpointPool}
    pool = kinds.get(Path(page).stem, dbpool.PersistentConnectionPool)
    said = re.findall(r"`(?:await )?pool\.(\w+)", prose(page))
    assert [name for name in said if not hasattr(pool, name)] == []
    stats = re.findall(r"`stats\.(\w+)`", prose(page))
    assert [name for name in stats if not hasattr(dbpool.PoolStats, name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_command_lines_are_understood(page, capsys):
    for line in "".join(blocks(page, "sh")).splitlines():
        assert "pip install dbpool" not in line
        command = re.match(r"python -m dbpool (\w+)(?: (--\w+))?", line)
        if command:
            with pytest.raises(SystemExit) as ended:
                cli.main([command.group(1), "--help"])
            assert ended.value.code == 0
            assert (command.group(2) or "") in capsys.readouterr().out
        for target in re.findall(r"^make (\w+)", line):
            assert re.search(rf"(?m)^{target}:", read("Makefile"))


def test_the_names_of_the_twins_are_true():
    for name in ("psycopg2", "ksycopg2"):
        import_or_skip("psycopg2")
        twin = importlib.import_module(f"dbpool.{name}")
        said = "SimpleConnectionPool ThreadedConnectionPool AbstractConnectionPool PersistentConnectionPool PoolError"
        assert [each for each in said.split() if not hasattr(twin, each)] == []
        pool = twin.ThreadedConnectionPool(0, 1)
        assert pool._config == dbpool.PoolConfig(reset="rollback")


# The diagram and the site.


def diagram():
    """Return docs/diagram.py as a module."""
    spec = importlib.util.spec_from_file_location("diagram", DOCS / "diagram.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_diagram_shows_the_states_as_they_are():
    svg = diagram().draw()
    assert (DOCS / "states.svg").read_text(encoding="utf-8") == svg, "run `python docs/diagram.py`"
    assert re.findall(r">(\w+)</text>", svg) == [state.name for state in Status]
    assert svg.count("<polygon ") == sum(len(state.successors) for state in Status)


def test_the_site_is_built_without_a_warning(tmp_path):
    for name in ("sphinx", "myst_parser", "furo"):
        import_or_skip(name)
    before = set(DOCS.rglob("*"))
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", tmp_path / "doctrees"]
    built = subprocess.run(
        [*command, DOCS, tmp_path / "html"], capture_output=True, text=True, check=False, timeout=100
    )
    assert (built.returncode, built.stderr) == (0, "")
    assert '<html class="no-js" lang="zh-CN"' in (tmp_path / "html/zh/index.html").read_text(encoding="utf-8")
    assert '<html class="no-js" lang="en"' in (tmp_path / "html/en/index.html").read_text(encoding="utf-8")
    assert {path for path in set(DOCS.rglob("*")) - before if "__pycache__" not in path.parts} == set()
