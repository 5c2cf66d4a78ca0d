"""PoolConfig: every option is right or refused, by name; the value is frozen."""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
from inspect import signature
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbpool import Limiter, PoolConfig, PoolListener, SimpleConnectionPool
from dbpool.config import LEVELS, TIMEOUT_MAX

NAN, INF = float("nan"), float("inf")
NOT_SECONDS = [True, False, "5", b"5", [5], 5j, Decimal(5), Fraction(1, 2)]
OUT_OF_RANGE = [NAN, INF, -INF, -1, -0.001, TIMEOUT_MAX * 1.01, 10**9, 10**400]
NOT_COUNTS = [True, False, 1.0, NAN, INF, "1", b"1", [1], Decimal(1)]
LISTENER = PoolListener()
LIMITER = Limiter(3)


def optional_count(least: int):
    """Return the good, the out of range and the ill-typed values of a number that may be None."""
    return [None, least, least + 1, 10**6], [least - 1, -5, -(10**400)], NOT_COUNTS


def above_zero():
    """Return the same of a limit in seconds that may be None."""
    return [None, 0.1, 10, TIMEOUT_MAX], [*OUT_OF_RANGE, 0, 0.0], NOT_SECONDS


SWITCH = ([True, False], [], [None, 0, 1, "yes"])
# option: (good, ValueError, TypeError)
OPTIONS = {
    "name": ([None, "", "orders", "订单"], [], [5, b"orders", ["orders"], True]),
    "timeout": ([None, 0, 0.0, 0.5, 30, TIMEOUT_MAX], OUT_OF_RANGE, NOT_SECONDS),
    "max_waiting": optional_count(0),
    "start": (["eager", "lazy", "background"], ["EAGER", "", "now", None, 1, [], NAN], []),
    "idle_order": (["lifo", "fifo"], ["LIFO", "", "random", None, 0, {}], []),
    "max_overflow": optional_count(0),
    "idle_timeout": ([None, 0, 0.0, 600], OUT_OF_RANGE, NOT_SECONDS),
    "max_lifetime": above_zero(),
    "lifetime_jitter": ([0, 0.0, 0.5, 1], [NAN, INF, -0.1, 1.1, 2], ["0.1", None, True, [0.1]]),
    "max_uses": optional_count(1),
    "reset": (["none", "rollback", "commit", "clean", "session", print], ["Clean", "", "reset", None, 0, []], []),
    "check_after": ([None, 0, 0.05, 60], OUT_OF_RANGE, NOT_SECONDS),
    "ping_after": ([None, 0, 0.5, 60], OUT_OF_RANGE, NOT_SECONDS),
    "ping_interval": above_zero(),
    "ping_on_return": SWITCH,
    "ping_on_connect": SWITCH,
    "check_timeout": above_zero(),
    "role": ([None, "read-write", "read-only"], ["READ-WRITE", "", "primary", 1, []], []),
    "leak_threshold": above_zero(),
    "trace": SWITCH,
    "strict": SWITCH,
    "limiter": ([None, LIMITER], [], [Limiter, 5, "limiter"]),
    "connect_timeout": above_zero(),
    "connect_attempts": ([1, 2, 100], [0, -1], [None, *NOT_COUNTS]),
    "max_connecting": optional_count(1),
    "on_connect": ([None, print], [], ["print", 5, True, []]),
    "listener": ([None, LISTENER], [], [PoolListener, print, "listener", 5]),
    "detect_deadlock": SWITCH,
    "background": SWITCH,
}
GOOD = [(option, value) for option, (good, _, _) in OPTIONS.items() for value in good]
BAD = [
    (option, value, error)
    for option, (_, of_value, of_type) in OPTIONS.items()
    for error, values in ((ValueError, of_value), (TypeError, of_type))
    for value in values
]


def short(value: object) -> str:
    """Name a test's parameter."""
    return getattr(value, "__name__", repr(value)[:12])


def test_every_option_is_tested():
    assert set(OPTIONS) == set(signature(PoolConfig).parameters)


@pytest.mark.parametrize(("option", "value"), GOOD, ids=short)
def test_a_good_value_is_kept_as_it_is(option, value):
    assert getattr(PoolConfig(**{option: value}), option) is value


@pytest.mark.parametrize(("option", "value", "error"), BAD, ids=short)
def test_a_bad_value_is_refused_by_the_name_of_its_option(option, value, error):
    with pytest.raises(error, match=rf"\b{option}\b"):
        PoolConfig(**{option: value})


def test_an_unknown_option_is_refused_by_its_name():
    with pytest.raises(TypeError, match="timeuot"):
        PoolConfig.of({"timeuot": 5})
    with pytest.raises(TypeError, match="timeuot"):
        PoolConfig.like_psycopg2(timeuot=5)
    with pytest.raises(TypeError, match="timeuot"):
        PoolConfig(timeuot=5)


def test_an_option_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match="7"):
        PoolConfig.of({7: 5})


@pytest.mark.parametrize("mapping", [dict, OrderedDict, MappingProxyType])
def test_a_mapping_of_options_becomes_a_config(mapping):
    assert PoolConfig.of(mapping({"timeout": 5, "max_uses": 3})) == PoolConfig(timeout=5, max_uses=3)


def test_no_config_is_the_default_and_a_config_is_itself():
    config = PoolConfig(timeout=5)
    assert PoolConfig.of(config) is config
    assert PoolConfig.of(None) == PoolConfig()


@pytest.mark.parametrize("config", [5, "timeout=5", [("timeout", 5)], PoolConfig, True, b""])
def test_what_is_neither_config_nor_mapping_is_refused(config):
    with pytest.raises(TypeError, match=r"\bconfig\b"):
        PoolConfig.of(config)


def test_a_config_cannot_be_changed():
    config = PoolConfig(timeout=5)
    for change in (lambda: setattr(config, "timeout", 6), lambda: delattr(config, "timeout")):
        with pytest.raises(AttributeError, match="timeout"):
            change()
    with pytest.raises(AttributeError):
        config.other = 1
    assert config.timeout == 5


def test_configs_are_equal_if_all_options_are():
    assert PoolConfig(timeout=5) == PoolConfig(timeout=5)
    assert PoolConfig(timeout=5) != PoolConfig(timeout=6)
    assert hash(PoolConfig(timeout=5)) == hash(PoolConfig(timeout=5))
    assert PoolConfig() != 5


def test_a_config_survives_pickling():
    config = PoolConfig(timeout=5, reset="session", on_connect=print)
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_config_shows_its_options():
    assert "timeout=5" in repr(PoolConfig(timeout=5))
    assert repr(PoolConfig(timeout=5)).startswith("PoolConfig(")


def test_like_psycopg2_never_waits_keeps_minconn_and_rolls_back():
    config = PoolConfig.like_psycopg2()
    assert (config.timeout, config.idle_timeout, config.reset) == (0, 0, "rollback")


def test_like_psycopg2_takes_further_options():
    config = PoolConfig.like_psycopg2(name="orders", timeout=3)
    assert (config.name, config.timeout, config.idle_timeout) == ("orders", 3, 0)
    with pytest.raises(ValueError, match="max_uses"):
        PoolConfig.like_psycopg2(max_uses=0)


# The same, for whatever value anybody may think of. The rules are written anew here.


def is_seconds(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (number and value == value and 0 <= value <= TIMEOUT_MAX)


def is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_word(value: object, words: str) -> bool:
    return isinstance(value, str) and value in words.split()


LIMITS = ("max_lifetime", "ping_interval", "check_timeout", "leak_threshold", "connect_timeout")
RIGHT = {
    "name": lambda v: v is None or isinstance(v, str),
    "timeout": is_seconds,
    "max_waiting": lambda v: v is None or is_count(v, 0),
    "start": lambda v: is_word(v, "eager lazy background"),
    "idle_order": lambda v: is_word(v, "lifo fifo"),
    "max_overflow": lambda v: v is None or is_count(v, 0),
    "idle_timeout": is_seconds,
    "check_after": is_seconds,
    "ping_after": is_seconds,
    **{option: lambda v: is_seconds(v) and v != 0 for option in LIMITS},
    **{option: lambda v: isinstance(v, bool) for option, values in OPTIONS.items() if values is SWITCH},
    "lifetime_jitter": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v <= 1,
    "limiter": lambda v: v is None or isinstance(v, Limiter),
    "role": lambda v: v is None or is_word(v, "read-write read-only"),
    "max_uses": lambda v: v is None or is_count(v, 1),
    "reset": lambda v: callable(v) or is_word(v, "none rollback commit clean session"),
    "connect_attempts": lambda v: is_count(v, 1),
    "max_connecting": lambda v: v is None or is_count(v, 1),
    "on_connect": lambda v: v is None or callable(v),
    "listener": lambda v: v is None or isinstance(v, PoolListener),
}
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers())
WORDS = st.sampled_from([*LEVELS, "eager", "lazy", "background", "lifo", "fifo", "0", "nan", "inf", "True"])
ODD = st.sampled_from([10**400, -(10**400), math.pi, print, LISTENER])
ANYTHING = st.one_of(
    PLAIN, WORDS, st.integers(-2, 3), st.floats(-1, 1), ODD,
    st.lists(PLAIN, max_size=2), st.dictionaries(st.text(max_size=2), PLAIN, max_size=2), st.decimals(), st.fractions(),
)  # fmt: skip


@pytest.mark.fault(67)
@pytest.mark.parametrize("option", RIGHT)
@given(value=ANYTHING)
def test_whatever_an_option_is_given_it_is_right_or_refused_by_name(option, value):
    refusal = None
    try:
        config = PoolConfig(**{option: value})
    except (TypeError, ValueError) as error:
        refusal = str(error)
    assert (refusal is None) is RIGHT[option](value)
    assert getattr(config, option) is value if refusal is None else option in refusal


SIZE = st.one_of(st.integers(-2, 5), st.booleans(), st.floats(), st.none(), st.text(max_size=3), st.decimals())


@pytest.mark.fault(67)
@given(minconn=SIZE, maxconn=SIZE)
def test_whatever_sizes_a_pool_is_given_they_are_right_or_refused_by_name(minconn, maxconn):
    refusal = None
    try:
        pool = SimpleConnectionPool(minconn, maxconn, connect=object)
    except (TypeError, ValueError) as error:
        refusal = str(error)
    right = is_count(minconn, 0) and is_count(maxconn, max(minconn, 1))
    assert (refusal is None) is right
    if right:
        assert (pool.minconn, pool.maxconn) == (minconn, maxconn)
    else:
        assert "minconn" in refusal or "maxconn" in refusal


# ---- from the environment -------------------------------------------------------------------------------------------


def from_env(monkeypatch, **variables):
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    return PoolConfig.from_env()


def test_options_are_read_from_the_environment(monkeypatch):
    config = from_env(
        monkeypatch, DBPOOL_TIMEOUT="2.5", DBPOOL_MAX_WAITING="7", DBPOOL_IDLE_TIMEOUT="none", DBPOOL_RESET="rollback",
        DBPOOL_TRACE="on", DBPOOL_BACKGROUND="False", DBPOOL_NAME="订单", DBPOOL_DSN="dbname=x",
    )  # fmt: skip
    assert config == PoolConfig(
        timeout=2.5, max_waiting=7, idle_timeout=None, reset="rollback", trace=True, background=False, name="订单"
    )


def test_the_environment_goes_before_what_the_program_says(monkeypatch):
    monkeypatch.setenv("APP_TIMEOUT", "3")
    assert PoolConfig.from_env("APP_", timeout=5, max_uses=2) == PoolConfig(timeout=3, max_uses=2)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DBPOOL_TIMEOUT", "soon"), ("DBPOOL_MAX_USES", "1.5"), ("DBPOOL_TRACE", "maybe"), ("DBPOOL_LISTENER", "x"),
        ("DBPOOL_LIFETIME_JITTER", "none"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(monkeypatch, variable, text):
    with pytest.raises(ValueError, match=variable) as caught:
        from_env(monkeypatch, **{variable: text})
    assert text not in str(caught.value).replace(variable, "") or text == "x"


def test_a_value_that_is_no_value_of_the_option_is_refused_by_the_options_name(monkeypatch):
    with pytest.raises(ValueError, match="timeout"):
        from_env(monkeypatch, DBPOOL_TIMEOUT="-1")
