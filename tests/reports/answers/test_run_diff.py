"""The output of `kmsledger diff` for real ledgers."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from models.errors import UserError
from models.settings import Settings
from models.tables import Alias, Gap, Key, KeyGrant, KeyMetadata, KeyRotation, KeyRotationEvent, Resource, Tag
from reports.answers.questions.diff import diff as diff_command
from reports.answers.run_diff import RunDiff, diff
from reports.mart.build import build
from reports.rules.testing.builders import root_statement
from tests.reports.ledger_builder import LedgerBuilder
from tests.reports.mart_schema import offer_schema
from tests.reports.sample_ledger import HOSTILE, sample_ledger, vendor_statement

SHOP, IRELAND = "111122223333", "eu-west-1"
K1, K2 = (f"arn:aws:kms:{IRELAND}:{SHOP}:key/{name}" for name in ("k1", "k2"))
SECRET = f"arn:aws:secretsmanager:{IRELAND}:{SHOP}:secret:db-AbCdEf"


@pytest.fixture
def world(tmp_path: Path) -> LedgerBuilder:
    """One account with two keys, before its first crawl."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    world.key(SHOP, IRELAND, "k1")
    world.key(SHOP, IRELAND, "k2")
    world.alias("alias/one", K1)
    world.tag(K1, Owner="me")
    world.grant(K1, "g1", grantee_principal=f"arn:aws:iam::{SHOP}:role/app")
    world.uses(world.secret(SHOP, IRELAND, "db"), K1, role="secret")
    return world


def compare(world: LedgerBuilder, *runs: str, **filters: str) -> RunDiff:
    path = Path(world.url.removeprefix("sqlite:///")).with_name(f"mart{world.runs}.duckdb")
    if not path.exists():  # crawled since the last build
        offer_schema(path)
        build(world.url, path, Settings())
    return diff(path, *runs, **filters)


def event_lines(difference: RunDiff) -> list[str]:
    return [line for event in difference.events for line in event.text_lines("")]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    offer_schema(folder / "mart.duckdb")
    build(sample_ledger(folder / "ledger.db"), folder / "mart.duckdb", Settings())
    return folder / "mart.duckdb"


def run(mart: Path, *arguments: str) -> Result:
    return CliRunner().invoke(diff_command, ["--mart", str(mart), *arguments], catch_exceptions=False)


def test_the_sample_as_text(sample: Path) -> None:
    """Differences grouped by account-region and key, the message first and details indented; unknown items at the end."""
    done = run(sample)
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


def test_the_sample_as_json(sample: Path) -> None:
    """JSON has every field of every difference; statements are objects, times ISO 8601."""
    document = json.loads(run(sample, "--from", "2026-11-20", "--to", "3", "--format", "json").output)
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


def test_filters_by_key_and_account(sample: Path) -> None:
    """A key is an ARN, ID or alias, an account an ID or name; an alias that moved selects both of its keys."""
    arn = f"arn:aws:kms:{IRELAND}:{SHOP}:key/00000000-0000-4000-8000-000000000002"
    for name in (
        arn,
        "invoices",
        f"arn:aws:kms:{IRELAND}:{SHOP}:alias/invoices",
    ):
        assert [event.event_type for event in diff(sample, key=name).events] == ["deletion_scheduled"]
    assert [event.event_type for event in diff(sample, key="alias/orders").events] == ["alias_moved", "rekeyed"]
    first = diff(sample, key=f"arn:aws:kms:{IRELAND}:{SHOP}:key/00000000-0000-4000-8000-000000000001")
    assert [event.event_type for event in first.events] == ["alias_moved"]
    old = diff(sample, key="alias/aws/secretsmanager")
    assert [event.message for event in old.events] == [
        "Secret shop/db now uses key alias/orders (was alias/aws/secretsmanager)."
    ]
    assert [event.event_type for event in diff(sample, account="444455556666").events] == ["policy_opened"]
    assert len(diff(sample, account="shop").events) == 4
    assert diff(sample, account="Payments").events == []
    assert {gap.account_id for gap in diff(sample, account="shop").gaps} == {SHOP}
    assert diff(sample, key="alias/orders").gaps == []


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
def test_usage_errors(sample: Path, arguments: list[str], expected: str) -> None:
    """Unknown names and invalid runs are usage errors (exit code 2) with a suggestion."""
    with pytest.raises(UserError) as caught:
        run(sample, *arguments)
    assert caught.value.exit_code == 2
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_everything_that_can_change_on_a_key(world: LedgerBuilder) -> None:
    """Metadata by field, the policy by statement, grants, tags, rotation, aliases and uses, each with its message."""
    world.crawl()
    due = dt.datetime(2026, 12, 24, tzinfo=dt.UTC)
    world.change(KeyMetadata, K1, state="PendingDeletion", enabled=False, deletion_date=due, description="old")
    world.change(KeyMetadata, K2, key_material_id="m2")
    world.change(KeyRotation, K1, status="disabled", period_days=None)
    rotated = dt.datetime(2026, 11, 20, 22, 0, tzinfo=dt.UTC)
    world.add(KeyRotationEvent, key_arn=K2, rotated_at=rotated, rotation_type="ON_DEMAND")
    world.policy(K1, [root_statement(SHOP) | {"Action": ["kms:*", "kms:Decrypt"]}, vendor_statement("754581900792")])
    world.remove(KeyGrant, K1, "g1")
    world.grant(
        K1, "g2", name="x", grantee_principal=f"arn:aws:iam::{SHOP}:role/b", constraints='{"SourceArn":"arn:x"}'
    )
    world.tag(K1, Owner="you", Team="a")
    world.alias("alias/two", K1)
    world.uses(world.database(SHOP, IRELAND, "orders"), K1)
    world.uses(SECRET, K2, role="secret")
    world.crawl()
    lines = event_lines(compare(world))
    for expected in (
        ["Key alias/one in Shop (111122223333, eu-west-1) was scheduled for deletion on 2026-12-24."],
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
            f"A grant was removed from key alias/one for arn:aws:iam::{SHOP}:role/app: Decrypt, GenerateDataKey.",
            "  grant: g1",
            f"  issuing account: arn:aws:iam::{SHOP}:root",
            "  created: 2025-03-01 12:00",
        ],
        [
            f"A grant was added to key alias/one for arn:aws:iam::{SHOP}:role/b: Decrypt, GenerateDataKey.",
            "  grant: g2",
            "  name: x",
            f"  issuing account: arn:aws:iam::{SHOP}:root",
            '  constraints: {"SourceArn": "arn:x"}',
        ],
        ["Tag Owner of key alias/one is now you (was me)."],
        ["Tag Team=a was added to key alias/one."],
        ["Alias alias/two was created for key k1."],
        ["RDS DB instance orders in Shop (111122223333, eu-west-1) was created.", f"  key for storage: {K1}"],
        ["Secret db now uses key k2 (was alias/one).", "  role: secret"],
    ):
        index = lines.index(expected[0])
        assert lines[index : index + len(expected)] == expected
    filtered = compare(world, key="k1")
    assert {"resource_created", "rekeyed"} <= {event.event_type for event in filtered.events}
    assert not any("k2 was rotated" in event.message for event in filtered.events)


def test_only_net_differences_are_reported(world: LedgerBuilder) -> None:
    """A change that was reverted is no difference; two changes of a fact are one difference."""
    world.crawl()
    world.change(KeyMetadata, K1, state="Disabled", enabled=False)
    world.tag(K1, Owner="you", Team="x")
    world.alias("alias/one", K2)
    world.grant(K1, "g9", grantee_principal="arn:aws:iam::999900001111:root")
    world.remove(Tag, K1, "Owner")
    world.change(KeyMetadata, K2, description="b")
    world.crawl()
    world.change(KeyMetadata, K1, state="Enabled", enabled=True)
    world.remove(Tag, K1, "Team")
    world.tag(K1, Owner="me")
    world.alias("alias/one", K1)
    world.remove(KeyGrant, K1, "g9")
    world.change(KeyMetadata, K2, description="c")
    world.crawl()
    assert event_lines(compare(world, "1", "3")) == ["Key k2 changed: description.", "  description: - → c"]
    assert len(compare(world, "1", "2").events) > 4


def test_unknown_facts_are_neither_removed_nor_added(world: LedgerBuilder) -> None:
    """A gap in either run is reported with its cause; the affected grants, tags and keys are not compared."""
    world.crawl()
    world.gap(SHOP, IRELAND, "kms:ListGrants", K1, "key_policy")
    world.change(KeyMetadata, K2, description="seen")
    world.crawl()
    world.facts.pop(Gap)
    world.outcomes[SHOP, IRELAND] = ("failed", "the role does not exist")
    world.crawl()
    second = compare(world, "1", "2")
    assert [event.event_type for event in second.events] == ["metadata_changed"]
    assert [gap.text_line("") for gap in second.gaps] == [
        (
            f"Shop (111122223333), eu-west-1: kms:ListGrants of {K1}: in the second run: the key policy "
            "neither delegates the request to IAM nor allows it to the crawler's role"
        )
    ]
    third = compare(world, "1", "3")
    assert [event.event_type for event in third.events] == ["metadata_changed"]
    assert [gap.text_line("") for gap in third.gaps] == [
        "Shop (111122223333), eu-west-1: nothing was read: in the second run: the role does not exist"
    ]


def test_facts_read_for_the_first_time_are_not_additions(world: LedgerBuilder) -> None:
    """Grants, tags and policies with a gap since the first run, even for changing causes, are not additions."""
    for action in ("kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyPolicy"):
        world.gap(SHOP, IRELAND, action, K1, "throttled")
    world.crawl()
    for action in ("kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyPolicy"):
        world.gap(SHOP, IRELAND, action, K1, "key_policy")
    world.crawl()
    world.facts.pop(Gap)
    world.crawl()
    for runs in (("1", "3"), ("2", "3"), ("1", "2")):
        assert event_lines(compare(world, *runs)) == []
    assert [gap.end for gap in compare(world, "1", "3").gaps] == [None]


def test_a_deleted_and_a_listed_again_key(world: LedgerBuilder) -> None:
    """A key ends with its facts; a key that is listed again is not reported as created."""
    world.crawl()
    facts = {model: dict(rows) for model, rows in world.facts.items()}
    world.remove(Key, K1)
    world.remove(Alias, f"arn:aws:kms:{IRELAND}:{SHOP}:alias/one")
    world.remove(Resource, SECRET)
    world.crawl()
    world.facts = facts
    world.crawl()
    assert [event.message for event in compare(world, "1", "2").events] == [
        "Key alias/one in Shop (111122223333, eu-west-1) no longer exists.",
        "Secret db in Shop (111122223333, eu-west-1) no longer exists.",
    ]
    assert event_lines(compare(world, "1", "3")) == []
    assert "Key alias/one in Shop (111122223333, eu-west-1) is listed again." in event_lines(compare(world, "2", "3"))


def test_a_first_run_has_nothing_to_compare_with(world: LedgerBuilder) -> None:
    """A single run is not an error, as text and as JSON."""
    world.crawl()
    assert (
        compare(world).to_text()
        == "Run 1 (finished 2026-11-20 03:04 UTC) is the first run: there is no earlier run to compare it with."
    )
    mart = Path(world.url.removeprefix("sqlite:///")).with_name("mart1.duckdb")
    document = json.loads(run(mart, "--format", "json", "--key", "k1").output)
    assert (document["from"], document["differences"], document["filters"]["key_arns"]) == (None, [], [K1])
    assert run(mart, "--from", "1").output.splitlines()[-1] == "No differences."


def test_the_sample_as_csv(sample: Path) -> None:
    """CSV has one row per difference; a line on standard error states that unknown items are omitted."""
    arguments = ["--from", "2026-11-20", "--to", "3", "--format"]
    done = run(sample, *arguments, "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    document = json.loads(run(sample, *arguments, "json").output)
    assert [row["message"] for row in rows] == [event["message"] for event in document["differences"]]
    assert set(rows[0]) == set(document["differences"][0])
    assert done.stderr == f"{len(document['unknown'])} unknown items were not compared: --format json lists them\n"


def test_control_characters_are_escaped(world: LedgerBuilder) -> None:
    """Control and bidirectional characters of names, tags and policies are escaped in every format."""
    hostile = "\x1b]0;owned\x07\x9b31m\u202e"
    world.crawl()
    world.tag(K1, **{hostile: hostile})
    world.change(KeyMetadata, K1, description=hostile + HOSTILE)
    world.policy(K1, [root_statement(SHOP) | {"Sid": hostile}])
    world.grant(K1, "g" + hostile, name=hostile, grantee_principal=hostile)
    world.gap(SHOP, IRELAND, f"kms:{hostile}", K1)
    world.crawl()
    difference = compare(world)
    assert len(difference.events) >= 4
    mart = Path(world.url.removeprefix("sqlite:///")).with_name("mart2.duckdb")
    for output_format in ("table", "json"):
        output: Any = run(mart, "--format", output_format).output
        assert "owned" in output
        assert all(character.isprintable() for character in output.replace("\n", ""))
