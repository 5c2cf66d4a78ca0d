"""Where the value of an option comes from; which is no part of what a configuration is."""

from __future__ import annotations

import copy
import pickle

import pytest

from dbpool import PoolConfig


def test_what_was_given_is_told_from_what_is_by_default():
    config = PoolConfig(timeout=3, name="orders")
    assert [config.source(option) for option in ("timeout", "name", "reset")] == ["given", "given", "default"]


def test_the_variable_that_was_read_is_named(monkeypatch):
    monkeypatch.setenv("APP_TIMEOUT", "10")
    monkeypatch.setenv("APP_MAX_USES", "5")
    config = PoolConfig.from_env("APP_", max_uses=7, name="orders")
    assert config.source("timeout") == "environment APP_TIMEOUT"  # also if it says what is so by default
    assert config.source("max_uses") == "environment APP_MAX_USES"
    assert config.source("name") == "given"


def test_the_ways_of_psycopg2_are_named():
    config = PoolConfig.like_psycopg2(reset="none")
    assert config.source("timeout") == "like_psycopg2"
    assert config.source("reset") == "given"
    assert config.source("check_after") == "default"


def test_what_is_replaced_is_given_and_the_others_keep_their_source(monkeypatch):
    monkeypatch.setenv("DBPOOL_TIMEOUT", "5")
    config = PoolConfig.from_env().replace(max_uses=3)
    assert (config.source("timeout"), config.source("max_uses")) == ("environment DBPOOL_TIMEOUT", "given")
    assert config.replace(timeout=6).source("timeout") == "given"


def test_the_own_defaults_of_a_pool_are_defaults():
    config = PoolConfig._by_default(reset="rollback").replace(timeout=3)
    assert [config.source(option) for option in ("reset", "timeout")] == ["default", "given"]
    assert config.replace(reset="none").source("reset") == "given"


def test_an_unknown_option_has_no_source():
    with pytest.raises(TypeError, match="unknown option: size"):
        PoolConfig().source("size")


def test_equal_values_are_equal_wherever_they_come_from(monkeypatch):
    monkeypatch.setenv("DBPOOL_TIMEOUT", "5")
    read, given = PoolConfig.from_env(), PoolConfig(timeout=5.0)
    assert read == given
    assert hash(read) == hash(given)
    assert repr(read) == repr(given)
    assert "_sources" not in read._asdict()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_a_copy_is_equal_and_tells_at_least_what_is_not_as_by_default(monkeypatch, again):
    monkeypatch.setenv("DBPOOL_TIMEOUT", "5")
    config = PoolConfig.from_env()
    assert again(config) == config
    assert again(config).source("timeout") == "given"
    assert again(config).source("reset") == "default"


def test_it_stays_frozen():
    with pytest.raises(AttributeError, match="cannot be changed"):
        PoolConfig()._sources = {}
