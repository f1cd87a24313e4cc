"""Passwords of database URLs are masked in every message, wherever they are in the URL."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.safe_text import masked_url
from models.settings import Settings
from models.store.engine import DatabaseError, connect, shown, without_passwords

SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12).map(
    lambda t: f"Zq7{t}7qZ"
)
NAMES = st.sampled_from(["password", "sslpassword", "PASSWORD", "pass%77ord", "ssl%70assword"])
OTHERS = st.lists(st.sampled_from(["sslmode=require", "application_name=a%40b", "connect_timeout=1"]), max_size=2)


@given(user=SECRETS, query=SECRETS, name=NAMES, others=OTHERS, port=st.sampled_from(["", ":5432"]))
@example(user="Zq7a7qZ", query="Zq7x@y7qZ", name="password", others=[], port=":5432")
@example(user="Zq7password=a7qZ", query="Zq7&7qZ", name="sslpassword", others=["application_name=a%40b"], port="")
def test_no_message_has_a_password_of_the_url(user: str, query: str, name: str, others: list[str], port: str) -> None:
    """Summaries, representations and errors of drivers show *** for the passwords in the user part and in the query."""
    parameters = "&".join([*others[:1], f"{name}={quote(query, safe='@:/')}", *others[1:]])
    url = f"postgresql://crawler:{quote(user, safe='')}@db.example{port}/kms?{parameters}"
    settings = Settings.model_validate({"database": url})
    engine = connect(url)
    error = without_passwords(f'connection to "{user}" failed: {quote(query, safe="")} {query}', engine.url)
    texts = [masked_url(url), "\n".join(settings.summary()), repr(settings), shown(engine.url), error]
    engine.dispose()
    for text in texts:
        assert "Zq7" not in text, text
        assert "7qZ" not in text, text
    assert "crawler:***@db.example" in masked_url(url)
    assert shown(engine.url).count("***") == 2


@given(raw=SECRETS)
def test_an_invalid_url_is_masked_too(raw: str) -> None:
    """A password with characters that are not percent-encoded, which makes the URL invalid or ambiguous, is not shown."""
    assert "7qZ" not in masked_url(f"postgresql://crawler:{raw}@db.example/kms")


def test_a_url_that_is_none_is_one_sentence() -> None:
    """A URL that cannot be parsed is an error with the fix, without the password that was taken for a port."""
    with pytest.raises(DatabaseError, match="percent-encode special characters") as refused:
        connect("postgresql://crawler:Zq7/7qZ@db.example:port/kms")
    assert "Zq7" not in refused.value.message
    assert "7qZ" not in refused.value.message
