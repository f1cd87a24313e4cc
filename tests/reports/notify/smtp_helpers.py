"""Sending in tests: what every outcome and every failure has to look like."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from models.settings import MailSettings
from reports.notify.message import Attachment, Compose, Summary, compose
from reports.notify.result import DeliveryError, Outcome
from reports.notify.sender import send
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
    outcomes = send(recipients or ("ciso@example.org",), composer(settings, summary), settings, reported.append)
    return outcomes, reported


def composer(settings: MailSettings, summary: Summary = SUMMARY, *attachments: Attachment) -> Compose:
    """A function that composes the mail for a recipient."""
    return lambda to, limit: compose(summary, settings, recipient=to, attachments=attachments, limit=limit)


def failure(settings: MailSettings, *recipients: str) -> DeliveryError:
    """Send, and return the expected DeliveryError."""
    return failure_with_outcomes(settings, *recipients)[0]


def failure_with_outcomes(settings: MailSettings, *recipients: str) -> tuple[DeliveryError, list[Outcome]]:
    """Send, expect a DeliveryError, and check what holds for every one of them; also returns the outcomes."""
    reported: list[Outcome] = []
    named = recipients or ("ciso@example.org",)
    with pytest.raises(DeliveryError) as caught:
        send(named, composer(settings), settings, reported.append)
    error = caught.value
    assert error.exit_code == 4
    assert "\n" not in error.message
    assert error.message.endswith(".")
    assert [outcome.recipient for outcome in reported] == list(named)
    assert PASSWORD not in error.message + repr(reported)
    return error, reported
