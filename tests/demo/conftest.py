"""One AWS and one organization for a whole test session: both take seconds to make.

Tests that change things put back what they changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import certificates, organization
from demo.server import AwsServer


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsServer]:
    with AwsServer() as server:
        yield server


@pytest.fixture(scope="session")
def demo_world(aws_server: AwsServer) -> organization.World:
    aws_server.reset()
    return organization.build(aws_server)


@pytest.fixture
def no_faults(aws_server: AwsServer) -> Iterator[AwsServer]:
    yield aws_server
    aws_server.clear_faults()


@pytest.fixture(scope="session")
def local_certificates(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    folder: Path = tmp_path_factory.mktemp("certificates")
    return certificates.create(folder)
