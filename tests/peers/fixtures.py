"""Fixtures that run the real servers, each once for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import servers
from tests.peers.servers import Peer
from tests.peers.tls import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return servers.make_site(tmp_path_factory.mktemp("site") / "files")


@pytest.fixture(scope="session")
def granian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with servers.run_granian(tmp_path_factory.mktemp("granian")) as peer:
        yield peer


@pytest.fixture(scope="session")
def granian_unix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The worker behind a Unix socket."""
    with servers.run_granian(tmp_path_factory.mktemp("unix"), unix=True) as peer:
        yield peer


@pytest.fixture(scope="session")
def granian_mtls(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Peer]:
    """The worker behind TLS 1.3; a client without a certificate gets an alert."""
    directory = tmp_path_factory.mktemp("granian_mtls")
    with servers.run_granian(directory, certificates=certificates) as peer:
        yield peer


@pytest.fixture(scope="session")
def hypercorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with servers.run_hypercorn(tmp_path_factory.mktemp("hypercorn")) as peer:
        yield peer


@pytest.fixture(scope="session")
def nghttpd(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Iterator[Peer]:
    with servers.run_nghttpd(tmp_path_factory.mktemp("nghttpd"), site) as peer:
        yield peer


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Iterator[Peer]:
    with servers.run_nginx(tmp_path_factory.mktemp("nginx"), site) as peer:
        yield peer


@pytest.fixture(scope="session")
def nginx_tls(
    tmp_path_factory: pytest.TempPathFactory, site: Path, certificates: Certificates
) -> Iterator[Peer]:
    with servers.run_nginx(tmp_path_factory.mktemp("nginx_tls"), site, certificates) as peer:
        yield peer


@pytest.fixture(scope="session")
def nginx_mtls(
    tmp_path_factory: pytest.TempPathFactory, site: Path, certificates: Certificates
) -> Iterator[Peer]:
    """Nginx behind TLS 1.3; a client without a certificate gets status 400."""
    directory = tmp_path_factory.mktemp("nginx_mtls")
    with servers.run_nginx(directory, site, certificates, ask_client=True) as peer:
        yield peer


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Peer:
    """The server that `@pytest.mark.parametrize("peer", servers_with(…), indirect=True)` names."""
    found: Peer = request.getfixturevalue(request.param)
    return found
