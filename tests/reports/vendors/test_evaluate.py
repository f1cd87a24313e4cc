"""Tests of vendor checks: every result from a small ledger, and unknown facts give an unknown result.

Independent scenarios are accounts of one organization, which is crawled and built once.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from models.hashing import canonical_json, content_hash
from models.tables import (
    IamInlinePolicy,
    IamPrincipal,
    IamScan,
    Key,
    KeyMetadata,
    ShadowTrail,
    Tag,
    Trail,
    TrailScan,
    TrailSelector,
    TrailStatus,
)
from reports.mart.connection import connect
from reports.rules.testing.builders import root_statement
from reports.vendors import evaluate
from reports.vendors.assignments import load_assignments
from reports.vendors.cli import check as check_command
from reports.vendors.cli import exit_code
from reports.vendors.queries import Facts
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import FIRST_RUN, LedgerBuilder, build_mart, settings_of

OHIO, OREGON = "us-east-2", "us-west-2"
CHECKMARX, CERBY = "754581900792", "749452252575"
CERBY_ROLE = f"arn:aws:iam::{CERBY}:role/production-kms-byo-key-access-role"
ROLE = f"arn:aws:iam::{SHOP}:role/Vendor"
USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
GRANT = ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"]
VAULT = ["kms:Encrypt", "kms:Decrypt", "kms:GetPublicKey", "kms:DescribeKey"]
ONLY_AWS = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
NAME = "11111111-0000-4000-8000-000000000001"
Check = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def check(world: LedgerBuilder, tmp_path: Path) -> Check:
    """Crawl, build a mart, and return the checks of one profile assignment, keys first."""

    def run_check(
        name: str, use: dict[str, Any] | None = None, *, crawl: bool = True, **vendors: Any
    ) -> list[dict[str, Any]]:
        if crawl:
            world.crawl()
        path = tmp_path / "mart.duckdb"
        profiles = {} if use is None else {"profiles": {name: use}}
        settings = settings_of(database=world.url, report={"mart": path}, vendors={**profiles, **vendors})
        build_mart(settings)
        with connect(path) as connection:
            cursor = connection.execute(
                "SELECT * FROM vendor_checks WHERE profile = ? ORDER BY subject_type DESC, region, key_arn, check_name",
                [name],
            )
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return run_check


@dataclass(frozen=True)
class Scenarios:
    """A mart of one organization in which each scenario has its own account."""

    connection: duckdb.DuckDBPyConnection
    accounts: dict[str, str]

    def check(self, scenario: str, name: str, use: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The checks of one profile assignment in a scenario, keys first, as if its account were ``SHOP``."""
        account = self.accounts[scenario]
        if use is None:
            rows = [row for row in self._unconfigured(name) if row["account_id"] == account]
        else:
            rows = self._evaluate(name, json.loads(json.dumps(use).replace(SHOP, account)))
        rows = [_with_text(row, account, SHOP) for row in rows]
        return sorted(
            rows,
            key=lambda row: (
                row["subject_type"] != "key",
                row["region"] or "",
                row["key_arn"] or "",
                row["check_name"],
            ),
        )

    @cache  # noqa: B019 - the fixture lives as long as the module's tests
    def _unconfigured(self, name: str) -> list[dict[str, Any]]:
        return self._evaluate(name, None)

    def _evaluate(self, name: str, use: dict[str, Any] | None) -> list[dict[str, Any]]:
        settings = settings_of(vendors={"profiles": {} if use is None else {name: use}})
        [assignment] = [candidate for candidate in load_assignments(settings) if candidate.name == name]
        return [check.row() for check in evaluate._checks_of(assignment, Facts(self.connection, 1))]

    def __hash__(self) -> int:
        return id(self)


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenarios]:
    """All scenarios of this module, crawled and built once."""
    folder = tmp_path_factory.mktemp("vendors")
    organization = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    accounts = {}
    for number, (scenario, arrange) in enumerate(SCENARIOS.items(), start=1):
        scenario_world = LedgerBuilder("")
        scenario_world.account(SHOP, "Shop", IRELAND)
        arrange(scenario_world)
        accounts[scenario] = f"{333300000000 + number}"
        _merge_scenario(organization, scenario_world, accounts[scenario])
    organization.crawl()
    settings = settings_of(database=organization.url, report={"mart": folder / "mart.duckdb"})
    build_mart(settings)
    with connect(settings.report.mart) as connection:
        yield Scenarios(connection, accounts)


def _merge_scenario(organization: LedgerBuilder, scenario_world: LedgerBuilder, account: str) -> None:
    """Add the facts of a scenario to the organization, with ``SHOP`` replaced by another account."""
    digests: dict[bytes, bytes] = {}
    for digest, texts in scenario_world.policies.items():
        canonical, received = (text.replace(SHOP, account) for text in texts)
        digests[digest] = content_hash(canonical)
        organization.policies[digests[digest]] = (canonical, received)
    for model, rows in scenario_world.facts.items():
        for row in rows.values():
            row_values = _with_text(row, SHOP, account)
            organization.add(model, **{name: digests.get(value, value) if isinstance(value, bytes) else value
                                       for name, value in row_values.items()})  # fmt: skip
    for (owner, region), outcome in scenario_world.outcomes.items():
        organization.outcomes[owner.replace(SHOP, account), region] = outcome


def _with_text(row: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {name: value.replace(old, new) if type(value) is str else value for name, value in row.items()}


def allow(sid: str, principal: Any, actions: list[str] | str, **more: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Principal": principal, "Action": actions, "Resource": "*", **more}


def checkmarx(*more: dict[str, Any], grant: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The documented policy of the vendor, with extra statements."""
    vendor = {"AWS": f"arn:aws:iam::{CHECKMARX}:root"}
    grants = allow("grants", vendor, GRANT, Condition=ONLY_AWS) if grant is None else grant
    return [root_statement(SHOP), allow("use", vendor, USE), *([grants] if grants else []), *more]


def role(world: LedgerBuilder, trust: dict[str, Any], *policies: dict[str, Any], **tags: str) -> None:
    """Add a role to the account, whose IAM counts as read."""
    world.outcomes[SHOP, "global"] = ("complete", None)
    world.add(IamScan, account_id=SHOP)
    values = {"account_id": SHOP, "type": "role", "path": "/"}
    name = "PlerionApplianceRole" if tags else "Vendor"
    arn = f"arn:aws:iam::{SHOP}:role/{name}"
    world.add(IamPrincipal, arn=arn, name=name, policy_hash=world.document(trust), **values)
    for number, statement in enumerate(policies):
        digest = world.document(statement)
        world.add(IamInlinePolicy, owner_arn=arn, name=f"kms{number}", account_id=SHOP, policy_hash=digest)
    for tag, value in tags.items():
        world.add(Tag, resource_arn=arn, tag_key=tag, tag_value=value)


def assume(principal: str = CERBY_ROLE, **condition: Any) -> dict[str, Any]:
    conditions = condition or {"Condition": {"StringEquals": {"sts:ExternalId": "w-1"}}}
    return {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole", **conditions}


def results(rows: list[dict[str, Any]]) -> list[str]:
    return [row["result"] for row in rows if row["subject_type"] == "key"]


def findings(rows: list[dict[str, Any]]) -> set[str]:
    return {row["check_name"] for row in rows if row["subject_type"] == "finding" and row["result"] != "unknown"}


# -- Checkmarx One: an account that the key policy names


POLICIES: dict[str, tuple[Any, str, str]] = {
    "as documented": (checkmarx(), "accessible", "can use it as the profile requires"),
    "no grants": (checkmarx(grant={}), "blocked_by_policy", "lacks kms:CreateGrant, kms:ListGrants and kms:RevokeGrant"),
    "all actions": (checkmarx(allow("all", {"AWS": CHECKMARX}, "kms:*")), "over_shared", "more access than the profile requires"),
    "any grant": (
        checkmarx(grant=allow("grants", {"AWS": CHECKMARX}, GRANT)), "over_shared", "GrantIsForAWSResource is true"
    ),
    "somebody else": (
        checkmarx(allow("other", {"AWS": "999900001111"}, "kms:Decrypt")), "over_shared", "External parties other than the vendor"
    ),
    "denied": (
        checkmarx({**allow("no", {"AWS": CHECKMARX}, "kms:Decrypt"), "Effect": "Deny"}),
        "blocked_by_policy",
        "which statement no denies",
    ),
    "unreadable": ("no JSON", "unknown", "could not be determined"),
    "denied call": (None, "unknown", "kms:GetKeyPolicy failed"),
}  # fmt: skip
ONE_KEY = {"keys": [f"arn:aws:kms:{IRELAND}:{SHOP}:key/{NAME}"]}


def arrange_policy(world: LedgerBuilder, policy: Any) -> None:
    arn = world.key(SHOP, IRELAND, NAME, policy=policy)
    if policy is None:
        world.gap(SHOP, IRELAND, "kms:GetKeyPolicy", arn, "key_policy")


@pytest.mark.parametrize("case", POLICIES)
def test_an_account_and_a_key_policy(scenarios: Scenarios, case: str) -> None:
    """The check covers use, grants limited to AWS resources, excess access and other parties; unread policies are unknown."""
    _, result, text = POLICIES[case]
    [row] = [row for row in scenarios.check(f"policy {case}", "checkmarx-one", ONE_KEY) if row["subject_type"] == "key"]
    assert (row["result"], text in row["reason"]) == (result, True), row["reason"]
    if result == "blocked_by_policy":
        assert f"arn:aws:iam::{CHECKMARX}:root" in row["statement"]


def arrange_condition(world: LedgerBuilder) -> None:
    policy = checkmarx()
    policy[1]["Condition"] = {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}
    world.key(SHOP, IRELAND, NAME, policy=policy)


def test_an_unexpected_condition_is_unknown(scenarios: Scenarios) -> None:
    """A key that is usable only through one service is neither accessible nor blocked."""
    rows = scenarios.check("condition", "checkmarx-one", ONE_KEY)
    assert results(rows) == ["unknown"]
    assert "last known state" not in rows[0]["reason"]


def test_a_key_stops_being_shared(world: LedgerBuilder, check: Check) -> None:
    """The next run reports the key as broken since that run, with both statements to restore."""
    arn = world.key(SHOP, IRELAND, NAME, policy=checkmarx())
    world.crawl()
    world.policy(arn, [root_statement(SHOP)])
    [row] = [row for row in check("checkmarx-one", {"keys": [arn]}) if row["subject_type"] == "key"]
    assert row["result"] == "broken"
    assert row["since"] == (FIRST_RUN + dt.timedelta(days=1)).replace(tzinfo=None)
    statements = json.loads(f"[{row['statement']}]")
    assert [statement["Sid"] for statement in statements] == [
        "Allow use of the key",
        "Allow attachment of persistent resources",
    ]


def test_disabled_pending_and_deleted_keys_have_dates(world: LedgerBuilder, check: Check) -> None:
    """A disabled key has seven days from the run that first saw it, pending deletion has its date, a deleted key is reported."""
    disabled, pending, deleted = (
        world.key(SHOP, IRELAND, f"11111111-0000-4000-8000-00000000000{number}", policy=checkmarx())
        for number in (1, 2, 3)
    )
    database = world.database(SHOP, IRELAND, "scans", status="inaccessible-encryption-credentials-recoverable")
    world.uses(database, disabled)
    world.crawl()
    world.change(KeyMetadata, disabled, state="Disabled", enabled=False)
    due = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
    world.change(KeyMetadata, pending, state="PendingDeletion", enabled=False, deletion_date=due)
    world.remove(Key, deleted)
    rows = {
        row["key_arn"]: row
        for row in check("checkmarx-one", {"keys": [disabled, pending, deleted]})
        if row["subject_type"] == "key"
    }
    assert {row["result"] for row in rows.values()} == {"broken"}
    second = (FIRST_RUN + dt.timedelta(days=1)).replace(tzinfo=None)
    assert rows[disabled]["deadline"] == second + dt.timedelta(days=7)
    assert "scans is inaccessible-encryption-credentials-recoverable" in rows[disabled]["reason"]
    assert rows[pending]["deadline"] == due.replace(tzinfo=None)
    assert rows[deleted]["since"] == second
    assert "was deleted" in rows[deleted]["reason"]


def arrange_properties(world: LedgerBuilder) -> None:
    world.key(SHOP, IRELAND, NAME, policy=checkmarx(), multi_region=True, origin="EXTERNAL")


def test_properties_and_region_are_findings(scenarios: Scenarios) -> None:
    """Wrong properties and a wrong region are findings in addition to the key's result."""
    rows = scenarios.check("properties", "checkmarx-one", {**ONE_KEY, "parameters": {"tenant_region": OHIO}})
    assert findings(rows) == {"multi_region", "origin", "region"}


def test_an_alias_that_moved_while_a_cache_uses_the_old_key(world: LedgerBuilder, check: Check) -> None:
    """ElastiCache keeps the old key, which is a finding while a cache uses it."""
    old = world.key(SHOP, IRELAND, NAME, policy=checkmarx())
    new = world.key(SHOP, IRELAND, NAME[:-1] + "2", policy=checkmarx())
    world.alias("alias/cache", old)
    cache = f"arn:aws:elasticache:{IRELAND}:{SHOP}:replicationgroup:scans"
    world.resource(cache, "AWS::ElastiCache::ReplicationGroup", "scans", account_id=SHOP, region=IRELAND)
    world.uses(cache, old)
    world.crawl()
    world.alias("alias/cache", new)
    use = {"keys": ["alias/cache"]}
    rows = check("checkmarx-one", use)
    assert [row["key_arn"] for row in rows if row["check_name"] == "alias_moved"] == [old]
    world.uses(cache, new)
    assert "alias_moved" not in findings(check("checkmarx-one", use))


def test_keys_are_discovered_without_settings(world: LedgerBuilder, check: Check) -> None:
    """A key policy that names the vendor's account is enough; without one the profile is not_configured."""
    [row] = check("checkmarx-one")
    assert (row["subject_type"], row["result"]) == ("profile", "not_configured")
    arn = world.key(SHOP, IRELAND, NAME, policy=checkmarx())
    rows = check("checkmarx-one")
    assert [(row["key_arn"], row["result"]) for row in rows if row["subject_type"] == "key"] == [(arn, "accessible")]


# -- Cerby: a role, a multi-Region key


def vault(world: LedgerBuilder, *, replicas: tuple[str, ...] = (OREGON,), **values: Any) -> list[str]:
    """A multi-Region key in Ohio with replicas."""
    world.account(SHOP, "Shop", IRELAND, OHIO, OREGON)
    arns = [f"arn:aws:kms:{region}:{SHOP}:key/mrk-1" for region in (OHIO, *replicas)]
    about = {"multi_region": True, "primary_arn": arns[0], "replica_arns": json.dumps(arns[1:]), "key_spec": "RSA_4096"}
    for region, kind in ((OHIO, "PRIMARY"), *((region, "REPLICA") for region in replicas)):
        world.key(SHOP, region, "mrk-1", multi_region_type=kind, rotation="not_applicable", **{**about, **values})
    world.alias("alias/vault", arns[0])
    return arns


CERBY_USE = {"accounts": [SHOP], "keys": ["alias/vault"], "parameters": {"role_name": "Vendor"}}


def arrange_vault(world: LedgerBuilder, **values: Any) -> None:
    role(world, assume(), {"Effect": "Allow", "Action": VAULT, "Resource": vault(world, **values)})


def test_a_vault_as_documented(scenarios: Scenarios) -> None:
    """Primary and replica are accessible through the role, without findings."""
    rows = scenarios.check("vault", "cerby", CERBY_USE)
    assert results(rows) == ["accessible", "accessible"]
    assert findings(rows) == set()


ROLES: dict[str, tuple[dict[str, Any], list[str], str, set[str]]] = {
    "trusts an account": (assume(f"arn:aws:iam::{CERBY}:root"), VAULT, "accessible", {"trust_too_wide"}),
    "no external id": (assume(Condition={}), VAULT, "accessible", {"external_id_missing"}),
    "any external id": (
        assume(Condition={"StringLike": {"sts:ExternalId": "*"}}), VAULT, "accessible", {"external_id_pattern"}
    ),
    "trusts others": (assume(f"arn:aws:iam::{SHOP}:root"), VAULT, "blocked_by_policy", {"trust_missing"}),
    "few actions": (assume(), VAULT[:2], "blocked_by_policy", {"role_actions_missing"}),
    "all actions": (assume(), ["kms:*"], "over_shared", {"role_actions_beyond"}),
    "no policy": (assume(), [], "blocked_by_policy", {"role_policy_missing"}),
}  # fmt: skip


def arrange_role(world: LedgerBuilder, trust: dict[str, Any], policy: list[str]) -> None:
    arns = vault(world)
    role(world, trust, *([{"Effect": "Allow", "Action": policy, "Resource": arns}] if policy else []))


@pytest.mark.parametrize("case", ROLES)
def test_a_role_that_is_not_as_documented(scenarios: Scenarios, case: str) -> None:
    """Trust, external ID and actions are findings about the role; missing access also blocks the key."""
    _, _, result, expected = ROLES[case]
    rows = scenarios.check(f"role {case}", "cerby", CERBY_USE)
    assert results(rows) == [result, result]
    assert findings(rows) == expected


def test_a_vault_without_replica_of_a_weak_key(scenarios: Scenarios) -> None:
    """The missing replica is wrong; RSA_2048 is accepted with advice."""
    rows = {row["check_name"]: row for row in scenarios.check("weak vault", "cerby", CERBY_USE)}
    assert rows["access"]["result"] == "accessible"
    assert OREGON in rows["replica_missing"]["reason"]
    assert rows["key_spec"]["result"] == "advice"


LOGS: dict[str, tuple[bool, bool, bool | None, str | None, str]] = {
    "logged": (False, True, True, None, ""),
    "excluded": (True, True, True, "advice", "No trail records the calls of KMS: audit leaves KMS out."),
    "off": (False, True, False, "advice", "audit is switched off"),
    "status unread": (False, True, None, "unknown", "could not be determined"),
    "never listed": (False, False, True, "unknown", "the trails were never listed there"),
}


def arrange_logs(world: LedgerBuilder, *, exclude: bool, listed: bool, logs: bool | None) -> None:
    arns = vault(world)
    role(world, assume(), {"Effect": "Allow", "Action": VAULT, "Resource": arns})
    region = arns[0].split(":")[3]
    trail_arn = f"arn:aws:cloudtrail:{region}:{SHOP}:trail/audit"
    for each in {arn.split(":")[3] for arn in arns} if listed else ():
        world.add(TrailScan, account_id=SHOP, region=each)
        if each != region:
            described = {"name": "audit", "home_region": region, "is_multi_region": True}
            world.add(ShadowTrail, account_id=SHOP, region=each, trail_arn=trail_arn, **described)
    if listed:
        where = {"account_id": SHOP, "region": region, "home_region": region}
        world.add(Trail, trail_arn=trail_arn, name="audit", is_multi_region=True, **where)
        if logs is not None:
            world.add(TrailStatus, trail_arn=trail_arn, logging=logs)
        excluded = ["kms.amazonaws.com"] if exclude else []
        selectors = {"EventSelectors": [{"ExcludeManagementEventSources": excluded}], "AdvancedEventSelectors": []}
        world.add(TrailSelector, trail_arn=trail_arn, selectors=canonical_json(selectors))


@pytest.mark.parametrize("case", LOGS)
def test_whether_the_use_of_the_keys_is_logged(scenarios: Scenarios, case: str) -> None:
    """Missing logging is advice, unread trails are unknown."""
    _, _, _, result, text = LOGS[case]
    checks = [row for row in scenarios.check(f"logs {case}", "cerby", CERBY_USE) if row["check_name"] == "logging"]
    assert {row["result"] for row in checks} == ({result} if result else set())
    assert len(checks) == (2 if result else 0)
    assert all(text in row["reason"] for row in checks)


def arrange_missing_role(world: LedgerBuilder) -> None:
    vault(world)
    role(world, assume())
    world.remove(IamPrincipal, ROLE)


def test_unread_iam_is_unknown(scenarios: Scenarios) -> None:
    """Without IAM the result is unknown; with IAM, a missing role blocks."""
    rows = scenarios.check("iam unread", "cerby", CERBY_USE)
    assert results(rows) == ["unknown", "unknown"]
    assert exit_code(rows, "high") == 3
    rows = scenarios.check("role missing", "cerby", CERBY_USE)
    assert results(rows) == ["blocked_by_policy", "blocked_by_policy"]
    assert findings(rows) == {"role_missing"}
    assert exit_code(rows, "high") == 1


def test_an_edit_of_a_protected_key_has_before_and_after(world: LedgerBuilder, check: Check) -> None:
    """A disabled key is broken, and the edit is a critical finding with the previous state."""
    arns = vault(world)
    role(world, assume(), {"Effect": "Allow", "Action": VAULT, "Resource": arns})
    world.crawl()
    world.change(KeyMetadata, arns[0], state="Disabled", enabled=False)
    rows = check("cerby", {name: value for name, value in CERBY_USE.items() if name != "accounts"})
    assert results(rows) == ["broken", "accessible"]
    [edit] = [row for row in rows if row["check_name"] == "protected_key_edited"]
    assert (edit["severity"], edit["evidence"]) == ("critical", "before: Enabled\nafter: Disabled")


# -- Plerion: tags and delegation


def appliance(world: LedgerBuilder, mode: str) -> None:
    """The appliance's role with the policy of a mode."""
    operator, value = {
        "ALL_KEYS": ("StringNotEqualsIgnoreCase", "Denied"),
        "SELECTED_KEYS": ("StringEqualsIgnoreCase", "Granted"),
    }[mode]
    statement = {
        "Effect": "Allow",
        "Action": [*USE, "kms:CreateGrant"],
        "Resource": "arn:aws:kms:*:*:key/*",
        "Condition": {operator: {"aws:ResourceTag/PlerionAccess": value}},
    }
    role(world, assume(f"arn:aws:iam::{SHOP}:root"), statement, PlerionApplianceRole="True")


def tagged(tag: str, value: str) -> dict[str, Any]:
    return {"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}", f"aws:PrincipalTag/{tag}": value}}


OWN = [
    allow(
        "decrypt", {"AWS": "*"}, ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey", "kms:DescribeKey"],
        Condition=tagged("PlerionApplianceRole", "True"),
    ),
    allow(
        "metadata", {"AWS": "*"}, ["kms:Describe*", "kms:List*", "kms:Get*"],
        Condition=tagged("RolePurpose", "PlerionAccess"),
    ),
]  # fmt: skip
CLOSED = [allow("analysts", {"AWS": f"arn:aws:iam::{SHOP}:role/Analyst"}, USE)]


TAGS: list[tuple[str, dict[str, str], Any, str]] = [
    ("ALL_KEYS", {}, "default", "accessible"),
    ("ALL_KEYS", {"PlerionAccess": "Denied"}, "default", "denied_by_tag"),
    ("ALL_KEYS", {"PlerionAccess": "dENIED"}, "default", "denied_by_tag"),
    ("ALL_KEYS", {"PlerionAccess": "Denied"}, OWN, "over_shared"),
    ("ALL_KEYS", {"plerionaccess": "Denied"}, "default", "unknown"),
    ("ALL_KEYS", {}, CLOSED, "blocked_by_policy"),
    ("ALL_KEYS", {}, OWN, "accessible"),
    ("SELECTED_KEYS", {}, "default", "not_selected"),
    ("SELECTED_KEYS", {"PlerionAccess": "granted"}, "default", "accessible"),
    ("SELECTED_KEYS", {"plerionaccess": "Granted"}, "default", "not_selected"),
    ("SELECTED_KEYS", {"PlerionAccess": "yes"}, "default", "not_selected"),
    ("SELECTED_KEYS", {"PlerionAccess": "Granted"}, CLOSED, "blocked_by_policy"),
    ("SELECTED_KEYS", {"PlerionAccess": "Granted"}, OWN, "accessible"),
]


def arrange_tags(world: LedgerBuilder, mode: str, tags: dict[str, str], policy: Any) -> None:
    world.tag(world.key(SHOP, IRELAND, NAME, policy=policy), **tags)
    appliance(world, mode)


@pytest.mark.parametrize(
    "case", range(len(TAGS)), ids=lambda case: "-".join((TAGS[case][0], *TAGS[case][1].values(), TAGS[case][3]))
)
@pytest.mark.parametrize("configured", [True, False])
def test_tags_and_delegation(scenarios: Scenarios, case: int, configured: bool) -> None:
    """The mode comes from the settings or the role's policy; tags have no effect if the key policy does not delegate."""
    mode, _, _, result = TAGS[case]
    use = {"accounts": [SHOP], "parameters": {"mode": mode}} if configured else None
    [row] = [row for row in scenarios.check(f"tags {case}", "plerion", use) if row["subject_type"] == "key"]
    assert row["result"] == result, row["reason"]
    if result == "blocked_by_policy":
        assert [statement["Sid"].split()[1] for statement in json.loads(f"[{row['statement']}]")] == [
            "PlerionApplianceRole",
            "PlerionAccessRole",
        ]


def arrange_mode(world: LedgerBuilder) -> None:
    world.key(SHOP, IRELAND, NAME)
    appliance(world, "ALL_KEYS")


def test_a_mode_other_than_the_roles_mode(scenarios: Scenarios) -> None:
    """If the role's policy has another mode than the settings, the vendor can access the wrong keys."""
    rows = scenarios.check("mode", "plerion", {"accounts": [SHOP], "parameters": {"mode": "SELECTED_KEYS"}})
    assert results(rows) == ["over_shared"]
    assert findings(rows) == {"mode"}


def arrange_unread_tags(world: LedgerBuilder) -> None:
    arn = world.key(SHOP, IRELAND, NAME)
    world.gap(SHOP, IRELAND, "kms:ListResourceTags", arn, "key_policy")
    appliance(world, "ALL_KEYS")


def test_unread_tags_are_unknown(scenarios: Scenarios) -> None:
    """A key whose tags could not be read is neither denied nor accessible."""
    [row] = [
        row for row in scenarios.check("unread tags", "plerion", {"accounts": [SHOP]}) if row["subject_type"] == "key"
    ]
    assert row["result"] == "unknown"
    assert "kms:ListResourceTags failed" in row["reason"]
    assert row["reason"].endswith(" This is the last known state.")


SCENARIOS: dict[str, Callable[[LedgerBuilder], object]] = {
    **{f"policy {case}": partial(arrange_policy, policy=policy) for case, (policy, *_) in POLICIES.items()},
    "condition": arrange_condition,
    "properties": arrange_properties,
    "vault": arrange_vault,
    **{f"role {case}": partial(arrange_role, trust=row[0], policy=row[1]) for case, row in ROLES.items()},
    "weak vault": partial(arrange_vault, replicas=(), key_spec="RSA_2048"),
    **{f"logs {case}": partial(arrange_logs, exclude=row[0], listed=row[1], logs=row[2]) for case, row in LOGS.items()},
    "iam unread": vault,
    "role missing": arrange_missing_role,
    **{f"tags {case}": partial(arrange_tags, mode=row[0], tags=row[1], policy=row[2]) for case, row in enumerate(TAGS)},
    "mode": arrange_mode,
    "unread tags": arrange_unread_tags,
}


def test_the_command_prints_results(world: LedgerBuilder, check: Check, tmp_path: Path) -> None:
    """`check` prints problems with fixes, JSON has every field, and the exit code depends on the severity."""
    arn = world.key(SHOP, IRELAND, NAME, policy=checkmarx(grant={}))
    check("checkmarx-one", {"keys": [arn]})
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"report: {{mart: '{tmp_path / 'mart.duckdb'}'}}\n")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(check_command, [*arguments, "--config", str(config)])

    result = run("checkmarx-one")
    assert result.exit_code == 1
    assert "blocked by policy" in result.output
    assert "Fix: Add to the key policy" in result.output
    assert run("checkmarx-one", "--fail-on", "info").exit_code == 1
    assert run("checkmarx-one", "--fail-on", "never").exit_code == 0
    document = json.loads(run("--format", "json").output)
    assert document["format"] == "kmsledger.vendor-checks/1"
    assert {row["profile"] for row in document["checks"]} == {"checkmarx-one", "cerby", "plerion"}
    rows = list(csv.DictReader(io.StringIO(run("--format", "csv").output)))
    assert [(row["profile"], row["result"]) for row in rows] == [
        (row["profile"], row["result"]) for row in document["checks"]
    ]
    assert run("nobody").exit_code == 2
