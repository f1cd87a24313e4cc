"""Chats: Apprise sends the short text to a real HTTP server, and no message shows the address of a chat."""

import dataclasses
import json
import logging
import sys
from pathlib import Path

import pytest

from models.settings.delivery import ChatSettings
from reports.notify.chat import ChatError, _masked, check, post, text, title
from reports.notify.message import AttentionItem
from reports.notify.result import Outcome
from tests.reports.notify.conftest import free_port, run_post
from tests.reports.notify.delivery_helpers import log_of, settings_of
from tests.reports.notify.delivery_helpers import send as deliver
from tests.reports.notify.http_receiver import Receiver, run_receiver
from tests.reports.notify.test_message import SUMMARY, URL

SECRET = "s3cret-token"


def chat_of(port: int | str) -> ChatSettings:
    """A chat whose service is an HTTP server on this machine."""
    url = f"json://user:{SECRET}@127.0.0.1:{port}/{SECRET}/?rto=0.5&cto=0.5"
    return ChatSettings.model_validate({"name": "security", "url": url})


def port_of(receiver: Receiver) -> str:
    """The port of a receiver."""
    return receiver.url.rpartition(":")[2].partition("/")[0]


def deliver_to(port: int | str) -> Outcome:
    """Send the sample text; the outcome shows no secret."""
    outcome = post(chat_of(port), title(SUMMARY), text(SUMMARY), "chat:security")
    assert SECRET not in repr(outcome)
    return outcome


def test_the_text_has_what_matters_most() -> None:
    """The text is short: the subject, the status, three situations, how many more, missing data, and the report."""
    items = tuple(AttentionItem("high", "text", "where", title=f"Key {number} is going.") for number in range(5))
    content = dataclasses.replace(SUMMARY, attention=items, report_url=URL)
    assert title(content) == "KMS ledger of Example Corp: 2 keys will be deleted within 7 days · 14 new findings"
    assert text(content).splitlines() == [
        "Incomplete coverage: a part of the scope could not be read. Where data is missing, no finding does not mean no problem.",
        "HIGH: Key 0 is going.",
        "HIGH: Key 1 is going.",
        "HIGH: Key 2 is going.",
        "... and 28 more situations",
        "Missing data: 3 causes, first: Account 222233334444: role cannot be assumed",
        f"Report: {URL}",
    ]


def test_a_text_without_results_of_rules_says_so() -> None:
    """No situation in a run whose rules were not evaluated is no good news."""
    content = dataclasses.replace(SUMMARY, attention=(), attention_total=0, is_evaluated=False)
    assert "The rules were not evaluated, so what needs action is unknown." in text(content).splitlines()


def test_hostile_names_mention_nobody_and_link_nowhere() -> None:
    """Names from AWS create no mention, link, markup or line in any chat, and cannot make the text long."""
    hostile = "<!channel> <https://evil.example|x> [x](https://evil.example) @everyone `*a*`\n\u202eb" + "x" * 5000
    item = AttentionItem("high", hostile, "where", title=hostile)
    content = dataclasses.replace(SUMMARY, title=hostile, attention=(item,), gaps=(hostile,))
    for shown in (title(content), text(content)):
        assert not any(sign in shown for sign in ("<", ">", "[", "]", "@", "`", "*", "https://", "\u202e"))
        assert len(shown) < 1200
    assert len(text(content).splitlines()) == 4


def test_apprise_delivers_the_text() -> None:
    """The service gets title and text of one message."""
    with run_receiver() as receiver:
        assert deliver_to(port_of(receiver)).status == "sent"
    (request,) = receiver.requests
    message = json.loads(request.body)
    assert message["title"] == title(SUMMARY)
    assert message["message"] == text(SUMMARY)


@pytest.mark.parametrize(
    ("answer", "status"),
    [(403, "rejected"), (404, "rejected"), (429, "failed"), (503, "failed"), (0, "unknown"), (-1, "unknown")],
)
def test_a_failure_has_an_outcome(answer: int, status: str, caplog: pytest.LogCaptureFixture) -> None:
    """4xx is final and 5xx is retried; without a status the text may have arrived; nothing of Apprise and urllib3 is logged."""
    with caplog.at_level(logging.DEBUG), run_receiver(Receiver([answer])) as receiver:
        outcome = deliver_to(port_of(receiver))
    assert outcome.status == status
    assert outcome.detail
    assert caplog.records == []


def test_messages_of_apprise_are_masked() -> None:
    """Some services repeat their address in a message: every part of it that can be a secret is hidden."""
    chat = ChatSettings.model_validate({"name": "room", "url": f"slack://T1JJ3T3L2/{SECRET}/TIiajkdnlazkc/#general"})
    masked = _masked(f"Failed to reach https://hooks.example/T1JJ3T3L2/{SECRET}/TIiajkdnlazkc, error=503.", chat)
    assert masked == "Failed to reach hxxps://hooks.example/(hidden)/(hidden)/(hidden), error=503."


def test_nobody_listens() -> None:
    """A refused connection looks to Apprise like any other broken one."""
    assert deliver_to(free_port()).status == "unknown"


def test_an_unknown_address_is_an_error_before_the_crawl() -> None:
    """An address that Apprise does not understand is reported by the name of the chat only."""
    chats = [chat_of(1), ChatSettings.model_validate({"name": "typo", "url": f"slck://{SECRET}"})]
    with pytest.raises(ChatError, match="the url of the chat typo is no address that Apprise knows") as caught:
        check(chats)
    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 2


def test_apprise_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, settings with chats are an error that names it, and settings without chats are not."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    check([])
    with pytest.raises(ChatError, match=r"chat needs the extra `chat`: pip install 'kmsledger\[chat\]'"):
        check([chat_of(1)])


def test_a_chat_that_cannot_work_stops_a_delivery_before_it_begins(folder: Path) -> None:
    """No recipient stays claimed because of a wrong setting."""
    typo = ChatSettings.model_validate({"name": "typo", "url": f"slck://{SECRET}"})
    with run_post() as post:
        settings = settings_of(folder, post.port).model_copy(update={"chat": (typo,)})
        with pytest.raises(ChatError, match="the chat typo"):
            deliver(settings)
    assert post.delivered == []
    assert log_of(settings) == {}


def test_the_delivery_log_covers_chats(folder: Path) -> None:
    """A text is sent once per run, and alone if there is no mail."""
    with run_receiver() as receiver:
        settings = settings_of(folder, 1).model_copy(update={"mail": None, "chat": (chat_of(port_of(receiver)),)})
        assert deliver(settings)
        assert deliver(settings)
        assert deliver(settings, resend=True)
    assert len(receiver.requests) == 2
    assert log_of(settings) == {"chat:security": "sent"}
