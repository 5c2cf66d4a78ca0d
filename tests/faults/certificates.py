"""Certificates of authorities of our own, made by the openssl program; and a server that presents them."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pains.sessions import order
from unit.threads import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from clusters import Cluster

HERE = "127.0.0.1"
SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"
SIGNED = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"  # without which Python 3.13 trusts nobody
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certificate:
    """A certificate and its key, as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file, self.key = folder / f"{name}.crt", folder / f"{name}.key"

    def context(self) -> ssl.SSLContext:
        """Return what a server needs to present it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context

    def copy(self, file: Path, key: Path) -> None:
        """Put it where it is looked for."""
        for source, target in ((self.key, key), (self.file, file)):
            target.touch(mode=0o600)
            target.write_bytes(source.read_bytes())


class Authority(Certificate):
    """Signs certificates: `authority.issue("server", common_name)`."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self._folder, self._name = folder, name
        signs = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # without which Python 3.13 trusts no authority
        made = ("-keyout", self.key, "-out", self.file, "-subj", f"/CN={name}", "-days", 9)
        openssl("req", "-x509", *NEW_KEY, *made, *signs)

    def issue(self, name: str, common_name: str, days: int = 9) -> Certificate:
        """Return a new certificate; it has expired if *days* is -1."""
        made = Certificate(self._folder, f"{self._name}-{name}")
        request, extensions = made.file.with_suffix(".csr"), made.file.with_suffix(".ext")
        openssl("req", *NEW_KEY, "-keyout", made.key, "-out", request, "-subj", f"/CN={common_name}")
        kind = "IP" if common_name == HERE else "DNS"
        extensions.write_text(f"subjectAltName={kind}:{common_name}\n{SIGNED}", encoding="ascii")
        signed = ("-CA", self.file, "-CAkey", self.key, "-CAcreateserial", "-extfile", extensions)
        openssl("x509", "-req", "-in", request, *signed, "-out", made.file, "-days", days)
        return made


def openssl(*arguments: object) -> None:
    """Run the openssl program."""
    done = subprocess.run(["openssl", *map(str, arguments)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def place(cluster: Cluster, certificate: Certificate, authority: Certificate) -> None:
    """Put a certificate, and the authority for those of clients, into a server's data folder."""
    certificate.copy(cluster.data / "server.crt", cluster.data / "server.key")
    shutil.copy(authority.file, cluster.data / "ca.crt")
    for name in ("server.crt", "server.key", "ca.crt"):
        cluster.installation._own(cluster.data / name)


def present(cluster: Cluster, certificate: Certificate, authority: Certificate) -> None:
    """Have a running server present another certificate, without a restart; return once it does."""
    place(cluster, certificate, authority)
    order(cluster, "SELECT pg_reload_conf()")
    wanted = ssl.PEM_cert_to_DER_cert(certificate.file.read_text(encoding="ascii"))
    eventually(lambda: presented(cluster) == wanted)


def presented(cluster: Any) -> bytes | None:
    """Return the certificate that a server presents to whoever comes now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with closing(socket.create_connection((HERE, cluster.port))) as sock:
        sock.sendall(SSL_REQUEST)
        assert sock.recv(1) == b"S"
        with context.wrap_socket(sock) as secured:
            return secured.getpeercert(binary_form=True)
