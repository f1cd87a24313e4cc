"""Sending in tests: what every outcome and every failure has to look like."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from models.settings import MailSettings
from reports.notify.message import Summary, compose
from reports.notify.sender import DeliveryError, Outcome, send
from tests.reports.notify.conftest import PASSWORD, Post
from tests.reports.notify.test_message import SUMMARY

StartPost = Callable[..., AbstractContextManager[Post]]
LOGIN = {"username": "ledger", "password": PASSWORD}
EHLO = b"250-mail.example.org\r\n250 8BITMIME\r\n"


def deliver(
    settings: MailSettings, *recipients: str, summary: Summary = SUMMARY
) -> tuple[list[Outcome], list[Outcome]]:
    """Compose and send; return the outcomes and those passed to the callback."""
    reported: list[Outcome] = []
    mails = [(to, compose(summary, settings, recipient=to)) for to in recipients or ("ciso@example.org",)]
    return send(mails, settings, reported.append), reported


def failure(settings: MailSettings, *recipients: str) -> DeliveryError:
    """Send, expect a DeliveryError, and check what holds for every one of them."""
    reported: list[Outcome] = []
    mails = [(to, compose(SUMMARY, settings, recipient=to)) for to in recipients or ("ciso@example.org",)]
    with pytest.raises(DeliveryError) as caught:
        send(mails, settings, reported.append)
    error = caught.value
    assert error.exit_code == 4
    assert "\n" not in error.message
    assert error.message.endswith(".")
    assert [outcome.recipient for outcome in reported] == [to for to, _ in mails]
    assert list(error.outcomes) == reported
    assert PASSWORD not in error.message + repr(reported)
    return error
