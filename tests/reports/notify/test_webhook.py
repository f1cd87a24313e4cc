"""Webhooks against a real HTTP server: signed events, retries, rejections, TLS."""

import base64
import dataclasses
import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from models.settings import Settings
from models.settings.delivery import WebhookSettings
from reports.notify.message import AttentionItem
from reports.notify.result import Outcome
from reports.notify.trend import TrendPoint
from reports.notify.webhook import RETRY_DELAYS, post, signature
from tests.reports.notify.conftest import Authority, Post, free_port, run_post
from tests.reports.notify.delivery_helpers import log_of, send, settings_of
from tests.reports.notify.http_receiver import Receiver, run_receiver
from tests.reports.notify.test_message import ARN, SUMMARY, URL

ROOT = Path(__file__).parents[3]
KEY = b"a key of thirty-two random bytes"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


def settings_for(receiver: Receiver | str, **changes: Any) -> WebhookSettings:
    """Settings of a webhook to the receiver."""
    url = receiver if isinstance(receiver, str) else receiver.url
    return WebhookSettings.model_validate({"name": "siem", "url": url, "secret": SECRET, "timeout": 1, **changes})


def deliver(settings: WebhookSettings, **changes: Any) -> tuple[Outcome, list[float]]:
    """Send the event; returns the outcome and the pauses before retries, which do not take place."""
    pauses: list[float] = []
    outcome = post(settings, dataclasses.replace(SUMMARY, **changes), "webhook:siem", sleep=pauses.append)
    assert outcome.recipient == "webhook:siem"
    assert not any(secret in outcome.detail for secret in (SECRET, "s3cret", "\x1b"))
    return outcome, pauses


def test_the_signature_is_that_of_the_specification() -> None:
    """Guards the example of Standard Webhooks 1.0, which the verification libraries of all languages accept."""
    made = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}'
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_event_is_signed_and_complete() -> None:
    """The receiver gets one request with the content of the mail, and a signature of exactly these bytes and a recent time."""
    hostile = "</script>\u202e \ud800 @everyone"
    item = AttentionItem("high", "text", ARN, "Fix it.", ("aws kms x",), title=hostile, anchor="k-1")
    with run_receiver() as receiver:
        outcome, _ = deliver(settings_for(receiver), attention=(item,), report_url=URL)
    assert outcome.status == "sent"
    (request,) = receiver.requests
    assert (request.path, request.headers["content-type"]) == ("/events?token=s3cret", "application/json")
    stamp = request.headers["webhook-timestamp"]
    assert abs(time.time() - int(stamp)) < 60
    signed = f"{request.headers['webhook-id']}.{stamp}.".encode() + request.body
    digest = hmac.new(KEY, signed, hashlib.sha256).digest()
    assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    event = json.loads(request.body)
    assert (event["type"], event["timestamp"]) == ("kmsledger.report", "2026-11-20T02:41:00+00:00")
    data = event["data"]
    assert (data["run_id"], data["status"], data["report_url"]) == (42, "partial", URL)
    assert data["situations"]["total"] == 31
    assert data["situations"]["first"] == [
        {
            "severity": "high", "title": hostile, "text": "text", "where": ARN, "action": "Fix it.", "commands": ["aws kms x"],
            "url": f"{URL}#k-1",
        }
    ]  # fmt: skip
    assert data["changes"] == {"total": 12, "first": ["Grant created for role/reader"]}
    assert data["gaps"] == {"total": 3, "first": ["Account 222233334444: role cannot be assumed"]}


def test_the_documentation_verifies_and_shows_an_event() -> None:
    """The function in docs/delivery.md accepts a genuine event and nothing else, and its example has the members of one."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8"), re.DOTALL)
    [code] = [text for language, text in blocks if language == "python"]
    names: dict[str, Any] = {"time": time, "hmac": hmac, "base64": base64, "hashlib": hashlib}
    exec(code, names)  # noqa: S102 - our own documentation
    with run_receiver() as receiver:
        deliver(settings_for(receiver), trend=(TrendPoint(41, 2, 1), TrendPoint(42, 1, 1)))
    (request,) = receiver.requests
    assert names["is_genuine"](SECRET, request.headers, request.body)
    assert not names["is_genuine"](SECRET, request.headers, request.body + b" ")
    assert not names["is_genuine"](SECRET, {**request.headers, "webhook-id": "other"}, request.body)
    assert not names["is_genuine"](SECRET, {**request.headers, "webhook-timestamp": "1"}, request.body)
    [example] = [json.loads(text) for _, text in blocks if "kmsledger.report" in text]
    event = json.loads(request.body)
    assert set(example) == set(event)
    assert set(example["data"]) == set(event["data"])
    assert set(example["data"]["situations"]["first"][0]) == set(event["data"]["situations"]["first"][0])
    assert set(example["data"]["trend"][0]) == set(event["data"]["trend"][0])


@pytest.mark.parametrize("answers", [[503, 429, 200], [0, 204], [500, 500, 500, 202]])
def test_a_temporary_failure_is_retried(answers: list[int]) -> None:
    """Retries have the same ID, by which a receiver recognizes an event that it has processed, and a signature of their own."""
    with run_receiver(Receiver(answers)) as receiver:
        outcome, pauses = deliver(settings_for(receiver))
    assert outcome.status == "sent"
    assert pauses == list(RETRY_DELAYS[: len(answers) - 1])
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len(receiver.requests) == len(answers)


@pytest.mark.parametrize(
    ("answers", "status", "requests", "message"),
    [
        ([503], "failed", 4, "The webhook siem at 127.0.0.1 failed 4 times, at last with 503 busy"),
        ([0], "failed", 4, "cannot be reached"),
        (
            [400],
            "rejected",
            1,
            "rejects the event (400 busy\ufffd[31m): check its url and whether it accepts this event",
        ),
        ([401], "rejected", 1, "check its secret"),
        ([410], "rejected", 1, "rejects the event (410"),
        ([302], "rejected", 1, "redirects (302) to elsewhere.example, and redirects are not followed"),
        ([307], "rejected", 1, "redirects (307) to elsewhere.example"),
    ],
)
def test_a_failure_is_explained(answers: list[int], status: str, requests: int, message: str) -> None:
    """The number of attempts is bounded, 4xx is final, no redirect is followed, and the message shows no secret."""
    headers = {"location": "https://elsewhere.example/events?token=s3cret"}
    with run_receiver(Receiver(answers, headers)) as receiver:
        outcome, _ = deliver(settings_for(receiver))
    assert (outcome.status, len(receiver.requests)) == (status, requests)
    assert message in outcome.detail


def test_a_receiver_that_does_not_answer() -> None:
    """Each attempt has a time limit."""
    with run_receiver(Receiver([-1, -1, 200])) as receiver:
        outcome, pauses = deliver(settings_for(receiver, timeout=0.3))
    assert (outcome.status, len(pauses)) == ("sent", 2)
    with run_receiver(Receiver([-1])) as receiver:
        outcome, _ = deliver(settings_for(receiver, timeout=0.1))
    assert "did not answer within 0.1 seconds" in outcome.detail


def test_the_status_decides_even_if_the_answer_does_not_end() -> None:
    """A receiver that has accepted the event is not sent it again because the rest of its answer is late."""
    with run_receiver(Receiver(endless=True)) as receiver:
        outcome, pauses = deliver(settings_for(receiver, timeout=0.3))
    assert (outcome.status, pauses, len(receiver.requests)) == ("sent", [], 1)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"http://127.0.0.1:{free_port()}/x", "refuses the connection"),
        ("https://nobody.invalid/x", "could not be resolved"),
    ],
    ids=["nobody listens", "unknown host"],
)
def test_a_receiver_that_cannot_be_reached(url: str, message: str) -> None:
    """Without a connection nothing was delivered: the outcome is a failure, which the next delivery retries."""
    outcome, _ = deliver(settings_for(url))
    assert outcome.status == "failed"
    assert message in outcome.detail


def test_certificates_are_verified(authority: Authority, stranger: Authority) -> None:
    """An event is sent only to a receiver whose certificate the configured authorities have issued for this host."""
    with run_receiver(tls=authority.server_context()) as receiver:
        assert deliver(settings_for(receiver, ca_bundle=str(authority.bundle)))[0].status == "sent"
        assert len(receiver.requests) == 1
        for settings in (settings_for(receiver), settings_for(receiver, ca_bundle=str(stranger.bundle))):
            outcome, _ = deliver(settings)
            assert outcome.status == "failed"
            assert "has a certificate that cannot be trusted" in outcome.detail
    with run_receiver(tls=authority.server_context("other.example")) as receiver:
        outcome, _ = deliver(settings_for(receiver, ca_bundle=str(authority.bundle)))
        assert "has a certificate that cannot be trusted" in outcome.detail
    assert receiver.requests == []


def with_webhook(settings: Settings, receiver: Receiver) -> Settings:
    """The settings, with a webhook."""
    return settings.model_copy(update={"webhooks": (settings_for(receiver),)})


def test_the_delivery_log_covers_webhooks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An event is sent once per run; a failed mail does not stop it, nor the reverse; a failure is repeated alone."""
    with run_receiver(Receiver([400])) as receiver, run_post(Post(at_rcpt={"ciso@example.org": "450 later"})) as mails:
        settings = with_webhook(settings_of(folder, mails.port), receiver)
        assert not send(settings)
        assert log_of(settings) == {"ciso@example.org": "failed", "webhook:siem": "rejected"}
        errors = capsys.readouterr().err
        assert "accepts no mail at the moment" in errors
        assert "delivery to webhook:siem rejected: The webhook siem at 127.0.0.1 rejects the event" in errors
        receiver.answers[:] = [200]
        assert not send(settings)
        assert len(receiver.requests) == 1
        assert send(settings, only={"webhook:siem"}, resend=True)
        assert send(settings, only={"webhook:siem"})
    first, second = receiver.requests
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    assert log_of(settings) == {"ciso@example.org": "failed", "webhook:siem": "sent"}


def test_a_dry_run_sends_no_event(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run lists the webhook and sends nothing."""
    with run_receiver() as receiver:
        assert send(with_webhook(settings_of(folder, 1), receiver), only={"webhook:siem"}, dry_run=True)
    assert capsys.readouterr().out == "delivery: webhook:siem gets a signed event\n"
    assert receiver.requests == []
