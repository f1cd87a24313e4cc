"""Fixtures for the tests of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import certificates
from demo.server import AwsServer


@pytest.fixture
def no_faults(aws_server: AwsServer) -> Iterator[AwsServer]:
    yield aws_server
    aws_server.clear_faults()


@pytest.fixture(scope="session")
def local_certificates(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    folder: Path = tmp_path_factory.mktemp("certificates")
    return certificates.create(folder)
