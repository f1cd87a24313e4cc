"""Profiles as files: those that are shipped, a user's own, and mistakes with their file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.mart.connection import connect
from reports.pipeline import refresh
from reports.vendors.assignments import uses
from reports.vendors.profile import VendorProfileError, load_profiles, read_profile
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import World, root_statement, settings_of

OWN = """\
id: acme-backup
vendor: Acme
title: Acme Backup
severity: high
about: Acme copies what is encrypted.
parameters:
  vendor_account: {about: The account of Acme., default: "222233334444"}
keys:
  found_by: vendor_account
needs:
  - title: decryption
    account: "{vendor_account}"
    actions: ["kms:Decrypt", "kms:DescribeKey"]
    statement: {Sid: Acme, Effect: Allow, Principal: {AWS: "{vendor_account}"}, Action: "kms:Decrypt", Resource: "*"}
scenarios:
  unshared: {effect: No backups., fix: Share it.}
  disabled: {effect: No backups., fix: Enable it., days: 3}
  pending_deletion: {effect: No backups., fix: Cancel it.}
  deleted: {effect: No backups., fix: None.}
  unusable: {effect: No backups., fix: Repair it.}
"""


def test_three_vendors_are_shipped() -> None:
    """Each is complete: needs, statements to set, and every scenario."""
    assert set(load_profiles()) == {"checkmarx-one", "cerby", "plerion"}


def test_a_profile_of_ones_own(world: World, tmp_path: Path) -> None:
    """It is found in a directory of the settings and judges keys like the shipped ones."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "acme.yaml").write_text(OWN)
    use = {"Sid": "acme", "Effect": "Allow", "Principal": {"AWS": "222233334444"}, "Resource": "*"}
    both = {**use, "Action": ["kms:Decrypt", "kms:DescribeKey"]}
    for number, statement in enumerate(({**use, "Action": "kms:Decrypt"}, both)):
        policy = [root_statement(SHOP), statement]
        world.key(SHOP, IRELAND, f"11111111-0000-4000-8000-00000000000{number}", policy=policy)
    world.crawl()
    mart = tmp_path / "mart.duckdb"
    refresh(settings_of(database=world.url, report={"mart": mart}, vendors={"directories": [tmp_path / "profiles"]}))
    with connect(mart) as connection:
        rows = connection.execute(
            "SELECT result, severity FROM vendor_checks WHERE profile = 'acme-backup' AND subject_type = 'key' ORDER BY key_arn"
        ).fetchall()
    # The settings do not name it: what it finds by itself is no alarm.
    assert rows == [("blocked_by_policy", "medium"), ("accessible", "info")]


@pytest.mark.parametrize(
    ("wrong", "right", "line", "words"),
    [
        ("severity: grave", "severity: high", 4, "'critical', 'high'"),
        ("vendorr: Acme", "vendor: Acme", 2, "an unknown key"),
        ('"kms:Decript"', '"kms:Decrypt", "kms:DescribeKey"', 13, "an action of AWS KMS"),
        ('"{account}"', '"{vendor_account}"\n    actions', 12, "a placeholder"),
        ("found_by: luck", "found_by: vendor_account", 9, "'vendor_account'"),
        ("days: soon", "days: 3", 17, "a whole number"),
    ],
)
def test_a_mistake_has_its_file_and_line(tmp_path: Path, wrong: str, right: str, line: int, words: str) -> None:
    """The message says where, what was found and what was expected."""
    file = tmp_path / "acme.yaml"
    replacement = f"{wrong}\n    actions" if "actions" in right else wrong
    file.write_text(OWN.replace(right, replacement, 1))
    with pytest.raises(VendorProfileError) as error:
        read_profile(file)
    first = str(error.value).splitlines()
    assert any(message.startswith(f"{file}:{line}:") and words in message for message in first), str(error.value)


@pytest.mark.parametrize(
    ("vendors", "words"),
    [
        ({"profiles": {"acme": {}}}, "vendors.profiles.acme is a use of acme, which is no profile"),
        ({"profiles": {"cerby": {"parameters": {"rolle": "x"}}}}, "sets rolle, which is no parameter of cerby"),
        ({"profiles": {"plerion": {"parameters": {"mode": "SOME"}}}}, "expected ALL_KEYS or SELECTED_KEYS"),
        ({"directories": [Path("/nowhere")]}, "vendors.directories names /nowhere"),
    ],
)
def test_settings_that_fit_no_profile(vendors: dict[str, Any], words: str) -> None:
    """What the settings say of profiles is checked against them."""
    with pytest.raises(VendorProfileError, match=words):
        uses(settings_of(database="sqlite:///x.db", vendors=vendors))
