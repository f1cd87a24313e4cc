"""The output of `kmsledger history` for real ledgers."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from models.errors import UserError
from models.settings import Settings
from models.tables import Alias, Key, KeyMetadata, KeyRotationEvent, Resource
from reports.answers.change_event import to_json
from reports.answers.key_history import HistoryResult, history
from reports.answers.questions.history import history as history_command
from reports.mart.build import build
from reports.rules.testing.builders import root_statement
from tests import command
from tests.reports.ledger_builder import LedgerBuilder
from tests.reports.mart_schema import offer_schema
from tests.reports.sample_ledger import vendor_statement
from tests.reports.scenarios import crawl_side_by_side

IRELAND = "eu-west-1"
ACCOUNTS = LIVELY, RELISTED, UNREAD, SHARED_NAME, HOSTILE = tuple(f"{number:012d}" for number in range(1, 6))
"""One account for each scenario."""
CONTROL_CHARACTERS = "\x1b]0;owned\x07\x9b31m\u202e"


def key_arn(account: str, key_id: str) -> str:
    return f"arn:aws:kms:{IRELAND}:{account}:key/{key_id}"


def secret(account: str) -> str:
    return f"arn:aws:secretsmanager:{IRELAND}:{account}:secret:db-AbCdEf"


def _two_keys(world: LedgerBuilder, account: str) -> None:
    """An account with two keys, before its first crawl."""
    k1 = key_arn(account, "k1")
    world.account(account, "Shop", IRELAND)
    world.key(account, IRELAND, "k1", description="first")
    world.key(account, IRELAND, "k2")
    world.alias("alias/one", k1)
    world.uses(world.secret(account, IRELAND, "db"), k1, role="secret")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> LedgerBuilder:
    """The ledger of all scenarios of this file."""
    world = LedgerBuilder(f"sqlite:///{tmp_path_factory.mktemp('scenarios') / 'ledger.db'}")
    for account in ACCOUNTS:
        _two_keys(world, account)
    world.alias("alias/shared", key_arn(RELISTED, "k2"))
    world.alias("alias/shared", key_arn(SHARED_NAME, "k2"))
    crawl_side_by_side(world, _lively(world), _relisted(world), _unread(world), _hostile(world))
    return world


@pytest.fixture(scope="module")
def mart(world: LedgerBuilder) -> Path:
    """The mart of all scenarios of this file."""
    path = Path(world.url.removeprefix("sqlite:///")).with_name("mart.duckdb")
    offer_schema(path)
    build(world.url, path, Settings())
    return path


def event_lines(result: HistoryResult) -> list[str]:
    """The events of a single key, without its first facts."""
    (key,) = result.keys
    return [f"{event.run_id}: {line}" for event in key.events[1:] for line in event.text_lines("")]


def run(mart: Path, *arguments: str) -> Result:
    return CliRunner().invoke(history_command, ["--mart", str(mart), *arguments], catch_exceptions=False)


def test_a_key_of_the_sample_as_text(sample_mart: Path) -> None:
    """Aliases with all their targets, the first facts, changes by run with details, and the current state."""
    result = run(sample_mart, "00000000-0000-4000-8000-000000000003")
    assert result.exit_code == 0
    assert (
        result.output
        == """\
Key arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000003
  in Shop (111122223333), eu-west-1
  alias/orders: key 00000000-0000-4000-8000-000000000001 since run 1 (2026-11-20) until run 3 (2026-11-22)
  alias/orders: key 00000000-0000-4000-8000-000000000003 since run 3 (2026-11-22)

Run 1, 2026-11-20 03:00 UTC
  Key 00000000-0000-4000-8000-000000000003 in Shop (111122223333, eu-west-1) was first seen.
    state: Enabled
    manager: CUSTOMER
    description: orders, new key
    key usage: ENCRYPT_DECRYPT
    key spec: SYMMETRIC_DEFAULT
    origin: AWS_KMS
    created: 2026-10-22 12:00
    rotation: enabled, every 365 days
    statement Enable IAM policies: Allow arn:aws:iam::111122223333:root: kms:*

Run 3, 2026-11-22 03:00 UTC
  Alias alias/orders moved from key 00000000-0000-4000-8000-000000000001 to key 00000000-0000-4000-8000-000000000003.
  Secret shop/db now uses key alias/orders (was alias/aws/secretsmanager).

As of run 3 (finished 2026-11-22 03:04 UTC)
  state Enabled, rotation enabled, 0 grants, used by 1 resource, aliases: alias/orders
"""
    )


@pytest.fixture(scope="module")
def document(sample_mart: Path) -> dict[str, Any]:
    """The history of an alias of the sample as JSON."""
    parsed: dict[str, Any] = json.loads(run(sample_mart, "orders", "--format", "json").output)
    return parsed


def test_an_alias_has_the_histories_of_all_its_keys(sample_mart: Path, document: dict[str, Any]) -> None:
    """The periods first, then each key in the order in which the alias pointed at it, as text and as JSON."""
    lines = run(sample_mart, "alias/orders").output.splitlines()
    assert lines[:3] == [
        "arn:aws:kms:eu-west-1:111122223333:alias/orders pointed at",
        "  key 00000000-0000-4000-8000-000000000001 since run 1 (2026-11-20) until run 3 (2026-11-22)",
        "  key 00000000-0000-4000-8000-000000000003 since run 3 (2026-11-22)",
    ]
    assert [line.rpartition("/")[2] for line in lines if line.startswith("Key ")] == [
        "00000000-0000-4000-8000-000000000001",
        "00000000-0000-4000-8000-000000000003",
    ]
    assert document["format"] == "kmsledger.history/1"
    assert document["alias_arn"] == "arn:aws:kms:eu-west-1:111122223333:alias/orders"
    assert [len(key["aliases"]) for key in document["keys"]] == [2, 2]
    assert document["keys"][0]["aliases"][0]["until"] == "2026-11-22T03:00:00Z"
    assert [event["event_type"] for event in document["keys"][1]["events"]] == ["first_seen", "alias_moved", "rekeyed"]
    assert document["keys"][1]["current"]["freshness"] == "current"


def test_the_history_as_csv(sample_mart: Path, document: dict[str, Any]) -> None:
    """CSV has one row per event of each key."""
    rows = list(csv.DictReader(io.StringIO(run(sample_mart, "orders", "--format", "csv").output)))
    events = [event for key in document["keys"] for event in key["events"]]
    assert [(row["key_arn"], row["message"]) for row in rows] == [
        (event["key_arn"], event["message"]) for event in events
    ]


def _lively(world: LedgerBuilder) -> Iterator[None]:
    yield
    key = world.key(LIVELY, IRELAND, "k3")
    yield
    world.alias("alias/one", key, updated_at=dt.datetime(2026, 11, 21, tzinfo=dt.UTC))
    world.change(KeyMetadata, key, description="later", key_material_id="m2")
    world.policy(key, [root_statement(LIVELY), vendor_statement("754581900792")])
    world.uses(world.database(LIVELY, IRELAND, "orders"), key)
    world.uses(secret(LIVELY), key, role="secret")
    yield
    world.change(KeyMetadata, key, key_material_id="m3")
    rotated = dt.datetime(2026, 11, 22, 22, 0, tzinfo=dt.UTC)
    world.add(KeyRotationEvent, key_arn=key, rotated_at=rotated, rotation_type="AUTOMATIC")
    world.grant(key, "g1", grantee_principal=f"arn:aws:iam::{LIVELY}:role/b")
    world.remove(Resource, f"arn:aws:rds:{IRELAND}:{LIVELY}:db:orders")
    world.uses(secret(LIVELY), None, "unknown", role="secret")
    yield
    world.uses(secret(LIVELY), key, role="secret")
    yield
    world.remove(Key, key)
    world.remove(Alias, f"arn:aws:kms:{IRELAND}:{LIVELY}:alias/one")
    world.uses(secret(LIVELY), key, "dangling", role="secret")
    yield


def test_a_complete_history(mart: Path) -> None:
    """Creation, changes, uses, rotation and deletion, each in the run that saw it, with details."""
    result = history(mart, key_arn(LIVELY, "k3"))
    assert result.keys[0].events[0].message == f"Key k3 in Shop ({LIVELY}, eu-west-1) was created."
    assert result.keys[0].current is None
    assert result.to_text().endswith("\n  The key no longer exists.")
    expected = [
        "3: The policy of key alias/one was opened to account 754581900792 (Checkmarx): kms:Decrypt, kms:Encrypt.",
        "3:   + statement Vendor: Allow 754581900792: kms:Decrypt, kms:Encrypt",
        "3: Alias alias/one moved from key k1 to key k3.",
        "3: Key alias/one changed: description.",
        "3:   description: - → later",
        "3:   key material: - → m2",
        "3: Secret db now uses key k3 (was k1).",
        "3: RDS DB instance orders, a new resource, uses key alias/one.",
        "3:   role: storage",
        f"4: A grant was added to key alias/one for arn:aws:iam::{LIVELY}:role/b: Decrypt, GenerateDataKey.",
        "4:   grant: g1",
        f"4:   issuing account: arn:aws:iam::{LIVELY}:root",
        "4:   created: 2025-03-01 12:00",
        "4: Key alias/one changed: key material.",
        "4:   key material: m2 → m3",
        "4: Key alias/one was rotated on 2026-11-22 22:00 UTC.",
        "4:   rotation: AUTOMATIC",
        "4: RDS DB instance orders, which used key alias/one, no longer exists.",
        "4:   role: storage",
        "4: Secret db is no longer known to use key alias/one.",
        "4:   role: secret",
        "5: Secret db is now known to use key alias/one.",
        "5:   role: secret",
        f"6: Key alias/one in Shop ({LIVELY}, eu-west-1) no longer exists.",
        "6: Secret db uses key alias/one, which no longer exists.",
    ]
    assert sorted(event_lines(result)) == sorted(expected)


def _relisted(world: LedgerBuilder) -> Iterator[None]:
    yield
    world.remove(Key, key_arn(RELISTED, "k1"))
    world.remove(Alias, f"arn:aws:kms:{IRELAND}:{RELISTED}:alias/one")
    yield
    _two_keys(world, RELISTED)
    yield


def test_a_key_that_is_listed_again(mart: Path) -> None:
    """Relisting is an event with the facts of that run, and the key has a current state again."""
    again = history(mart, f"arn:aws:kms:{IRELAND}:{RELISTED}:alias/one").keys[0]
    assert [event.message for event in again.events if event.run_id == 3][:1] == [
        f"Key alias/one in Shop ({RELISTED}, eu-west-1) is listed again."
    ]
    relisted = next(event for event in again.events if event.event_type == "key_created")
    assert ("state", "Enabled") in {
        (detail.name, detail.after) for detail in relisted.details if detail.name == "state"
    }
    assert again.current is not None


def _unread(world: LedgerBuilder) -> Iterator[None]:
    for action in ("kms:GetKeyPolicy", "kms:ListGrants"):
        world.gap(UNREAD, IRELAND, action, key_arn(UNREAD, "k2"), "throttled")
    yield
    world.end_gaps(UNREAD)
    world.gap(UNREAD, IRELAND, "kms:GetKeyPolicy", key_arn(UNREAD, "k2"), "key_policy")
    yield
    world.end_gaps(UNREAD)
    yield
    world.outcomes[UNREAD, IRELAND] = ("failed", "the role does not exist")
    yield
    yield
    world.outcomes[UNREAD, IRELAND] = ("complete", None)
    yield
    world.gap(UNREAD, IRELAND, "kms:DescribeKey", key_arn(UNREAD, "k2"), "denied")
    yield


def test_gaps_have_a_start_and_an_end(mart: Path) -> None:
    """Gaps with start, end and cause, failed runs of the account-region, and facts that were read for the first time."""
    denied = "the key policy neither delegates the request to IAM nor allows it to the crawler's role"
    assert event_lines(history(mart, key_arn(UNREAD, "k2"))) == [
        (
            "1: From then until run 2 (2026-11-21 03:00 UTC) kms:GetKeyPolicy, kms:ListGrants could not be read: AWS throttled "
            "the request until the retries were exhausted."
        ),
        "2: kms:ListGrants could be read for key k2 for the first time.",
        f"2: From then until run 3 (2026-11-22 03:00 UTC) kms:GetKeyPolicy could not be read: {denied}.",
        "3: kms:GetKeyPolicy could be read for key k2 for the first time.",
        f"3:   statement Enable IAM policies: Allow arn:aws:iam::{UNREAD}:root: kms:*",
        (
            "4: From then until run 6 (2026-11-25 03:00 UTC) the account-region could not be read: the role does not "
            "exist."
        ),
        "7: Since then kms:DescribeKey could not be read: access was denied without a reason.",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("00000000-0000-4000-8000-000000000008", "is the ID of 2 keys: specify the ARN: arn:aws:kms:eu-west-1:"),
        ("alias/order", "did you mean alias/orders?"),
        ("arn:aws:kms:eu-west-1:111122223333:key/nope", "there is no key or alias"),
        ("alias/aws/rds", "never pointed at a key"),
        ("", "there is no key or alias ''"),
    ],
)
def test_unknown_and_ambiguous_names(sample_mart: Path, name: str, expected: str) -> None:
    """Unknown names have a suggestion, ambiguous names a list of ARNs."""
    with pytest.raises(UserError) as caught:
        run(sample_mart, name)
    assert caught.value.exit_code == 2
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_alias_name_in_several_accounts_is_ambiguous(mart: Path) -> None:
    """The same alias name in two accounts is ambiguous; the alias ARN is not."""
    with pytest.raises(
        UserError, match=f"2 aliases 'alias/shared': specify the ARN: arn:aws:kms:eu-west-1:{RELISTED}:"
    ):
        history(mart, "alias/shared")
    (key,) = history(mart, f"arn:aws:kms:{IRELAND}:{SHARED_NAME}:alias/shared").keys
    assert key.key_arn == key_arn(SHARED_NAME, "k2")


def _hostile(world: LedgerBuilder) -> Iterator[None]:
    world.alias("alias/hostile" + CONTROL_CHARACTERS, key_arn(HOSTILE, "k1"))
    yield
    world.tag(key_arn(HOSTILE, "k1"), **{CONTROL_CHARACTERS: CONTROL_CHARACTERS})
    world.change(KeyMetadata, key_arn(HOSTILE, "k1"), description=CONTROL_CHARACTERS)
    world.policy(
        key_arn(HOSTILE, "k1"),
        [root_statement(HOSTILE) | {"Sid": CONTROL_CHARACTERS, "Principal": {"AWS": CONTROL_CHARACTERS}}],
    )
    world.change(Resource, secret(HOSTILE), name=CONTROL_CHARACTERS)
    world.uses(secret(HOSTILE), key_arn(HOSTILE, "k2"), role="secret")
    yield


def test_control_characters_are_escaped(mart: Path) -> None:
    """Control and bidirectional characters are escaped in the history and in suggestions, in every format."""
    result = history(mart, key_arn(HOSTILE, "k1"))
    for output in (result.to_text(), to_json(result.to_dict())):
        assert output.count("owned") > 5
        assert all(character.isprintable() for character in output.replace("\n", ""))
    with pytest.raises(UserError, match="did you mean alias/hostile") as caught:
        run(mart, "alias/hostil]0;owned")
    assert str(caught.value).isprintable()


def test_the_command_line(world: LedgerBuilder, mart: Path, tmp_path: Path) -> None:
    """The command with a settings file: exit codes, one-line errors on standard error, no traceback."""
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"database: {world.url}\nreport:\n  mart: {mart}\n", encoding="utf-8")

    def kmsledger(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command.run(*arguments, "--config", str(config), env=os.environ)

    for arguments in (
        ["history", f"arn:aws:kms:{IRELAND}:{RELISTED}:alias/one"],
        ["history", "k3", "--format", "json"],
        ["diff"],
    ):
        result = kmsledger(*arguments)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout
    for arguments in (["history", "alias/two"], ["diff", "--from", "8"], ["sql", "--as-of", "1999-01-01", "SELECT 1"]):
        result = kmsledger(*arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("kmsledger: ")
        assert result.stderr.count("\n") == 1
