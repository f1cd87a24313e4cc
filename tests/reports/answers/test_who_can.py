"""Who can use a key or read a secret, compared with results worked out by hand from the organization's policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.answers.access_paths import AccessPath
from reports.answers.change_event import json_value
from reports.answers.repository import Facts
from reports.answers.who_can import who_can
from reports.answers.who_can_result import Answer, PrincipalAccess
from reports.mart.errors import QueryError
from tests.reports.answers.conftest import EXPIRED, VALID, WhoCan
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
    """Answer and principal to its access paths to the key: path, statement or grant, identity policies."""
    (key,) = answer.keys
    principals = [each.principal for each in key.principals if each.principal_type != "account"]
    assert len(principals) == len(set(principals))
    return {label(each): {as_row(path) for path in each.access_paths} for each in key.principals}


def secret_table(answer: Answer) -> Table:
    """Answer and principal to its access paths to the secret."""
    (key,) = answer.keys
    return {label(each): {as_row(path) for path in each.resource_access_paths} for each in key.principals}


def label(each: PrincipalAccess) -> tuple[str, str]:
    return each.answer, f"account {each.account_id}" if each.principal_type == "account" else each.principal


def as_row(path: AccessPath) -> tuple[str, str, tuple[str, ...]]:
    return path.path, path.source_id, path.identity_policies


def test_a_key_with_policies_of_two_accounts_and_a_grant(run_who_can: WhoCan) -> None:
    """Root users and the identities whose policies, boundary, denials and tags allow it, once with all their access paths."""
    assert table(run_who_can("decrypt", "alias/shared")) == {
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


def test_a_key_when_iam_was_not_collected(run_who_can_without_iam: WhoCan) -> None:
    """Access is conditional on the accounts' IAM, with the reason, and no identities are listed but the named ones."""
    answer = run_who_can_without_iam("decrypt", SHARED)
    assert table(answer) == {
        ("conditional", f"account {DATA}"): {("policy", ROOT, ())},
        ("conditional", f"account {SHOP}"): {("policy", "Shop", ())},
        ("conditional", who(SHOP, "role/app")): {("policy", "App", ())},
        ("conditional", who(SHOP, "role/batch")): {("grant", GRANT, ())},
    }
    assert not answer.known
    reasons = {each.account_id: each.reason for each in answer.keys[0].principals if each.principal_type == "account"}
    assert f"Access depends on the IAM policies of account {DATA}; IAM was not collected" in reasons[DATA]
    assert "so the principals are unknown" in reasons[SHOP]


def test_a_key_that_names_its_users_needs_no_iam(run_who_can: WhoCan, run_who_can_without_iam: WhoCan) -> None:
    """A role of the key's account that the policy names has access with and without IAM; nobody can administer the key."""
    expected = {("yes", who(DATA, "role/reader")): {("policy", "Reader", ())}}
    assert table(run_who_can("DECRYPT", NAMED)) == expected
    assert table(run_who_can_without_iam("kms:decrypt", NAMED)) == expected
    assert run_who_can("administer", NAMED).keys[0].principals == []


def test_a_condition_on_the_service_restricts(run_who_can: WhoCan) -> None:
    """The path states the service that it is limited to; a Deny in the identity's own policy removes its path."""
    principals = {each.principal: each for each in run_who_can("decrypt", LOCAL).keys[0].principals}
    (path,) = principals[who(SHOP, "role/named")].access_paths
    assert path.conditions == "only through secretsmanager.eu-west-1.amazonaws.com"
    assert who(SHOP, "user/eve") not in principals
    assert who(SHOP, "role/bounded") not in principals
    assert principals[f"arn:aws:iam::{VENDOR}:root"].access_paths[0].source_id == VENDORS_GRANT


def test_a_key_whose_policy_cannot_be_read(run_who_can: WhoCan) -> None:
    """The answer is unknown with the reason, and an empty list is not reported as nobody."""
    answer = run_who_can("use", UNREAD)
    assert (answer.keys[0].principals, answer.known) == ([], False)
    policy, grants = answer.keys[0].unknown
    assert "the key policy neither delegates the request to IAM nor allows it to the crawler's role" in policy
    assert grants.startswith("grants on key")
    assert "No known principals." in answer.to_text()


def test_readers_of_a_secret_under_a_key_of_another_account(run_who_can: WhoCan) -> None:
    """Both sides must allow it: app can read secrets but not decrypt, and keys-only can decrypt but not read secrets."""
    answer = run_who_can("decrypt", "app")
    assert table(answer) == {
        ("yes", who(SHOP, "root")): {("policy", "Shop", ())},
        ("yes", who(SHOP, "role/batch")): {
            ("policy", "Shop", ("inline policy own (#1)",)),
            ("grant", GRANT, ("inline policy own (#1)",)),
        },
        ("yes", who(SHOP, "user/ada")): {("policy", "Shop", ("policy everything of group admins (#0)",))},
    }
    assert secret_table(answer)["yes", who(SHOP, "role/batch")] == {("iam", "", ("inline policy own (#0)",))}
    assert answer.known


def test_readers_of_a_secret_with_a_policy_of_its_own(run_who_can: WhoCan) -> None:
    """The secret's Deny excludes batch; the account that it allows cannot decrypt; named decrypts through the service."""
    answer = run_who_can("use", secret("own"))
    assert answer.question.startswith("Who can read secret own")
    assert table(answer) == {
        ("yes", who(SHOP, "root")): {("policy", ROOT, ())},
        ("yes", who(SHOP, "role/named")): {("policy", "Secrets", ())},
        ("yes", who(SHOP, "user/ada")): {("policy", ROOT, ("policy everything of group admins (#0)",))},
    }


def test_readers_of_a_secret_when_iam_was_not_collected(run_who_can_without_iam: WhoCan) -> None:
    """Named principals and the account, each with the IAM policies that access depends on."""
    answer = run_who_can_without_iam("decrypt", secret("own"))
    assert table(answer) == {
        ("conditional", f"account {SHOP}"): {("policy", ROOT, ())},
        ("conditional", who(SHOP, "role/named")): {("policy", ROOT, ()), ("policy", "Secrets", ())},
    }
    assert all("IAM was not collected" in each.reason for each in answer.keys[0].principals)
    assert not answer.known


def test_readers_of_a_secret_under_the_aws_managed_key(run_who_can: WhoCan) -> None:
    """Every identity of the account that can call Secrets Manager, except those whose own IAM denies decryption."""
    answer = run_who_can("decrypt", "default")
    names = {principal.rpartition("/")[2] for _, principal in table(answer)}
    assert names == {who(SHOP, "root"), "app", "batch", "named", "bounded", "ada"}
    assert any("AWS managed key" in note for note in answer.notes)


def test_a_permissions_boundary_removes_access(run_who_can: WhoCan) -> None:
    """The bounded role cannot use keys that delegate to IAM; its access by a policy for everyone is unknown."""
    assert not any(each.principal.endswith("bounded") for each in run_who_can("use", SHARED).keys[0].principals)
    principals = run_who_can("decrypt", "default").keys[0].principals
    (bounded,) = [each for each in principals if each.principal.endswith("bounded")]
    assert (bounded.answer, "permissions boundary" in bounded.reason) == ("unknown", True)


def test_a_database_has_the_users_of_its_key_and_a_note(run_who_can: WhoCan) -> None:
    """A note states that clients of the database need no permission on the key."""
    answer = run_who_can("decrypt", "orders")
    assert answer.keys[0].key_arn == LOCAL
    assert answer.keys[0].role == "storage"
    assert any("grant" in note and "database" in note for note in answer.notes)
    assert any("Service control policies" in note for note in answer.notes)


@pytest.mark.parametrize(
    ("operation", "target", "expected"),
    [
        ("decypt", LOCAL, "did you mean Decrypt"),
        ("kms:ListKeys", LOCAL, "does not act on a key"),
        ("decrypt", "alias/lokal", "did you mean alias/local"),
        ("decrypt", "oders", "did you mean orders"),
        ("decrypt", "\x1b[2J", "there is no key"),
    ],
)
def test_an_unknown_operation_or_target(run_who_can: WhoCan, operation: str, target: str, expected: str) -> None:
    """The error is one printable sentence with a suggestion, and exit code 2."""
    with pytest.raises(QueryError, match=expected) as raised:
        run_who_can(operation, target)
    assert raised.value.exit_code == 2
    assert str(raised.value).isprintable()


def test_json_has_stable_names(run_who_can: WhoCan) -> None:
    """The field names are a contract."""
    document = json_value(run_who_can("decrypt", "app"))
    assert list(document) == ["format", "as_of", "question", "target", "target_type", "operations", "keys", "notes"]
    assert (document["format"], document["operations"]) == ("kmsledger.who-can/1", [DECRYPT])
    (key,) = document["keys"]
    assert list(key) == ["key_arn", "key_name", "key_state", "role", "principals", "unknown"]
    assert " ".join(key["principals"][0]) == (
        "principal principal_type account_id account_name party access answer message reason operations access_paths "
        "resource_access_paths"
    )
    assert (
        " ".join(key["principals"][0]["access_paths"][0])
        == "path source_id operations conditions identity_policies needs_iam certain reason"
    )


def test_other_accounts_need_a_policy_that_names_them(run_who_can: WhoCan) -> None:
    """A visitor whose own IAM allows everything has no access to a key that does not allow its account."""
    assert not any(each.account_id == OTHER for each in run_who_can("use", LOCAL).keys[0].principals)


def test_a_time_that_has_passed_allows_nobody(without_denials: Path) -> None:
    """The time of the run decides about conditions on aws:CurrentTime (IAM user guide, global condition keys)."""
    assert table(who_can(without_denials, "decrypt", EXPIRED)) == {}
    found = table(who_can(without_denials, "decrypt", VALID))
    assert {principal for _, principal in found} == {f"account {VENDOR}"}


def test_as_of_an_earlier_run(mart_path: Path, run_who_can: WhoCan) -> None:
    """The answer as of a run is the answer of that run; an unknown run is an error."""
    assert table(who_can(mart_path, "decrypt", SHARED, as_of="1")) == table(run_who_can("decrypt", SHARED))
    with pytest.raises(QueryError, match="there is no run 9"):
        who_can(mart_path, "decrypt", SHARED, as_of="9")


def test_agrees_with_the_stored_access(run_who_can: WhoCan, facts: Facts) -> None:
    """The users and roles that view key_access names are also in the live answer."""
    query = (
        "SELECT DISTINCT principal FROM internal.key_access WHERE key_arn = $key AND path = 'iam' AND access <> 'unknown' "
        "AND list_contains(operations, 'kms:Decrypt')"
    )
    for key_arn in (SHARED, LOCAL):
        stored = {row[0] for row in facts.duck.execute(query, {"key": key_arn}).fetchall()}
        live = {each.principal for each in run_who_can("decrypt", key_arn).keys[0].principals if each.answer == "yes"}
        assert stored <= live
