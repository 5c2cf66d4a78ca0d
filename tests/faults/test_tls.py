"""Row 17: certificates that are wrong, have expired or are replaced, and answers in plain text."""

from __future__ import annotations

import shutil

import pytest
from asking import ask
from clusters import new_cluster
from pains.sessions import Stopwatch, backends, dsn_of, lease, pid_of, put_all
from servers import import_or_skip, require_or_skip
from unit.threads import Caller, eventually

from dbpool import PoolTimeout

from .certificates import HERE, Authority, Certificate, place, present

psycopg2 = import_or_skip("psycopg2")
pytestmark = pytest.mark.fault(17)
LATE = 1.0  # seconds over a limit that a busy machine may cost; a limit that is not kept costs several
ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


class Papers:
    """Two authorities, and what they have issued."""

    def __init__(self, folder):
        self.old, self.new = Authority(folder, "old"), Authority(folder, "new")
        self.good = self.old.issue("good", HERE)
        self.expired = self.old.issue("expired", HERE, days=-1)
        self.elsewhere = self.old.issue("elsewhere", "elsewhere.test")
        self.rotated = self.new.issue("good", HERE)
        self.client = self.old.issue("client", "postgres")
        self.client_expired = self.old.issue("client-expired", "postgres", days=-1)


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Certificates, good and bad."""
    if shutil.which("openssl") is None:
        require_or_skip("openssl", "the program is not installed")
    return Papers(tmp_path_factory.mktemp("certificates"))


# ---- what is wrong is refused ----------------------------------------------------------------------------------------


WRONG = {
    "expired": "certificate",
    "elsewhere": "does not match host name",
    "rotated": "certificate",  # by an authority that the client does not know
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_certificate_lets_nobody_in_and_all_are_told_at_once(
    town, through, make, papers, through_driver, wrong
):  # fmt: skip
    proxy, dsn = through(town)
    proxy.tls = getattr(papers, wrong).context()
    dsn, name = f"{dsn} sslmode=verify-full sslrootcert={papers.old.file}", f"{through_driver.__name__} {wrong}"
    pool = make(dsn, 0, 3, driver=through_driver, timeout=60, name=name)
    callers = [Caller(pool.getconn) for _ in range(3)]
    for caller in callers:
        with pytest.raises(through_driver.OperationalError, match=WRONG[wrong]):
            caller.result()  # whose patience is much less than 60 s
    eventually(lambda: pool.stats().size == 0)
    assert proxy.accepted == pool.stats().connect_errors <= 3  # and nobody has tried again
    assert not backends(town, name)
    proxy.tls = papers.good.context()
    with pool.connection() as conn:
        assert ask(conn, "SELECT 1") == 1


PLAIN = {
    "no TLS here": (None, "server does not support SSL"),
    "let in": (b"R\0\0\0\x08\0\0\0\0", "SSL"),
    "an error": (b"E\0\0\0\x20SFATAL\0C0A000\0Mno TLS here\0\0", "SSL"),
}


@pytest.mark.parametrize("case", PLAIN)
def test_a_plain_answer_lets_nobody_in(town, through, make, papers, through_driver, case):
    answer, reason = PLAIN[case]
    proxy, dsn = through(town)
    proxy.answer = answer
    dsn = f"{dsn} sslmode=verify-full sslrootcert={papers.old.file}"
    pool = make(dsn, 0, 2, driver=through_driver, name="answered in plain text")
    with Stopwatch() as watch, pytest.raises(through_driver.Error) as caught:
        pool.getconn(timeout=0.6)
    assert watch.seconds < 0.6 + LATE
    assert reason in str(caught.value.__cause__ or caught.value)
    assert proxy.accepted <= 8
    assert not backends(town, "answered in plain text")


def test_who_waits_beside_an_open_connection_makes_no_storm_of_attempts(town, through, make, papers):
    proxy, dsn = through(town)
    proxy.tls = papers.good.context()
    pool = make(f"{dsn} sslmode=verify-full sslrootcert={papers.old.file}", 0, 9)
    conn = pool.getconn()
    proxy.tls = papers.expired.context()

    def wait():
        with pytest.raises(PoolTimeout) as caught:
            pool.getconn(timeout=1.2)
        assert "certificate" in str(caught.value.__cause__)

    for caller in [Caller(wait) for _ in range(8)]:
        caller.result()
    assert 1 <= proxy.accepted - 1 <= 8 + 10  # once for each who came before the first was refused
    assert ask(conn, "SELECT 1") == 1
    pool.putconn(conn)


def test_nor_does_a_pool_that_is_to_have_minconn(town, through, make, papers):
    proxy, dsn = through(town)
    proxy.tls = papers.expired.context()
    pool = make(f"{dsn} sslmode=verify-full sslrootcert={papers.old.file}", 4, 4, start="background", idle_timeout=1)
    until = proxy.now() + 1.5
    eventually(lambda: proxy.now() >= until)
    assert 1 <= proxy.accepted <= 10
    assert pool.stats().size == 0


# ---- what is replaced is used without a restart ----------------------------------------------------------------------


class Client:
    """A client's own files, and the DSN that names them."""

    def __init__(self, server, folder, authority, certificate):
        self.roots = folder / "roots.crt"
        self._certificate = Certificate(folder, "client")
        words = {"sslmode": "verify-full", "sslrootcert": self.roots, "sslcert": self._certificate.file}
        self.dsn = dsn_of(server, **words, sslkey=self._certificate.key)
        self.trust(authority)
        self.use(certificate)

    def trust(self, authority):
        shutil.copy(authority.file, self.roots)

    def use(self, certificate):
        certificate.copy(self._certificate.file, self._certificate.key)


@pytest.fixture(scope="module")
def guarded(installation, papers):
    """A server that asks for TLS and for a certificate of the client's."""
    settings = {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "ssl_ca_file": "ca.crt"}
    with new_cluster(installation, **settings) as server:
        place(server, papers.good, papers.old)
        rules = server.data / "pg_hba.conf"
        lines = "local all all trust", f"hostssl all all {HERE}/32 scram-sha-256 clientcert=verify-ca"
        rules.write_text("\n".join(lines) + "\n", encoding="ascii")
        try:
            yield server.start()
        except RuntimeError as error:
            require_or_skip("tls", str(error).rpartition(":")[2].strip())


@pytest.fixture
def secured(guarded, papers):
    """The same; its own certificate is good, and `present` changes it."""
    present(guarded, papers.good, papers.old)
    return guarded


@pytest.mark.parametrize("rotated", ["the authority", "the server's certificate"])
def test_a_rotation_leaves_open_connections_alone_and_new_files_are_used_at_once(
    secured, make, papers, driver, tmp_path, rotated
):  # fmt: skip
    client = Client(secured, tmp_path, papers.old, papers.client)
    pool = make(client.dsn, 0, 3, driver=driver)
    leased, idle = lease(pool, 2)
    pool.putconn(idle)
    present(secured, papers.rotated if rotated == "the authority" else papers.expired, papers.old)
    assert ask(leased, ENCRYPTED)
    assert pool.getconn() is idle
    assert ask(idle, ENCRYPTED)
    with pytest.raises(PoolTimeout) as caught:
        pool.getconn(timeout=0.3)
    assert "certificate" in str(caught.value.__cause__)
    if rotated == "the authority":
        client.trust(papers.new)
    else:
        present(secured, papers.good, papers.old)
    eventually(lambda: pool.stats().connecting == 0)  # an attempt that began before that
    old = {pid_of(leased), pid_of(idle)}
    pool.drain()
    put_all(pool, [leased, idle])
    conns = lease(pool, 3)
    assert all(ask(conn, ENCRYPTED) for conn in conns)
    assert not old & set(map(pid_of, conns))
    put_all(pool, conns)


def test_a_certificate_of_the_clients_that_has_expired_is_told_at_once_and_replaced_in_place(
    secured, make, papers, driver, tmp_path
):  # fmt: skip
    client = Client(secured, tmp_path, papers.old, papers.client_expired)
    pool = make(client.dsn, 0, 2, driver=driver, timeout=60)
    caller = Caller(pool.getconn)
    with pytest.raises(driver.OperationalError, match="certificate expired"):
        caller.result()
    client.use(papers.client)
    with pool.connection() as conn:
        assert ask(conn, ENCRYPTED)
