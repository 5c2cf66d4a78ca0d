"""A pool of SMTP sessions: what smtplib opens, greets and closes, kept open for many letters.

    python examples/smtp_pool.py                  with a server of its own (aiosmtpd), which keeps what it is sent
    python examples/smtp_pool.py 127.0.0.1 2525   with yours

This is how anything is pooled: a Connector that says how it is opened, closed, asked and made clean.
"""

from __future__ import annotations

import smtplib
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage

from dbpool import Connector, ThreadedConnectionPool
from dbpool.watch import is_readable


class SmtpConnector(Connector):
    """smtplib: NOOP is the ping, RSET makes a session as it was before a letter was begun, QUIT ends it."""

    error = smtplib.SMTPException  # what errors of the pool are, too

    def connect(self, host: str, port: int) -> smtplib.SMTP:
        """Open a session. What must be done once in each, TLS and a login, is done here."""
        conn = smtplib.SMTP(host, port, timeout=10)
        conn.ehlo_or_helo_if_needed()
        return conn

    def close(self, conn: smtplib.SMTP) -> None:
        """Take leave; a server that is gone need not hear it."""
        try:
            conn.quit()
        except smtplib.SMTPServerDisconnected:
            conn.close()

    def ping(self, conn: smtplib.SMTP) -> None:
        """Raise if the server does not answer."""
        accept(*conn.noop())

    def dirty(self, conn: smtplib.SMTP) -> bool:
        """Have reset() see every session that comes back: a letter may be begun in it."""
        return True

    def reset(self, conn: smtplib.SMTP, level: str) -> None:
        """Forget a letter that was begun."""
        accept(*conn.rset())

    def unfit(self, conn: smtplib.SMTP) -> bool:
        """True for what smtplib has closed, and for a server that speaks unasked: "421 idle for too long"."""
        descriptor = self.fileno(conn)
        return descriptor is None or is_readable(descriptor)

    def fileno(self, conn: smtplib.SMTP) -> int | None:
        """Tell the descriptor: so the pool learns at once that the server hangs up, and can end a call that hangs."""
        return None if conn.sock is None else conn.sock.fileno()

    def refusal(self, error: BaseException) -> str | None:
        """A server that is not there, or says 4xx, is waited for; one that says 5xx is not."""
        if isinstance(error, smtplib.SMTPResponseException):
            return "transient" if 400 <= error.smtp_code < 500 else "permanent"
        return "transient" if isinstance(error, (ConnectionError, smtplib.SMTPServerDisconnected)) else None


def accept(code: int, text: bytes) -> None:
    """Insist on a good answer."""
    if code != 250:
        raise smtplib.SMTPResponseException(code, text)


def open_pool(host: str, port: int, **options: object) -> ThreadedConnectionPool[smtplib.SMTP]:
    """Return a pool of at most 3 sessions; servers end those that are idle for some minutes."""
    config = {"timeout": 5, "idle_timeout": 60, "ping_after": 20, **options}
    return ThreadedConnectionPool(0, 3, host, port, connect=SmtpConnector(), config=config)


def send(pool: ThreadedConnectionPool[smtplib.SMTP], number: int) -> None:
    """Send a letter."""
    letter = EmailMessage()
    letter["From"], letter["To"] = "shop@example.com", f"customer-{number}@example.com"
    letter["Subject"] = f"Order {number}"
    letter.set_content("It is on its way.")
    with pool.connection() as conn:
        conn.send_message(letter)


def main(host: str, port: int, letters: int = 30) -> None:
    """Send letters with many threads."""
    with open_pool(host, port) as pool, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: send(pool, number), range(letters)))
        print(letters, "letters in", pool.stats().opened, "sessions")


def demonstrate() -> None:
    """Send to a server of our own, which keeps what it is sent."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.handlers import Message

    arrived = []

    class Mailbox(Message):
        """The server's side."""

        def handle_message(self, message) -> None:
            """Take one letter."""
            arrived.append(message["Subject"])

    with socket.create_server(("127.0.0.1", 0)) as free:  # the controller cannot choose a port
        port = free.getsockname()[1]
    controller = Controller(Mailbox(), hostname="127.0.0.1", port=port)
    controller.start()
    main("127.0.0.1", port)
    controller.stop()
    print(len(set(arrived)), "different ones arrived")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], int(sys.argv[2]))
    else:
        demonstrate()
