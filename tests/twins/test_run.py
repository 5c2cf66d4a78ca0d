"""``python -m dbpool run``: a script notices nothing but that the pools are ours."""

from __future__ import annotations

import io
import sys
from types import ModuleType

import pytest
from servers import import_or_skip

from dbpool import cli, runner

from .processes import python

SECRET = "hunter2"


@pytest.fixture
def script(tmp_path):
    """Writes a script, and returns its path."""

    def write(text, name="script.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def here(monkeypatch):
    """What run() changes in this process is put back; no driver is replaced."""
    monkeypatch.setattr(sys, "argv", ["dbpool"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    installed = []
    monkeypatch.setattr(runner, "install_twins", installed.append)
    return installed


def both(script, *arguments, **options):
    """Run *script* by Python and by ``dbpool run``; return how each ended."""
    return python(script, *arguments, **options), python("-m", "dbpool", "run", script, *arguments, **options)


TELLING = '''"""Its doc."""
import os, sys
print(__name__, __doc__, __file__, __spec__, __package__, sys.argv, sys.path[0], os.getcwd())
print(vars(sys.modules["__main__"]) is globals(), __builtins__, "annotations" in globals())
'''


@pytest.mark.parametrize("arguments", [(), ("a", "-x", "--strict", "-h", "--", "")], ids=["none", "some"])
def test_a_script_sees_what_it_sees_under_python(script, arguments):
    plain, ours = both(script(TELLING), *[each for each in arguments if each != "--"])
    assert ours == plain
    assert plain[0] == 0


def test_its_folder_is_where_it_imports_from(script):
    script("name = 'neighbour'", "neighbour.py")
    plain, ours = both(script("import neighbour; print(neighbour.name)"))
    assert ours == plain == (0, "neighbour\n", "")


RAISING = """
def f():
    raise ValueError("no")
try:
    f()
except ValueError as error:
    raise KeyError("key") from error
"""


@pytest.mark.parametrize(
    "text",
    [RAISING, "1/0", "def broken(:\n    pass\n", "raise KeyboardInterrupt", "import no_such_module"],
    ids=["chained", "1/0", "SyntaxError", "KeyboardInterrupt", "ImportError"],
)
def test_an_exception_is_shown_as_python_shows_it(script, text):
    plain, ours = both(script(text))
    if "KeyboardInterrupt" in text:
        plain = (130, *plain[1:])  # Python ends itself by the signal
    assert ours == plain
    assert ours[0] in (1, 130)
    assert "runner.py" not in ours[2]


@pytest.mark.parametrize("value", ["", "None", "0", "3", "'a text'", "True", "(1, 2)"])
def test_sys_exit_is_passed_on(script, value):
    plain, ours = both(script(f"import sys; sys.exit({value})"))
    assert ours == plain


def test_a_thread_goes_on_after_the_last_line(script):
    text = """
import threading
names = ["still here"]
def work():
    main.join()
    print(names[0], __name__)
main = threading.main_thread()
threading.Thread(target=work).start()
"""
    plain, ours = both(script(text))
    assert ours == plain == (0, "still here __main__\n", "")


def test_the_scripts_own_excepthook_is_asked(script):
    text = "import sys\nsys.excepthook = lambda kind, value, trace: print(kind, trace.tb_frame.f_code.co_name)\n1/0"
    plain, ours = both(script(text))
    assert ours == plain


def test_its_encoding_is_honoured(tmp_path):
    path = tmp_path / "latin.py"
    path.write_bytes(b"# -*- coding: latin-1 -*-\nprint(ascii('\xe4'))\n")
    assert both(str(path))[1] == (0, "'\\xe4'\n", "")


USING = """
import psycopg2, psycopg2.pool
from psycopg2.pool import *
pool = psycopg2.pool.ThreadedConnectionPool(0, 1, "dbname=x")
print(type(pool).__module__, pool._config.timeout, pool._config.idle_timeout)
"""


@pytest.mark.parametrize(("strict", "timeout"), [((), "10.0 600.0"), (("--strict",), "0 0")], ids=["", "strict"])
def test_the_pools_are_ours(script, strict, timeout):
    import_or_skip("psycopg2")
    ended = python("-m", "dbpool", "run", *strict, script(USING))
    assert ended == (0, f"dbpool.psycopg2 {timeout}\n", "")


def test_strict_after_the_script_is_the_scripts(script):
    import_or_skip("psycopg2")
    ended = python("-m", "dbpool", "run", script(USING), "--strict")
    assert ended == (0, "dbpool.psycopg2 10.0 600.0\n", "")


def test_without_drivers_a_script_runs_all_the_same(script):
    ended = python("-m", "dbpool", "run", script("print('alone')"), hide="psycopg2,ksycopg2")
    assert ended == (0, "alone\n", "")


def test_the_shim_is_imported_as_ksycopg2(script):
    import_or_skip("psycopg2")
    text = "import ksycopg2.pool, ksycopg2.extras; print(ksycopg2.pool.PersistentConnectionPool.__module__)"
    assert python("-m", "dbpool", "run", script(text), hide="ksycopg2") == (0, "dbpool.ksycopg2\n", "")


def test_a_driver_that_cannot_be_loaded_is_told_and_the_script_runs(script, tmp_path):
    broken(tmp_path)
    status, out, err = python("-m", "dbpool", "run", script("print('runs')"), path=tmp_path)
    assert (status, out) == (0, "runs\n")
    assert err.startswith("dbpool run: ksycopg2 is installed but cannot be loaded")
    assert "LD_LIBRARY_PATH" in err
    assert "libkci.so.5" in err


def broken(folder):
    """Put a half installed ksycopg2 into *folder*."""
    package = folder / "ksycopg2"
    package.mkdir()
    text = 'raise ImportError("libkci.so.5: cannot open shared object file: No such file or directory")'
    (package / "__init__.py").write_text(text, encoding="utf-8")


# ---- its arguments --------------------------------------------------------------------------------------------------


def test_a_script_that_is_not_there(tmp_path):
    status, out, err = python("-m", "dbpool", "run", str(tmp_path / "no.py"))
    assert (status, out) == (2, "")
    assert f"cannot read {tmp_path / 'no.py'}: No such file or directory" in err


@pytest.mark.parametrize(
    "arguments",
    [
        (f"postgresql://u:{SECRET}@h/db",),
        (f"host=h password={SECRET}",),
        ("--dsn", f"host=h password={SECRET}", "script.py"),
        (f"--dsn=postgresql://u:{SECRET}@h/db", "script.py"),
        (f"--password={SECRET}", "script.py"),
    ],
)
def test_a_dsn_in_a_wrong_place_is_not_shown(arguments):
    status, out, err = python("-m", "dbpool", "run", *arguments)
    assert status == 2
    assert SECRET not in out + err


def test_a_folder_is_no_script(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", str(tmp_path)])
    assert "cannot read" in capsys.readouterr().err


# ---- in this process ------------------------------------------------------------------------------------------------


def test_run_returns_how_it_ended(script, here):
    assert runner.run(script("kept = 1"), ["a"], strict=False) == 0
    assert sys.modules["__main__"].kept == 1
    assert runner.run(script("import sys\nsys.excepthook = print\n1/0"), [], strict=True) == 1
    assert here[0] is None
    assert here[1].timeout == 0


def test_an_exit_and_an_interrupt_are_passed_on(script, here, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", lambda *exc: None)
    for raised in (SystemExit, KeyboardInterrupt):
        with pytest.raises(raised):
            runner.run(script(f"raise {raised.__name__}"), [], strict=False)


def test_twins_are_installed_one_by_one(monkeypatch, capsys):
    """Whatever one of them lacks, the other is installed."""
    done = []

    def import_module(name):
        if name == "dbpool.psycopg2":
            raise ImportError("half there", name="psycopg2")
        twin = ModuleType(name)
        twin.install = done.append
        return twin

    monkeypatch.setattr(runner, "import_module", import_module)
    monkeypatch.setattr(runner, "_is_half_there", lambda driver: True)
    runner.install_twins(None)
    assert done == [None]
    assert capsys.readouterr().err == "dbpool run: half there\n"


def test_the_file_is_closed(script, here, monkeypatch):
    opened = []
    real = io.open_code
    monkeypatch.setattr(io, "open_code", lambda path: opened.append(real(path)) or opened[-1])
    assert runner.run(script(""), [], strict=False) == 0
    assert [file.closed for file in opened] == [True]
