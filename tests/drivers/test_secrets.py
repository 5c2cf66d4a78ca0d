"""No password is seen anywhere: whatever form it is given in, whatever goes wrong, whatever is printed."""

from __future__ import annotations

import logging
import traceback
import warnings
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import import_or_skip

import dbpool
from dbpool import SimpleConnectionPool, ThreadedConnectionPool
from dbpool.masking import MASK, masked

MARK = "s3cr3t"  # in each password: also a part of one must not be seen
PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12).map(lambda text: MARK + text)
SCHEMES = {"psycopg2": "postgresql", "ksycopg2": "kingbase"}


def as_dsn(driver, password, **words):
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    return (" ".join(f"{name}={value}" for name, value in words.items()) + f" password='{escaped}'",), {}


def as_careless_dsn(driver, password, **words):
    """Unquoted: libpq does not understand it if there is a blank in the password, and says what it did not."""
    return (f"password={password} " + " ".join(f"{name}={value}" for name, value in words.items()),), {}


def as_uri(driver, password, host, port, user, dbname):
    return (f"{SCHEMES[driver]}://{user}:{quote(password, safe='')}@{host}:{port}/{dbname}",), {}


def as_careless_uri(driver, password, host, port, user, dbname):
    return (f"{SCHEMES[driver]}://{user}:{password}@{host}:{port}/{dbname}",), {}


def as_uri_of_another(driver, password, host, port, user, dbname):
    """A scheme that ksycopg2 refuses, quoting all of it."""
    return (f"kingbase8://{user}:{password}@{host}:{port}/{dbname}",), {}


def as_keywords(driver, password, **words):
    return (), {**words, "password": password}


def as_dict(driver, password, **words):
    return ({**words, "password": password},), {}


def as_callable(driver, password, **words):
    args, _ = as_dsn(driver, password, **words)
    return (lambda: args[0],), {}


def as_misspelt_keyword(driver, password, **words):
    return (), {**words, "password": password, "pasword": password}


FORMS = [
    as_dsn, as_careless_dsn, as_uri, as_careless_uri, as_uri_of_another, as_keywords, as_dict, as_callable,
    as_misspelt_keyword,
]  # fmt: skip
WHERE = {"host": "127.0.0.1", "port": "1", "user": "somebody", "dbname": "somewhere"}  # nobody answers there


class Everything(logging.Handler):
    """All that is logged, warned of, raised and printed."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()} {record.args!r} {record.exc_text}")

    def of_error(self, error: BaseException) -> None:
        self.texts += ["".join(traceback.format_exception(type(error), error, None))]
        while error is not None:
            self.texts += [str(error), repr(error), repr(error.args), repr(vars(error))]
            error = error.__cause__ or error.__context__

    def of_pool(self, pool) -> None:
        self.texts += [repr(pool), str(pool), repr(pool.stats()), repr(pool.holders()), repr(pool.waiters())]
        self.texts += [repr(pool._args), repr(pool._kwargs), repr(pool._config), repr(pool.__dict__)]
        self.texts += [f"{name}={value!r} {value}" for name, value in vars(pool._opener).items()]
        dbpool.dump(self)

    def write(self, text: str) -> None:
        self.texts.append(text)


def seen(kind, driver, form, password, **where):
    """Return all that can be seen of a pool that cannot connect."""
    everything = Everything()
    logger = logging.getLogger("dbpool")
    logger.addHandler(everything)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            args, kwargs = form(driver, password, **{**WHERE, **where})
            for config in ({"start": "lazy"}, {"start": "eager"}):
                try:
                    pool = kind(1, 2, *args, connect=import_or_skip(driver), config=config, **kwargs)
                    everything.of_pool(pool)
                    pool.getconn(timeout=0)
                except Exception as error:
                    everything.of_error(error)
                everything.of_pool(pool)
        everything.texts += [str(each.message) for each in warned]
    finally:
        logger.setLevel(level)
        logger.removeHandler(everything)
    return everything.texts


@pytest.mark.fault(68)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("driver", SCHEMES)
@pytest.mark.parametrize("kind", [ThreadedConnectionPool, SimpleConnectionPool], ids=["Threaded", "Simple"])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(password=PASSWORDS)
def test_a_pool_that_cannot_connect_shows_no_password(kind, driver, form, password):
    import_or_skip(driver)
    texts = seen(kind, driver, form, password)
    assert len(texts) > 20
    assert [text for text in texts if MARK in text] == []


@pytest.mark.fault(68)
@pytest.mark.parametrize("form", [as_dsn, as_keywords, as_dict, as_callable])
@pytest.mark.parametrize("driver", SCHEMES)
def test_nor_does_one_whose_password_is_wrong(tcp, driver, form):
    import_or_skip(driver)
    words = dict(word.split("=", 1) for word in tcp.tcp_dsn.split() if not word.startswith("password"))
    texts = seen(ThreadedConnectionPool, driver, form, f"{MARK} 'it is'", **words)
    assert any("authentication failed" in text for text in texts)
    assert [text for text in texts if MARK in text] == []


def test_what_is_no_password_is_still_told():
    said = 'connection to server at "db" (10.0.0.1), port 5432 failed: FATAL:  role "postgres" does not exist'
    assert masked(said) == said
    assert masked("host=db password=abc user=me") == f"host=db password={MASK} user=me"
    assert masked("{'user': 'me', 'password': 'abc'}") == f"{{'user': 'me', 'password': '{MASK}'}}"
    assert masked("postgresql://me:a@b@db/x") == f"postgresql://me:{MASK}@db/x"
