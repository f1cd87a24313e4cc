"""An installation of a small organization on the fake endpoint, with a mail server: a nightly run takes seconds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import Parameters, preset
from demo import certificates
from demo.smtp import MailServer
from tests.end_to_end.conftest import FEW_RULES, PASSWORD, RULES, USER, Installation
from tests.reports.mart_schema import offer_schema

MAIL = "mail"


def small_organization(**changes: Any) -> Parameters:
    """Two accounts in three regions with three keys each; changes are further parameters."""
    return preset("tiny", **{"seed": 4, "accounts": 2, "keys_per_account_region": 3, "resources": 0.1, **changes})


def install(
    directory: Path,
    aws: FakeAws,
    mail: MailServer,
    tls: certificates.Certificates,
    recipients: Sequence[str],
    **changes: Any,
) -> Installation:
    """An installation without a ledger; changes are further top-level groups of the settings, `mail` None for no mail."""
    directory.mkdir(exist_ok=True)
    (directory / "tls").mkdir()
    shutil.copy(tls.authority, directory / "tls" / "ca.pem")
    offer_schema(directory / "kmsledger.duckdb")
    values: dict[str, Any] = {
        "database": "sqlite:///ledger.db",
        "aws": {"endpoint_url": aws.url},
        "crawl": {"quota_share_percent": 100},
        "role": {"external_id": aws.world.parameters.external_id},
        "rules": {"disable": sorted({path.stem for path in RULES.glob("*.sql")} - FEW_RULES)},
        "report": {"directory": "reports", "mart": "kmsledger.duckdb"},
        MAIL: {
            "host": "localhost",
            "port": mail.port,
            "security": "starttls",
            "username": USER,
            "password": PASSWORD,
            "ca_bundle": "tls/ca.pem",
            "sender": "kmsledger@northwind.example",
            "recipients": list(recipients),
        },
    }
    for name, value in changes.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    if values[MAIL] is None:
        del values[MAIL]
    settings = directory / "kmsledger.yaml"
    settings.write_text(yaml.safe_dump(values), encoding="utf-8")
    return Installation(mail, directory, settings, {**os.environ, **aws.environment()})
