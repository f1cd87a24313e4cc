"""The scenarios of all vendors, crawled and built once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reports.mart.connection import connect
from reports.vendors.queries import Facts
from tests.reports.vendors.organization import Scenarios, build_organization


@pytest.fixture(scope="session")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenarios]:
    """The scenarios, as of the second run."""
    settings, accounts = build_organization(tmp_path_factory.mktemp("vendors"))
    with connect(settings.report.mart) as connection:
        yield Scenarios(Facts(connection, 2), accounts)
