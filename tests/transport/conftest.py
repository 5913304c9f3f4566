"""What the tests of dialling share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from dynamo_h2.config import Http2Config
from dynamo_h2.transport.connect import Dialer
from tests.peers.tls import Certificates


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing logs a warning: what went wrong is in the error."""
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.fixture
def dialer(certificates: Certificates) -> Dialer:
    """A dialer that trusts the authority of the tests."""
    return Dialer(Http2Config(), certificates.client_context())
