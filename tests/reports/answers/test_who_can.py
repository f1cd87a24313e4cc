"""Who can use a key or read a secret, against tables that were worked out by hand from the organization's policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.answers.repository import Facts
from reports.answers.who_can import who_can
from reports.answers.who_can_result import Answer
from reports.mart.errors import QueryError
from tests.reports.answers.conftest import Ask
from tests.reports.answers.sample_organization import (
    DATA,
    DECRYPT,
    LOCAL,
    NAMED,
    OTHER,
    SHARED,
    SHOP,
    UNREAD,
    VENDOR,
    secret,
    who,
)

GRANT, VENDORS_GRANT = "ab" * 32, "cd" * 32
ROOT = "Enable IAM policies"
Table = dict[tuple[str, str], set[tuple[str, str, tuple[str, ...]]]]


def table(answer: Answer) -> Table:
    """Answer and principal to its ways to the key: path, statement or grant, identity policies."""
    (one,) = answer.keys
    principals = [holder.principal for holder in one.holders if holder.kind != "account"]
    assert len(principals) == len(set(principals))
    return {
        (holder.answer, f"account {holder.account}" if holder.kind == "account" else holder.principal): {
            (way.path, way.via, way.identity) for way in holder.ways
        }
        for holder in one.holders
    }


def doors(answer: Answer) -> Table:
    """Answer and principal to its ways into the secret."""
    (one,) = answer.keys
    return {
        (holder.answer, f"account {holder.account}" if holder.kind == "account" else holder.principal): {
            (way.path, way.via, way.identity) for way in holder.resource_ways
        }
        for holder in one.holders
    }


def test_a_key_with_policies_of_two_accounts_and_a_grant(ask: Ask) -> None:
    """Root users, and whoever's own policies, boundary, denials and tags leave a way: each principal once, with each way."""
    assert table(ask("decrypt", "alias/shared")) == {
        ("yes", who(DATA, "root")): {("policy", ROOT, ())},
        ("yes", who(DATA, "user/tagged")): {("policy", ROOT, ("inline policy own (#0)",))},
        ("yes", who(SHOP, "root")): {("policy", "Shop", ())},
        ("yes", who(SHOP, "role/batch")): {
            ("policy", "Shop", ("inline policy own (#1)",)),
            ("grant", GRANT, ("inline policy own (#1)",)),
        },
        ("yes", who(SHOP, "role/keys-only")): {("policy", "Shop", ("inline policy own (#0)",))},
        ("yes", who(SHOP, "user/ada")): {("policy", "Shop", ("policy everything of group admins (#0)",))},
    }


def test_a_key_when_iam_was_not_collected(ask_without: Ask) -> None:
    """Then it depends on the accounts' IAM, which is said with the reason, and nobody is made up."""
    answer = ask_without("decrypt", SHARED)
    assert table(answer) == {
        ("depends", f"account {DATA}"): {("policy", ROOT, ())},
        ("depends", f"account {SHOP}"): {("policy", "Shop", ())},
        ("depends", who(SHOP, "role/app")): {("policy", "App", ())},
        ("depends", who(SHOP, "role/batch")): {("grant", GRANT, ())},
    }
    assert not answer.known
    reasons = {holder.account: holder.reason for holder in answer.keys[0].holders if holder.kind == "account"}
    assert f"The IAM policies of account {DATA} decide; IAM was not collected" in reasons[DATA]
    assert "so it is not known who" in reasons[SHOP]


def test_a_key_that_names_its_users_needs_no_iam(ask: Ask, ask_without: Ask) -> None:
    """A role of the key's account that the policy names can use it, whatever is known of IAM; administration is nobody's."""
    expected = {("yes", who(DATA, "role/reader")): {("policy", "Reader", ())}}
    assert table(ask("DECRYPT", NAMED)) == expected
    assert table(ask_without("kms:decrypt", NAMED)) == expected
    assert ask("administer", NAMED).keys[0].holders == []


def test_a_condition_on_the_service_narrows(ask: Ask) -> None:
    """What is allowed through one service only is told as that; a denial of the identity's own takes its way away."""
    holders = {holder.principal: holder for holder in ask("decrypt", LOCAL).keys[0].holders}
    (named,) = holders[who(SHOP, "role/named")].ways
    assert named.scope == "only through secretsmanager.eu-west-1.amazonaws.com"
    assert who(SHOP, "user/eve") not in holders
    assert who(SHOP, "role/bounded") not in holders
    assert holders[f"arn:aws:iam::{VENDOR}:root"].ways[0].via == VENDORS_GRANT


def test_a_key_whose_policy_cannot_be_read(ask: Ask) -> None:
    """It is unknown with its reason; that nobody is listed is never the same as nobody."""
    answer = ask("use", UNREAD)
    assert (answer.keys[0].holders, answer.known) == ([], False)
    policy, grants = answer.keys[0].unknown
    assert "the key policy neither delegates to IAM nor names the crawler's role" in policy
    assert grants.startswith("the grants on key")
    assert "Nobody that is known here." in "\n".join(answer.lines())


def test_readers_of_a_secret_under_a_key_of_another_account(ask: Ask) -> None:
    """Both sides have to open: app may read secrets but decrypt with nothing, keys-only the other way around."""
    answer = ask("decrypt", "app")
    assert table(answer) == {
        ("yes", who(SHOP, "root")): {("policy", "Shop", ())},
        ("yes", who(SHOP, "role/batch")): {
            ("policy", "Shop", ("inline policy own (#1)",)),
            ("grant", GRANT, ("inline policy own (#1)",)),
        },
        ("yes", who(SHOP, "user/ada")): {("policy", "Shop", ("policy everything of group admins (#0)",))},
    }
    assert doors(answer)["yes", who(SHOP, "role/batch")] == {("iam", "", ("inline policy own (#0)",))}
    assert answer.known


def test_readers_of_a_secret_with_a_policy_of_its_own(ask: Ask) -> None:
    """The secret's Deny keeps batch out; the account that it lets in cannot decrypt; named decrypts through the service."""
    answer = ask("use", secret("own"))
    assert answer.question.startswith("Who can read secret own")
    assert table(answer) == {
        ("yes", who(SHOP, "root")): {("policy", ROOT, ())},
        ("yes", who(SHOP, "role/named")): {("policy", "Secrets", ())},
        ("yes", who(SHOP, "user/ada")): {("policy", ROOT, ("policy everything of group admins (#0)",))},
    }


def test_readers_of_a_secret_when_iam_was_not_collected(ask_without: Ask) -> None:
    """Named principals and the account as a whole, each with what it depends on."""
    answer = ask_without("decrypt", secret("own"))
    assert table(answer) == {
        ("depends", f"account {SHOP}"): {("policy", ROOT, ())},
        ("depends", who(SHOP, "role/named")): {("policy", ROOT, ()), ("policy", "Secrets", ())},
    }
    assert all("IAM was not collected" in holder.reason for holder in answer.keys[0].holders)
    assert not answer.known


def test_readers_of_a_secret_under_the_aws_managed_key(ask: Ask) -> None:
    """Everyone in the account who may call Secrets Manager: the key keeps nobody out but those whom their own IAM denies."""
    answer = ask("decrypt", "default")
    can = {principal.rpartition("/")[2] for _, principal in table(answer)}
    assert can == {who(SHOP, "root"), "app", "batch", "named", "bounded", "ada"}
    assert any("AWS managed key" in note for note in answer.notes)


def test_a_boundary_leaves_no_way_to_a_key(ask: Ask) -> None:
    """Its role cannot use keys that leave it to IAM; what a policy gives everyone it may or may not limit: not known."""
    assert not [one for one in ask("use", SHARED).keys[0].holders if one.principal.endswith("bounded")]
    (bounded,) = [one for one in ask("decrypt", "default").keys[0].holders if one.principal.endswith("bounded")]
    assert (bounded.answer, "permissions boundary" in bounded.reason) == ("unknown", True)


def test_a_database_tells_the_users_of_its_key_and_what_that_means(ask: Ask) -> None:
    """Whoever connects needs no right to the key: that is said."""
    answer = ask("decrypt", "orders")
    assert answer.keys[0].key_arn == LOCAL
    assert answer.keys[0].role == "storage"
    assert any("grant" in note and "database" in note for note in answer.notes)
    assert any("Service control policies" in note for note in answer.notes)


@pytest.mark.parametrize(
    ("operation", "what", "words"),
    [
        ("decypt", LOCAL, "did you mean Decrypt"),
        ("kms:ListKeys", LOCAL, "acts on no key"),
        ("decrypt", "alias/lokal", "did you mean alias/local"),
        ("decrypt", "oders", "did you mean orders"),
        ("decrypt", "\x1b[2J", "there is no key"),
    ],
)
def test_what_is_not_there(ask: Ask, operation: str, what: str, words: str) -> None:
    """One sentence with a suggestion, safe to print, and exit code 2."""
    with pytest.raises(QueryError, match=words) as raised:
        ask(operation, what)
    assert raised.value.exit_code == 2
    assert str(raised.value).isprintable()


def test_json_has_stable_names(ask: Ask) -> None:
    """The names of the fields are a contract."""
    told = ask("decrypt", "app").plain()
    assert list(told) == ["format", "as_of", "question", "what", "what_type", "operations", "keys", "notes"]
    assert (told["format"], told["operations"]) == ("kmsledger.who-can/1", [DECRYPT])
    (key,) = told["keys"]
    assert list(key) == ["key_arn", "key_name", "key_state", "role", "holders", "unknown"]
    assert " ".join(key["holders"][0]) == (
        "principal kind account_id account_name party access answer sentence reason operations ways resource_ways"
    )
    assert (
        " ".join(key["holders"][0]["ways"][0]) == "path via operations scope identity_policies needs_iam certain reason"
    )


def test_other_accounts_are_asked_when_a_policy_lets_them_in(ask: Ask) -> None:
    """A visitor whose own IAM allows everything gets nowhere where the key does not let its account in."""
    assert not any(holder.account == OTHER for holder in ask("use", LOCAL).keys[0].holders)


def test_as_of_an_earlier_run(mart_path: Path, ask: Ask) -> None:
    """The same question as of a run has the answer of that run; a run that never was is refused."""
    assert table(who_can(mart_path, "decrypt", SHARED, as_of="1")) == table(ask("decrypt", SHARED))
    with pytest.raises(QueryError, match="there is no run 9"):
        who_can(mart_path, "decrypt", SHARED, as_of="9")


def test_agrees_with_the_stored_access(ask: Ask, facts: Facts) -> None:
    """What view key_access tells of users and roles by name is what the live answer tells as well."""
    query = (
        "SELECT DISTINCT principal FROM internal.key_access WHERE key_arn = $key AND path = 'iam' AND access <> 'unknown' "
        "AND list_contains(operations, 'kms:Decrypt')"
    )
    for key_arn in (SHARED, LOCAL):
        stored = {row[0] for row in facts.duck.execute(query, {"key": key_arn}).fetchall()}
        live = {holder.principal for holder in ask("decrypt", key_arn).keys[0].holders if holder.answer == "yes"}
        assert stored <= live
