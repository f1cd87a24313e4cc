"""Deliveries in tests: settings, the sample report, and the delivery log."""

import dataclasses
from pathlib import Path
from typing import Any

from models.settings import Settings
from models.store.engine import connect
from reports.notify.delivery import Request, deliver
from reports.notify.delivery_log import DeliveryLog
from tests.reports.notify.conftest import RUN
from tests.reports.notify.test_message import REPORT, SUMMARY


def settings_of(folder: Path, port: int, recipients: tuple[str, ...] = ("ciso@example.org",), **mail: Any) -> Settings:
    """Settings with a ledger in `folder` and a mail server on `port`."""
    mail = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "timeout": 1,
        "sender": "ledger@example.org",
        "recipients": list(recipients),
        **mail,
    }
    return Settings.model_validate({"database": f"sqlite:///{folder / 'ledger.db'}", "mail": mail})


def send(settings: Settings, unchanged_since: int | None = None, **request: Any) -> bool:
    """Deliver the sample report."""
    request["only"] = frozenset(request.get("only", ()))
    content = dataclasses.replace(SUMMARY, unchanged_since=unchanged_since)
    return deliver(content, settings, (REPORT,), Request(**request))


def log_of(settings: Settings, run_id: int = RUN) -> dict[str, str]:
    """The status of each recipient in the delivery log."""
    engine = connect(settings.database)
    entries = DeliveryLog(engine, run_id, SUMMARY.report).entries()
    engine.dispose()
    return {recipient: entry.status for recipient, entry in entries.items()}
