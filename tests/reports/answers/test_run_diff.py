"""What `kmsledger diff` says, word for word, of real ledgers."""

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
from reports.answers.cli import diff as diff_command
from reports.answers.run_diff import Difference, diff
from reports.mart.build import build
from tests.reports.ledger_builder import World, root_statement
from tests.reports.sample_ledger import HOSTILE, sample_ledger, vendor_statement

SHOP, IRELAND = "111122223333", "eu-west-1"
K1, K2 = (f"arn:aws:kms:{IRELAND}:{SHOP}:key/{name}" for name in ("k1", "k2"))
SECRET = f"arn:aws:secretsmanager:{IRELAND}:{SHOP}:secret:db-AbCdEf"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One account with two keys, not yet crawled."""
    world = World(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    world.key(SHOP, IRELAND, "k1")
    world.key(SHOP, IRELAND, "k2")
    world.alias("alias/one", K1)
    world.tag(K1, Owner="me")
    world.grant(K1, "g1", grantee_principal=f"arn:aws:iam::{SHOP}:role/app")
    world.uses(world.secret(SHOP, IRELAND, "db"), K1, role="secret")
    return world


def compare(world: World, *moments: str, **narrowed: str) -> Difference:
    path = Path(world.url.removeprefix("sqlite:///")).with_name(f"mart{world.nights}.duckdb")
    if not path.exists():  # there was a crawl since
        build(world.url, path, Settings())
    return diff(path, *moments, **narrowed)


def told(difference: Difference) -> list[str]:
    return [line for event in difference.events for line in event.lines("")]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    build(sample_ledger(folder / "ledger.db"), folder / "mart.duckdb", Settings())
    return folder / "mart.duckdb"


def run(mart: Path, *arguments: str) -> Result:
    return CliRunner().invoke(diff_command, ["--mart", str(mart), *arguments], catch_exceptions=False)


def test_the_sample_in_words(sample: Path) -> None:
    """Grouped by place and key: the sentence first, details further in, what is not known at the end."""
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

Not known, and therefore taken as it was last known:
  Shop (111122223333), global: s3:GetBucketEncryption of arn:aws:s3:::shop-hidden: in both runs, because \
a policy explicitly denies the request
  Locked (222233334444), eu-west-1: nothing was read: in both runs, because the role does not exist or does not trust the crawler
  R&D <img src=x onerror=alert(1)> (444455556666), eu-west-1: kms:GetKeyPolicy, kms:GetKeyRotationStatus, \
kms:ListGrants, kms:ListResourceTags of arn:aws:kms:eu-west-1:444455556666:key/00000000-0000-4000-8000-000000000011: \
in both runs, because the key policy neither delegates to IAM nor names the crawler's role
"""
    )


def test_the_sample_as_json(sample: Path) -> None:
    """JSON has every field of every difference; statements are objects, times ISO 8601."""
    document = json.loads(run(sample, "--from", "2026-11-20", "--to", "3", "--format", "json").output)
    assert document.keys() == {"format", "from", "to", "only", "differences", "not_known"}
    assert document["format"] == "kmsledger.diff/1"
    assert (document["from"]["run_id"], document["to"]["finished_at"]) == (1, "2026-11-22T03:04:00Z")
    assert document["only"] == {"key_arns": None, "account_ids": None}
    kinds = [one["kind"] for one in document["differences"]]
    assert kinds == ["account_joined", "deletion_scheduled", "alias_moved", "rekeyed", "tag_removed", "policy_opened"]
    assert {frozenset(one) for one in document["differences"]} == {
        frozenset(
            (
                *(
                    "run_id",
                    "at",
                    "kind",
                    "severity",
                    "account_id",
                    "account_name",
                    "region",
                    "key_arn",
                    "resource_arn",
                ),
                *("subject", "sentence", "before", "after", "until_run", "details"),
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
    payments = next(one for one in document["not_known"] if one["account_id"] == "000123456789")
    assert payments == {
        "account_id": "000123456789",
        "account_name": "Payments",
        "region": IRELAND,
        "actions": [],
        "subjects": [],
        "from": "it was not crawled",
        "to": None,
    }


def test_one_key_or_account_alone(sample: Path) -> None:
    """A key is named by ARN, id or alias, an account by id or name; an alias that moved means both of its keys."""
    arn = f"arn:aws:kms:{IRELAND}:{SHOP}:key/00000000-0000-4000-8000-000000000002"
    for name in (
        arn,
        arn.rpartition("/")[2],
        "alias/invoices",
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
    assert {one.account_id for one in diff(sample, account="shop").unknown} == {SHOP}
    assert diff(sample, key="alias/orders").unknown == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--key", "alias/order"], "did you mean alias/orders?"),
        (["--key", "nonsense-xyz"], "SELECT alias, key_arn FROM keys"),
        (["--key", "alias/aws/rds"], "never pointed at a key"),
        (["--key", "alias/lake", "--account", SHOP], "there is no key or alias 'alias/lake'"),
        (["--account", "Shopp"], "did you mean Shop (111122223333)?"),
        (["--account", "zzz"], "SELECT account_id, name FROM accounts"),
        (["--from", "3", "--to", "1"], "give the earlier one to --from"),
        (["--from", "2020-01-01"], "the first is run 1"),
    ],
)
def test_mistakes_are_one_sentence_with_a_way_out(sample: Path, arguments: list[str], expected: str) -> None:
    """What means nothing is wrong usage (exit code 2) with what was probably meant."""
    with pytest.raises(UserError) as caught:
        run(sample, *arguments)
    assert caught.value.exit_code == 2
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_everything_that_can_change_on_a_key(world: World) -> None:
    """Metadata field by field, policy statement by statement, grants, tags, rotation, aliases and uses, as sentences."""
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
    lines = told(compare(world))
    for expected in (
        ["Key alias/one in Shop (111122223333, eu-west-1) was scheduled for deletion on 2026-12-24."],
        ["  state: Enabled → PendingDeletion", "  enabled: yes → no", "  deletion date: - → 2026-12-24 00:00"],
        ["Key alias/one changed: description.", "  description: - → old"],
        ["Key k2 changed: key material.", "  key material: - → m2"],
        [
            "Automatic rotation of key alias/one was disabled.",
            "  status: on → off",
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
        at = lines.index(expected[0])
        assert lines[at : at + len(expected)] == expected
    narrowed = compare(world, key="k1")
    assert {"resource_created", "rekeyed"} <= {event.event_type for event in narrowed.events}
    assert not any("k2 was rotated" in event.message for event in narrowed.events)


def test_only_the_net_result_is_told(world: World) -> None:
    """What changed and changed back, came and went, is no difference; what changed twice is one."""
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
    assert told(compare(world, "1", "3")) == ["Key k2 changed: description.", "  description: - → c"]
    assert len(compare(world, "1", "2").events) > 4


def test_what_was_not_known_is_neither_removed_nor_added(world: World) -> None:
    """A refusal at either moment is stated with its cause; the last known grants, tags and keys stay uncompared."""
    world.crawl()
    world.gap(SHOP, IRELAND, "kms:ListGrants", K1, "key_policy")
    world.change(KeyMetadata, K2, description="seen")
    world.crawl()
    world.facts.pop(Gap)
    world.outcomes[SHOP, IRELAND] = ("failed", "the role does not exist")
    world.crawl()
    second = compare(world, "1", "2")
    assert [event.event_type for event in second.events] == ["metadata_changed"]
    assert [line for one in second.unknown for line in one.lines("")] == [
        (
            f"Shop (111122223333), eu-west-1: kms:ListGrants of {K1}: in the second run, because the key policy does not let "
            "the account's IAM policies decide, nor names our role"
        )
    ]
    third = compare(world, "1", "3")
    assert [event.event_type for event in third.events] == ["metadata_changed"]
    assert [line for one in third.unknown for line in one.lines("")] == [
        "Shop (111122223333), eu-west-1: nothing was read: in the second run, because the role does not exist"
    ]


def test_what_is_read_for_the_first_time_is_not_added(world: World) -> None:
    """Grants, tags and keys that had been refused since the first night, even for changing causes, are no additions."""
    for action in ("kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyPolicy"):
        world.gap(SHOP, IRELAND, action, K1, "throttled")
    world.crawl()
    for action in ("kms:ListGrants", "kms:ListResourceTags", "kms:GetKeyPolicy"):
        world.gap(SHOP, IRELAND, action, K1, "key_policy")
    world.crawl()
    world.facts.pop(Gap)
    world.crawl()
    for moments in (("1", "3"), ("2", "3"), ("1", "2")):
        assert told(compare(world, *moments)) == []
    assert [one.end for one in compare(world, "1", "3").unknown] == [None]


def test_a_key_that_is_gone_and_one_that_is_back(world: World) -> None:
    """A key goes with what belongs to it; listed again it is not called new."""
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
    assert told(compare(world, "1", "3")) == []
    assert "Key alias/one in Shop (111122223333, eu-west-1) is listed again." in told(compare(world, "2", "3"))


def test_a_first_run_has_nothing_to_be_compared_with(world: World) -> None:
    """One run is no error: it is said, with exit code 0, also as JSON."""
    world.crawl()
    assert compare(world).lines() == [
        "Run 1 (finished 2026-11-20 03:04 UTC) is the first one: there is nothing to compare it with yet."
    ]
    mart = Path(world.url.removeprefix("sqlite:///")).with_name("mart1.duckdb")
    document = json.loads(run(mart, "--format", "json", "--key", "k1").output)
    assert (document["from"], document["differences"], document["only"]["key_arns"]) == (None, [], [K1])
    assert run(mart, "--from", "1").output.splitlines()[-1] == "No differences."


def test_the_sample_as_csv(sample: Path) -> None:
    """CSV has one row per difference, and says on standard error that unknown items are left out."""
    arguments = ["--from", "2026-11-20", "--to", "3", "--format"]
    done = run(sample, *arguments, "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    document = json.loads(run(sample, *arguments, "json").output)
    assert [row["sentence"] for row in rows] == [each["sentence"] for each in document["differences"]]
    assert set(rows[0]) == set(document["differences"][0])
    assert done.stderr == f"{len(document['not_known'])} unknown items were not compared: --format json lists them\n"


@pytest.mark.parametrize("form", ["table", "json"])
def test_names_do_not_move_the_terminal(world: World, form: str) -> None:
    """Control characters and direction marks of names, tags and policies are written out, in every format."""
    evil = "\x1b]0;owned\x07\x9b31m\u202e"
    world.crawl()
    world.tag(K1, **{evil: evil})
    world.change(KeyMetadata, K1, description=evil + HOSTILE)
    world.policy(K1, [root_statement(SHOP) | {"Sid": evil}])
    world.grant(K1, "g" + evil, name=evil, grantee_principal=evil)
    world.gap(SHOP, IRELAND, f"kms:{evil}", K1)
    world.crawl()
    difference = compare(world)
    assert len(difference.events) >= 4
    mart = Path(world.url.removeprefix("sqlite:///")).with_name("mart2.duckdb")
    output: Any = run(mart, "--format", form).output
    assert "owned" in output
    assert all(character.isprintable() for character in output.replace("\n", ""))
