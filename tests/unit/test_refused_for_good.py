"""What the texts of libpq's refusals mean; and a server that refuses for good is not stormed to have minconn."""

from __future__ import annotations

import pytest
from fakes import OperationalError

from dbpool.connectors.libpq import LibpqConnector

FOR_GOOD = """
FATAL:  password authentication failed for user "guest"
FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "guest", database "shop", no encryption
FATAL:  pg_hba.conf rejects connection for host "10.0.0.1", user "guest", database "shop", no encryption
FATAL:  role "guest" is not permitted to log in
FATAL:  permission denied for database "shop"
FATAL:  database "shop" does not exist
FATAL:  connection requires a valid client certificate
SSL error: certificate verify failed
SSL error: tlsv1 alert unknown ca
could not load private key file "client.key": key values mismatch
server does not support SSL, but SSL was required
could not translate host name "db.example.com" to address: Name or service not known
用户 "guest" 的密码认证失败
没有适用于主机 "10.0.0.1", 用户 "guest", 数据库 "shop", 无加密 的 pg_hba.conf 条目
pg_hba.conf 拒绝来自主机 "10.0.0.1", 用户 "guest", 数据库 "shop", 无加密 的连接
不允许角色 "guest" 进行登录
访问数据库 "shop" 的权限不足
数据库 "shop" 不存在
连接需要有效的客户端证书
"""
FOR_THE_MOMENT = """
FATAL:  sorry, too many clients already
FATAL:  too many connections for role "guest"
FATAL:  the database system is starting up
connection to server at "10.0.0.1", port 5432 failed: Connection refused
could not translate host name "db.example.com" to address: Temporary failure in name resolution
客户端连接过多
数据库系统正在启动
"""


class Known(LibpqConnector):
    """A driver whose connect raises ValueError."""

    operational = ValueError


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        *((text, "permanent") for text in FOR_GOOD.strip().splitlines()),
        *((text, "transient") for text in FOR_THE_MOMENT.strip().splitlines()),
    ],
)
def test_what_a_refusal_means(text, meaning):
    assert Known().refusal(ValueError(text)) == meaning


def test_connections_that_nobody_waits_for_are_tried_once_per_pause_one_at_a_time(make, kind, driver, clock):
    pool = make(kind, 3, 3)
    for conn in [pool.getconn() for _ in range(3)]:
        pool.putconn(conn, close=True)
    driver.refusal = "permanent"
    pool.check()
    for _ in range(3):
        calls = driver.calls
        assert [pool.check().size for _ in range(5)] == [0] * 5
        assert driver.calls == calls
        clock.leap(1.0)
        pool.check()
        assert driver.calls == calls + 1
    driver.refusal = None
    clock.leap(1.0)
    assert pool.check().idle == 3
    assert pool._state.to_open() == 0


@pytest.mark.synchronous
def test_who_asks_for_them_is_told_each_time(make, driver, clock):
    pool = make(minconn=3, maxconn=3, start="lazy")
    driver.refusal = "permanent"
    for _ in range(3):
        with pytest.raises(OperationalError, match="refuses"):
            pool.open()
    driver.refusal = None
    pool.open()
    assert pool.stats().idle == 3
