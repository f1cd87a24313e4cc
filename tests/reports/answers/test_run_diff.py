"""The output of `kmsledger diff` for real ledgers."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from models.errors import UserError
from models.settings import Settings
from models.tables import Alias, Key, KeyGrant, KeyMetadata, KeyRotation, KeyRotationEvent, Resource, Tag
from reports.answers.change_event import to_json
from reports.answers.questions.diff import diff as diff_command
from reports.answers.run_diff import RunDiff, diff
from reports.mart.build import build
from reports.rules.testing.builders import root_statement
from tests.reports.answers.sample_organization import LOCAL
from tests.reports.ledger_builder import LedgerBuilder
from tests.reports.mart_schema import offer_schema
from tests.reports.sample_ledger import HOSTILE, vendor_statement
from tests.reports.scenarios import crawl_side_by_side

SHOP, IRELAND = "111122223333", "eu-west-1"
ACCOUNTS = EDITS, REVERTED, UNREAD, FIRST_READ, DELETED, HOSTILE_NAMES = tuple(f"{n:012d}" for n in range(1, 7))
"""One account for each scenario."""
CONTROL_CHARACTERS = "\x1b]0;owned\x07\x9b31m\u202e"
INVOICES = f"arn:aws:kms:{IRELAND}:{SHOP}:key/00000000-0000-4000-8000-000000000002"
Compare = Callable[[str, str, str], RunDiff]


def k1(account: str) -> str:
    return f"arn:aws:kms:{IRELAND}:{account}:key/k1"


def k2(account: str) -> str:
    return f"arn:aws:kms:{IRELAND}:{account}:key/k2"


def secret(account: str) -> str:
    return f"arn:aws:secretsmanager:{IRELAND}:{account}:secret:db-AbCdEf"


def _two_keys(world: LedgerBuilder, account: str) -> None:
    """An account with two keys, before its first crawl."""
    world.account(account, "Shop", IRELAND)
    world.key(account, IRELAND, "k1")
    world.key(account, IRELAND, "k2")
    world.alias("alias/one", k1(account))
    world.tag(k1(account), Owner="me")
    world.grant(k1(account), "g1", grantee_principal=f"arn:aws:iam::{account}:role/app")
    world.uses(world.secret(account, IRELAND, "db"), k1(account), role="secret")


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mart of all scenarios of this file."""
    folder = tmp_path_factory.mktemp("scenarios")
    world = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    for account in ACCOUNTS:
        _two_keys(world, account)
    crawl_side_by_side(
        world,
        _edits(world),
        _reverted(world),
        _unread(world),
        _first_read(world),
        _deleted(world),
        _hostile_names(world),
    )
    offer_schema(folder / "mart.duckdb")
    build(world.url, folder / "mart.duckdb", Settings())
    return folder / "mart.duckdb"


@pytest.fixture(scope="module")
def compare(scenarios: Path) -> Compare:
    """The differences of an account between two runs, computed once for all accounts."""

    @cache
    def of_all(start: str, end: str) -> RunDiff:
        return diff(scenarios, start, end)

    def of_account(account: str, start: str, end: str) -> RunDiff:
        every = of_all(start, end)
        assert {event.account_id for event in every.events} | {gap.account_id for gap in every.gaps} <= set(ACCOUNTS)
        events = [event for event in every.events if event.account_id == account]
        return replace(every, events=events, gaps=[gap for gap in every.gaps if gap.account_id == account])

    return of_account


def event_lines(difference: RunDiff) -> list[str]:
    return [line for event in difference.events for line in event.text_lines("")]


def run(mart: Path, *arguments: str) -> Result:
    return CliRunner().invoke(diff_command, ["--mart", str(mart), *arguments], catch_exceptions=False)


def test_the_sample_as_text(sample_mart: Path) -> None:
    """Differences grouped by account-region and key, the message first and details indented; unknown items at the end."""
    done = run(sample_mart)
    assert done.exit_code == 0
    assert (
        done.output
        == """\
From run 2 (finished 2026-11-21 03:04 UTC) to run 3 (finished 2026-11-22 03:04 UTC):

Shop (111122223333), eu-west-1
  arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000002
    Key alias/invoices in Shop (111122223333, eu-west-1) was scheduled for deletion on 2026-12-21.
      state: Enabled → PendingDeletion
      enabled: yes → no
      deletion date: - → 2026-12-21 22:10
  arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000003
    Alias alias/orders moved from key 00000000-0000-4000-8000-000000000001 to key 00000000-0000-4000-8000-000000000003.
    Secret shop/db now uses key alias/orders (was alias/aws/secretsmanager).
      role: secret
  arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000008
    Tag DataTier=database was removed from key alias/everywhere.

R&D <img src=x onerror=alert(1)> (444455556666), eu-west-1
  arn:aws:kms:eu-west-1:444455556666:key/00000000-0000-4000-8000-000000000005
    The policy of key alias/lake was opened to account 754581900792 (Checkmarx): kms:Decrypt, kms:Encrypt.
      + statement Vendor: Allow 754581900792: kms:Decrypt, kms:Encrypt

5 differences.

Unknown; the last known state was used:
  Shop (111122223333), global: s3:GetEncryptionConfiguration of arn:aws:s3:::shop-hidden: in both runs: \
a policy explicitly denies the request
  Locked (222233334444), eu-west-1: nothing was read: in both runs: the role does not exist or does not trust the crawler
  R&D <img src=x onerror=alert(1)> (444455556666), eu-west-1: kms:GetKeyPolicy, kms:GetKeyRotationStatus, \
kms:ListGrants, kms:ListResourceTags of arn:aws:kms:eu-west-1:444455556666:key/00000000-0000-4000-8000-000000000011: \
in both runs: the key policy neither delegates the request to IAM nor allows it to the crawler's role
"""
    )


@pytest.fixture(scope="module")
def document(sample_mart: Path) -> dict[str, Any]:
    """The differences of the sample's first and last run as JSON."""
    parsed: dict[str, Any] = json.loads(
        run(sample_mart, "--from", "2026-11-20", "--to", "3", "--format", "json").output
    )
    return parsed


def test_the_sample_as_json(document: dict[str, Any]) -> None:
    """JSON has every field of every difference; statements are objects, times ISO 8601."""
    assert document.keys() == {"format", "from", "to", "filters", "differences", "unknown"}
    assert document["format"] == "kmsledger.diff/1"
    assert (document["from"]["run_id"], document["to"]["finished_at"]) == (1, "2026-11-22T03:04:00Z")
    assert document["filters"] == {"key_arns": None, "account_ids": None}
    event_types = [event["event_type"] for event in document["differences"]]
    assert event_types == [
        "account_joined",
        "deletion_scheduled",
        "alias_moved",
        "rekeyed",
        "tag_removed",
        "policy_opened",
    ]
    assert {frozenset(event) for event in document["differences"]} == {
        frozenset(
            (
                *(
                    "run_id",
                    "occurred_at",
                    "event_type",
                    "severity",
                    "account_id",
                    "account_name",
                    "region",
                    "key_arn",
                    "resource_arn",
                ),
                *("subject", "message", "before", "after", "until_run", "details"),
            )
        )
    }
    state = document["differences"][1]
    assert state["details"][2] == {
        "name": "deletion date",
        "change": "changed",
        "before": None,
        "after": "2026-12-21T22:10:00Z",
    }
    statement = document["differences"][-1]["details"][0]
    assert (statement["change"], statement["after"]["Sid"], statement["before"]) == ("added", "Vendor", None)
    payments = next(gap for gap in document["unknown"] if gap["account_id"] == "000123456789")
    assert payments == {
        "account_id": "000123456789",
        "account_name": "Payments",
        "region": IRELAND,
        "actions": [],
        "subjects": [],
        "from": "it was not crawled",
        "to": None,
    }


def test_filters_by_key_and_account(sample_mart: Path) -> None:
    """An alias that moved selects both of its keys, and each of the two selects the move."""
    moved = diff(sample_mart, key="alias/orders")
    assert [event.event_type for event in moved.events] == ["alias_moved", "rekeyed"]
    assert moved.gaps == []
    assert [event.event_type for event in diff(sample_mart, key=INVOICES[:-1] + "1").events] == ["alias_moved"]
    shop = diff(sample_mart, account="shop")
    assert len(shop.events) == 4
    assert {event.account_id for event in shop.events} == {gap.account_id for gap in shop.gaps} == {SHOP}


@pytest.mark.parametrize(
    ("filters", "key_arns", "account_ids"),
    [
        ({"key": INVOICES}, [INVOICES], None),
        ({"key": "invoices"}, [INVOICES], None),
        ({"key": f"arn:aws:kms:{IRELAND}:{SHOP}:alias/invoices"}, [INVOICES], None),
        ({"account": "444455556666"}, None, ["444455556666"]),
        ({"account": "shop"}, None, [SHOP]),
        ({"account": "Payments"}, None, ["000123456789"]),
    ],
)
def test_names_of_keys_and_accounts(
    sample_mart: Path, filters: dict[str, str], key_arns: list[str] | None, account_ids: list[str] | None
) -> None:
    """A key is an ARN, ID or alias, an account an ID or name; between a run and itself there are no differences."""
    same = diff(sample_mart, "3", "3", **filters)
    assert same.filters == {"key_arns": key_arns, "account_ids": account_ids}
    assert same.events == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--key", "alias/order"], "did you mean alias/orders?"),
        (["--key", "nonsense-xyz"], "SELECT alias, key_arn FROM keys"),
        (["--key", "alias/aws/rds"], "never pointed at a key"),
        (["--key", "alias/lake", "--account", SHOP], "there is no key or alias 'alias/lake'"),
        (["--account", "Shopp"], "did you mean Shop (111122223333)?"),
        (["--account", "zzz"], "SELECT account_id, name FROM accounts"),
        (["--from", "3", "--to", "1"], "pass the earlier run to --from"),
        (["--from", "2020-01-01"], "the first is run 1"),
    ],
)
def test_usage_errors(sample_mart: Path, arguments: list[str], expected: str) -> None:
    """Unknown names and invalid runs are usage errors (exit code 2) with a suggestion."""
    with pytest.raises(UserError) as caught:
        run(sample_mart, *arguments)
    assert caught.value.exit_code == 2
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def _edits(world: LedgerBuilder) -> Iterator[None]:
    yield
    due = dt.datetime(2026, 12, 24, tzinfo=dt.UTC)
    world.change(KeyMetadata, k1(EDITS), state="PendingDeletion", enabled=False, deletion_date=due, description="old")
    world.change(KeyMetadata, k2(EDITS), key_material_id="m2")
    world.change(KeyRotation, k1(EDITS), status="disabled", period_days=None)
    rotated = dt.datetime(2026, 11, 20, 22, 0, tzinfo=dt.UTC)
    world.add(KeyRotationEvent, key_arn=k2(EDITS), rotated_at=rotated, rotation_type="ON_DEMAND")
    world.policy(
        k1(EDITS), [root_statement(EDITS) | {"Action": ["kms:*", "kms:Decrypt"]}, vendor_statement("754581900792")]
    )
    world.remove(KeyGrant, k1(EDITS), "g1")
    world.grant(
        k1(EDITS), "g2", name="x", grantee_principal=f"arn:aws:iam::{EDITS}:role/b", constraints='{"SourceArn":"arn:x"}'
    )
    world.tag(k1(EDITS), Owner="you", Team="a")
    world.alias("alias/two", k1(EDITS))
    world.uses(world.database(EDITS, IRELAND, "orders"), k1(EDITS))
    world.uses(secret(EDITS), k2(EDITS), role="secret")
    yield


def test_everything_that_can_change_on_a_key(compare: Compare, scenarios: Path) -> None:
    """Metadata by field, the policy by statement, grants, tags, rotation, aliases and uses, each with its message."""
    lines = event_lines(compare(EDITS, "1", "2"))
    for expected in (
        [f"Key alias/one in Shop ({EDITS}, eu-west-1) was scheduled for deletion on 2026-12-24."],
        ["  state: Enabled → PendingDeletion", "  enabled: yes → no", "  deletion date: - → 2026-12-24 00:00"],
        ["Key alias/one changed: description.", "  description: - → old"],
        ["Key k2 changed: key material.", "  key material: - → m2"],
        [
            "Automatic rotation of key alias/one was disabled.",
            "  status: enabled → disabled",
            "  days between rotations: 365 → -",
        ],
        ["Key k2 was rotated on 2026-11-20 22:00 UTC.", "  rotation: ON_DEMAND"],
        ["The policy of key alias/one was opened to account 754581900792 (Checkmarx): kms:Decrypt, kms:Encrypt."],
        [
            (
                "The policy of key alias/one was changed: added statement Enable IAM policies, statement Vendor; removed "
                "statement Enable IAM policies."
            ),
            "  ~ statement Enable IAM policies:",
            "    + action: kms:Decrypt",
            "  + statement Vendor: Allow 754581900792: kms:Decrypt, kms:Encrypt",
        ],
        [
            f"A grant was removed from key alias/one for arn:aws:iam::{EDITS}:role/app: Decrypt, GenerateDataKey.",
            "  grant: g1",
            f"  issuing account: arn:aws:iam::{EDITS}:root",
            "  created: 2025-03-01 12:00",
        ],
        [
            f"A grant was added to key alias/one for arn:aws:iam::{EDITS}:role/b: Decrypt, GenerateDataKey.",
            "  grant: g2",
            "  name: x",
            f"  issuing account: arn:aws:iam::{EDITS}:root",
            '  constraints: {"SourceArn": "arn:x"}',
        ],
        ["Tag Owner of key alias/one is now you (was me)."],
        ["Tag Team=a was added to key alias/one."],
        ["Alias alias/two was created for key k1."],
        [f"RDS DB instance orders in Shop ({EDITS}, eu-west-1) was created.", f"  key for storage: {k1(EDITS)}"],
        ["Secret db now uses key k2 (was alias/one).", "  role: secret"],
    ):
        index = lines.index(expected[0])
        assert lines[index : index + len(expected)] == expected
    filtered = diff(scenarios, "1", "2", key=k1(EDITS))
    assert {"resource_created", "rekeyed"} <= {event.event_type for event in filtered.events}
    assert not any("k2 was rotated" in event.message for event in filtered.events)


def _reverted(world: LedgerBuilder) -> Iterator[None]:
    key = k1(REVERTED)
    yield
    world.change(KeyMetadata, key, state="Disabled", enabled=False)
    world.tag(key, Owner="you", Team="x")
    world.alias("alias/one", k2(REVERTED))
    world.grant(key, "g9", grantee_principal="arn:aws:iam::999900001111:root")
    world.remove(Tag, key, "Owner")
    world.change(KeyMetadata, k2(REVERTED), description="b")
    yield
    world.change(KeyMetadata, key, state="Enabled", enabled=True)
    world.remove(Tag, key, "Team")
    world.tag(key, Owner="me")
    world.alias("alias/one", key)
    world.remove(KeyGrant, key, "g9")
    world.change(KeyMetadata, k2(REVERTED), description="c")
    yield


def test_only_net_differences_are_reported(compare: Compare) -> None:
    """A change that was reverted is no difference; two changes of a fact are one difference."""
    assert event_lines(compare(REVERTED, "1", "3")) == ["Key k2 changed: description.", "  description: - → c"]
    assert len(compare(REVERTED, "1", "2").events) > 4


def _unread(world: LedgerBuilder) -> Iterator[None]:
    yield
    world.gap(UNREAD, IRELAND, "kms:ListGrants", k1(UNREAD), "key_policy")
    world.change(KeyMetadata, k2(UNREAD), description="seen")
    yield
    world.end_gaps(UNREAD)
    world.outcomes[UNREAD, IRELAND] = ("failed", "the role does not exist")
    yield


def test_unknown_facts_are_neither_removed_nor_added(compare: Compare) -> None:
    """A gap in either run is reported with its cause; the affected grants, tags and keys are not compared."""
    second = compare(UNREAD, "1", "2")
    assert [event.event_type for event in second.events] == ["metadata_changed"]
    assert [gap.text_line("") for gap in second.gaps] == [
        (
            f"Shop ({UNREAD}), eu-west-1: kms:ListGrants of {k1(UNREAD)}: in the second run: the key policy "
            "neither delegates the request to IAM nor allows it to the crawler's role"
        )
    ]
    third = compare(UNREAD, "1", "3")
    assert [event.event_type for event in third.events] == ["metadata_changed"]
    assert [gap.text_line("") for gap in third.gaps] == [
        f"Shop ({UNREAD}), eu-west-1: nothing was read: in the second run: the role does not exist"
    ]


def _first_read(world: LedgerBuilder) -> Iterator[None]:
    for action in ("kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyPolicy"):
        world.gap(FIRST_READ, IRELAND, action, k1(FIRST_READ), "throttled")
    yield
    for action in ("kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyPolicy"):
        world.gap(FIRST_READ, IRELAND, action, k1(FIRST_READ), "key_policy")
    yield
    world.end_gaps(FIRST_READ)
    yield


def test_facts_read_for_the_first_time_are_not_additions(compare: Compare) -> None:
    """Grants, tags and policies with a gap since the first run, even for changing causes, are not additions."""
    for runs in (("1", "3"), ("2", "3"), ("1", "2")):
        assert event_lines(compare(FIRST_READ, *runs)) == []
    assert [gap.end for gap in compare(FIRST_READ, "1", "3").gaps] == [None]


def _deleted(world: LedgerBuilder) -> Iterator[None]:
    yield
    world.remove(Key, k1(DELETED))
    world.remove(Alias, f"arn:aws:kms:{IRELAND}:{DELETED}:alias/one")
    world.remove(Resource, secret(DELETED))
    yield
    _two_keys(world, DELETED)
    yield


def test_a_deleted_and_a_listed_again_key(compare: Compare) -> None:
    """A key ends with its facts; a key that is listed again is not reported as created."""
    assert [event.message for event in compare(DELETED, "1", "2").events] == [
        f"Key alias/one in Shop ({DELETED}, eu-west-1) no longer exists.",
        f"Secret db in Shop ({DELETED}, eu-west-1) no longer exists.",
    ]
    assert event_lines(compare(DELETED, "1", "3")) == []
    assert f"Key alias/one in Shop ({DELETED}, eu-west-1) is listed again." in event_lines(compare(DELETED, "2", "3"))


def test_a_first_run_has_nothing_to_compare_with(mart_path: Path) -> None:
    """A single run is not an error, as text and as JSON."""
    text = "Run 1 (finished 2026-11-20 03:04 UTC) is the first run: there is no earlier run to compare it with."
    assert run(mart_path).output == f"{text}\n"
    key_id = LOCAL.rpartition("/")[2]
    document = json.loads(run(mart_path, "--format", "json", "--key", key_id).output)
    assert (document["from"], document["differences"], document["filters"]["key_arns"]) == (None, [], [LOCAL])
    assert run(mart_path, "--from", "1", "--account", SHOP).output.splitlines()[-1] == "No differences."


def test_the_sample_as_csv(sample_mart: Path, document: dict[str, Any]) -> None:
    """CSV has one row per difference; a line on standard error states that unknown items are omitted."""
    done = run(sample_mart, "--from", "2026-11-20", "--to", "3", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["message"] for row in rows] == [event["message"] for event in document["differences"]]
    assert set(rows[0]) == set(document["differences"][0])
    assert done.stderr == f"{len(document['unknown'])} unknown items were not compared: --format json lists them\n"


def _hostile_names(world: LedgerBuilder) -> Iterator[None]:
    yield
    world.tag(k1(HOSTILE_NAMES), **{CONTROL_CHARACTERS: CONTROL_CHARACTERS})
    world.change(KeyMetadata, k1(HOSTILE_NAMES), description=CONTROL_CHARACTERS + HOSTILE)
    world.policy(k1(HOSTILE_NAMES), [root_statement(HOSTILE_NAMES) | {"Sid": CONTROL_CHARACTERS}])
    world.grant(
        k1(HOSTILE_NAMES), "g" + CONTROL_CHARACTERS, name=CONTROL_CHARACTERS, grantee_principal=CONTROL_CHARACTERS
    )
    world.gap(HOSTILE_NAMES, IRELAND, f"kms:{CONTROL_CHARACTERS}", k1(HOSTILE_NAMES))
    yield


def test_control_characters_are_escaped(compare: Compare) -> None:
    """Control and bidirectional characters of names, tags and policies are escaped in every format."""
    difference = compare(HOSTILE_NAMES, "1", "2")
    assert len(difference.events) >= 4
    for output in (difference.to_text(), to_json(difference.to_dict())):
        assert "owned" in output
        assert all(character.isprintable() for character in output.replace("\n", ""))
