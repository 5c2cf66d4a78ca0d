"""A pool of TLS connections: the certificate and the name of the server are verified, whatever is wrong is refused.

    python examples/tls_pool.py                                  with a server of its own
    python examples/tls_pool.py --serve 7007 FOLDER              only the server; its certificate is made in FOLDER
    python examples/tls_pool.py localhost 7007 FOLDER/server.crt only the pool

The certificate is made by the openssl program. The server says each line again, in capitals.
"""

from __future__ import annotations

import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dbpool import ThreadedConnectionPool, TlsConnector


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return the files of a certificate for localhost, which is its own authority, and of its key."""
    certificate, key = folder / "server.crt", folder / "server.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "9")
    use = ("-addext", "keyUsage=critical,digitalSignature,keyCertSign")
    command = ["openssl", "req", "-x509", *curve, *subject, *use, "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class Shouting(socketserver.StreamRequestHandler):
    """The server's side of one connection."""

    def handle(self) -> None:
        """Answer line by line until the client hangs up."""
        for line in self.rfile:
            self.wfile.write(line.upper())


class Server(socketserver.ThreadingTCPServer):
    """Shakes hands in the thread of the connection, so that nobody who dawdles holds up the others."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, port: int, certificate: Path, key: Path) -> None:
        super().__init__(("127.0.0.1", port), Shouting)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)

    def finish_request(self, request, client_address) -> None:
        """Begin TLS, and then talk."""
        try:
            with self._context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError as error:  # a client that does not trust us
            print("server:", type(error).__name__)


def open_pool(host: str, port: int, authority: Path, **options: object) -> ThreadedConnectionPool[ssl.SSLSocket]:
    """Return a pool that trusts *authority*. Without context= it would trust the system's authorities."""
    connector = TlsConnector(host, port, context=ssl.create_default_context(cafile=authority), **options)
    return ThreadedConnectionPool(0, 3, connect=connector, config={"timeout": 5})


def ask(pool: ThreadedConnectionPool[ssl.SSLSocket], word: str) -> str:
    """Return the answer to one line."""
    with pool.connection() as conn:
        conn.sendall(word.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            part = conn.recv(4096)
            if not part:
                raise EOFError("the server has hung up in the midst of an answer")
            answer += part
    return answer.decode().rstrip("\n")


def main(host: str, port: int, authority: Path) -> None:
    """Ask with many threads; then see that a name which is not the server's is refused."""
    words = [f"word {number}" for number in range(50)]
    with open_pool(host, port, authority) as pool, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda word: ask(pool, word), words))
        assert answers == [word.upper() for word in words]
        with pool.connection() as conn:
            print(len(answers), "answers over", pool.stats().opened, "connections,", conn.version())
    with open_pool(host, port, authority, server_hostname="elsewhere.example.com") as pool:
        try:
            pool.getconn()
        except ssl.SSLCertVerificationError as error:
            print("refused:", error)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        Server(int(sys.argv[2]), *make_certificate(Path(sys.argv[3]))).serve_forever()
    elif len(sys.argv) > 1:
        main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = make_certificate(Path(folder))
            with Server(0, certificate, key) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                main("localhost", server.server_address[1], certificate)
                server.shutdown()
