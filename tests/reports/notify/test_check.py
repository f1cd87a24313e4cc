"""The channels in `kmsledger doctor`: webhooks and chats are checked without a message, and no text has a secret."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from models.diagnosis import Check, Status
from models.settings import Settings
from models.settings.delivery import ChatSettings, WebhookSettings
from reports import http_post
from reports.notify.check import check_channels
from tests.crawler.aws.test_transport_curl import Proxy
from tests.reports.notify.conftest import Authority, free_port
from tests.reports.notify.http_receiver import run_receiver
from tests.reports.notify.test_chat import SECRET as TOKEN
from tests.reports.notify.test_chat import chat_of
from tests.reports.notify.test_webhook import SECRET, settings_for


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def checked(*channels: WebhookSettings | ChatSettings) -> list[Check]:
    """The checks of webhooks and chats, without the secrets of any."""
    settings = Settings.model_validate({}).model_copy(
        update={
            "webhooks": tuple(channel for channel in channels if isinstance(channel, WebhookSettings)),
            "chat": tuple(channel for channel in channels if isinstance(channel, ChatSettings)),
        }
    )
    checks = check_channels(settings)
    assert not any(secret in repr(checks) for secret in (SECRET, "s3cret", TOKEN))
    return checks


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections and says nothing; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"https://localhost:{listener.getsockname()[1]}/s3cret"


def test_nothing_is_checked_without_channels() -> None:
    """Settings without mail, webhooks and chats have no channel to check."""
    assert checked() == []


def test_a_webhook_that_can_be_reached_gets_no_request(authority: Authority) -> None:
    """Name, connection and certificate are checked, and the receiver gets no request; each webhook is one check."""
    with run_receiver(tls=authority.server_context()) as receiver, run_receiver() as local:
        bundle = str(authority.bundle)
        checks = checked(settings_for(receiver, ca_bundle=bundle), settings_for(local, name="local"))
    assert [(check.name, check.status, check.message) for check in checks] == [
        ("webhook", Status.OK, "The webhook siem at localhost can be reached with TLS; nothing was sent"),
        ("webhook", Status.OK, "The webhook local at 127.0.0.1 can be reached; nothing was sent"),
    ]
    assert receiver.requests == local.requests == []


def test_certificates_of_webhooks_are_verified(authority: Authority, stranger: Authority) -> None:
    """An authority that is not trusted, another host and an expired certificate are problems with their own cause."""
    bundle = str(authority.bundle)
    with run_receiver(tls=authority.server_context()) as receiver:
        unknown, other = checked(settings_for(receiver), settings_for(receiver, ca_bundle=str(stranger.bundle)))
    with run_receiver(tls=authority.server_context("other.example")) as receiver:
        (host,) = checked(settings_for(receiver, ca_bundle=bundle))
    with run_receiver(tls=authority.server_context(days=-1)) as receiver:
        (expired,) = checked(settings_for(receiver, ca_bundle=bundle))
    for check in (unknown, other, host):
        assert check.status is Status.PROBLEM
        assert "The webhook siem at localhost has a certificate that cannot be trusted" in check.message
        assert check.fix == "set its ca_bundle, or replace the certificate"
    assert expired.message == "The webhook siem at localhost has an expired certificate"
    assert expired.fix == "renew it, or check the clock of this host"


@pytest.mark.parametrize(
    ("url", "message", "fix"),
    [
        ("https://unknown.invalid/s3cret", "unknown.invalid could not be resolved", "check its url and DNS"),
        (f"https://127.0.0.1:{free_port()}/s3cret", "refuses the connection", "check its url, whether it is running"),
    ],
    ids=["unknown host", "refused"],
)
def test_a_webhook_that_cannot_be_reached(url: str, message: str, fix: str) -> None:
    """Cause and fix are named, with the host but without the rest of the address."""
    (check,) = checked(settings_for(url))
    assert check.status is Status.PROBLEM
    assert message in check.message
    assert check.fix.startswith(fix)


def test_a_webhook_that_does_not_answer_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check waits some seconds at most, whatever the time-out of events is."""
    monkeypatch.setattr(http_post, "CONNECTION_TIMEOUT", 0.3)
    start = time.monotonic()
    with silent_server() as url:
        (check,) = checked(settings_for(url, timeout=600))
    assert time.monotonic() - start < 10
    assert check.message == "The webhook siem at localhost did not answer within 0.3 seconds"


def test_a_webhook_is_reached_through_the_proxy_of_events(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy of the environment is used, and a proxy that fails is named without its password."""
    proxy = Proxy()
    with run_receiver(tls=authority.server_context()) as receiver:
        settings = settings_for(receiver, ca_bundle=str(authority.bundle))
        monkeypatch.setenv("https_proxy", proxy.url)
        (check,) = checked(settings)
        proxy.close()
        assert check.status is Status.OK
        assert len(proxy.tunnels) == 1
        monkeypatch.setenv("https_proxy", "http://user:s3cret@unknown.invalid:3128")
        (check,) = checked(settings)
    assert check.message == "The webhook siem at localhost cannot be reached, because its proxy could not be resolved"
    assert check.fix == "check https_proxy and DNS"
    assert receiver.requests == []


def test_a_chat_is_not_tried(caplog: pytest.LogCaptureFixture) -> None:
    """Apprise reads the address and calls nothing; the check says that the chat is not tried."""
    with caplog.at_level(logging.DEBUG), run_receiver() as receiver:
        (check,) = checked(chat_of(receiver.url.rpartition(":")[2].partition("/")[0]))
    assert (check.name, check.status) == ("chat", Status.OK)
    assert check.message == (
        "Apprise knows the address of the chat security (JSON), which is not tried: that needs a message"
    )
    assert receiver.requests == []
    assert caplog.records == []


def test_each_chat_that_apprise_does_not_know_is_named() -> None:
    """Each invalid address is a problem of its own, by the name of the chat only."""
    typos = [ChatSettings.model_validate({"name": name, "url": f"slck://{TOKEN}"}) for name in ("first", "second")]
    checks = checked(*typos, chat_of(1))
    assert [check.status for check in checks] == [Status.PROBLEM, Status.PROBLEM, Status.OK]
    assert [check.message for check in checks[:2]] == [
        f"the url of the chat {name} is no address that Apprise knows" for name in ("first", "second")
    ]


def test_chats_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Apprise, the fix installs it."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    (check,) = checked(chat_of(1))
    assert (check.status, check.fix) == (Status.PROBLEM, "pip install 'kmsledger[chat]'")
