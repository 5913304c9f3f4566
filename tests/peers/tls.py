"""Certificates for the TLS peers, made fresh in each run."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate authority with a server's and a client's certificate, as PEM files."""

    authority: Path
    server: Path
    server_key: Path
    client: Path

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        """Issue certificates for `localhost`, 127.0.0.1 and ::1, and for one client."""
        authority = trustme.CA()
        names = ("ca.pem", "server.pem", "server.key", "client.pem")
        files = cls(*(directory / name for name in names))
        authority.cert_pem.write_to_path(str(files.authority))
        server = authority.issue_cert("localhost", "127.0.0.1", "::1")
        server.private_key_and_cert_chain_pem.write_to_path(str(files.server))
        files.server_key.write_bytes(_pkcs8(server.private_key_pem.bytes()))
        client = authority.issue_cert("client@example.org")
        client.private_key_and_cert_chain_pem.write_to_path(str(files.client))
        return files

    def client_context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """A client's context that trusts this authority; ALPN is left to the client."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if with_certificate:
            context.load_cert_chain(str(self.client))
        return context

    def server_context(self, *alpn: str, ask_client: bool = False) -> ssl.SSLContext:
        """A server's context that offers `alpn`, by default `h2`."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.authority))
        context.load_cert_chain(str(self.server))
        context.set_alpn_protocols(alpn or ["h2"])
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _pkcs8(key: bytes) -> bytes:
    """The same private key in the one form that every server reads."""
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
