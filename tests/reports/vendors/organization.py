"""An organization in which each scenario of a vendor has its own account; it is crawled twice, and a mart is built once."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from models.hashing import canonical_json, content_hash
from models.settings import Settings
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
from reports.rules.testing.builders import root_statement
from reports.vendors.assignments import load_assignments
from reports.vendors.evaluate import evaluate_assignment
from reports.vendors.queries import Facts
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, build_mart, settings_of

OHIO, OREGON = "us-east-2", "us-west-2"
CHECKMARX, CERBY = "754581900792", "749452252575"
CERBY_ROLE = f"arn:aws:iam::{CERBY}:role/production-kms-byo-key-access-role"
ROLE = f"arn:aws:iam::{SHOP}:role/Vendor"
USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
GRANT = ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"]
VAULT = ["kms:Encrypt", "kms:Decrypt", "kms:GetPublicKey", "kms:DescribeKey"]
ONLY_AWS = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
NAME = "11111111-0000-4000-8000-000000000001"
DUE = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
CACHE = f"arn:aws:elasticache:{IRELAND}:{SHOP}:replicationgroup:scans"


def key_arn(number: int) -> str:
    """The ARN of a scenario's key."""
    return f"arn:aws:kms:{IRELAND}:{SHOP}:key/{NAME[:-1]}{number}"


@dataclass(frozen=True)
class Scenarios:
    """A mart of one organization in which each scenario has its own account."""

    facts: Facts
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

    @cache  # noqa: B019 - the organization lives as long as the tests
    def _unconfigured(self, name: str) -> list[dict[str, Any]]:
        return self._evaluate(name, None)

    def _evaluate(self, name: str, use: dict[str, Any] | None) -> list[dict[str, Any]]:
        settings = settings_of(vendors={"profiles": {} if use is None else {name: use}})
        [assignment] = [candidate for candidate in load_assignments(settings) if candidate.name == name]
        return [check.row() for check in evaluate_assignment(assignment, self.facts)]

    def __hash__(self) -> int:
        return id(self)


def merge_scenario(organization: LedgerBuilder, scenario_world: LedgerBuilder, account: str) -> None:
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


def arrange_condition(world: LedgerBuilder) -> None:
    policy = checkmarx()
    policy[1]["Condition"] = {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}
    world.key(SHOP, IRELAND, NAME, policy=policy)


def arrange_properties(world: LedgerBuilder) -> None:
    world.key(SHOP, IRELAND, NAME, policy=checkmarx(), multi_region=True, origin="EXTERNAL")


def arrange_three_keys(world: LedgerBuilder) -> None:
    disabled, _, _ = (world.key(SHOP, IRELAND, f"{NAME[:-1]}{number}", policy=checkmarx()) for number in (1, 2, 3))
    database = world.database(SHOP, IRELAND, "scans", status="inaccessible-encryption-credentials-recoverable")
    world.uses(database, disabled)


def change_three_keys(world: LedgerBuilder) -> None:
    disabled, pending, deleted = (key_arn(number) for number in (1, 2, 3))
    world.change(KeyMetadata, disabled, state="Disabled", enabled=False)
    world.change(KeyMetadata, pending, state="PendingDeletion", enabled=False, deletion_date=DUE)
    world.remove(Key, deleted)


def arrange_cache(world: LedgerBuilder, alias: str) -> None:
    old, _ = (world.key(SHOP, IRELAND, f"{NAME[:-1]}{number}", policy=checkmarx()) for number in (1, 2))
    world.alias(alias, old)
    world.resource(CACHE, "AWS::ElastiCache::ReplicationGroup", "scans", account_id=SHOP, region=IRELAND)
    world.uses(CACHE, old)


def move_cache(world: LedgerBuilder) -> None:
    world.alias("alias/moved", key_arn(2))
    world.uses(CACHE, key_arn(2))


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


def arrange_missing_role(world: LedgerBuilder) -> None:
    vault(world)
    role(world, assume())
    world.remove(IamPrincipal, ROLE)


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


def arrange_mode(world: LedgerBuilder) -> None:
    world.key(SHOP, IRELAND, NAME)
    appliance(world, "ALL_KEYS")


def arrange_unread_tags(world: LedgerBuilder) -> None:
    arn = world.key(SHOP, IRELAND, NAME)
    world.gap(SHOP, IRELAND, "kms:ListResourceTags", arn, "key_policy")
    appliance(world, "ALL_KEYS")


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
    "unshared": partial(arrange_policy, policy=checkmarx()),
    "three keys": arrange_three_keys,
    "alias moved": partial(arrange_cache, alias="alias/cache"),
    "cache moved": partial(arrange_cache, alias="alias/moved"),
    "edited vault": arrange_vault,
    "mode": arrange_mode,
    "unread tags": arrange_unread_tags,
}
"""The first run of each scenario."""
CHANGES: dict[str, Callable[[LedgerBuilder], object]] = {
    "unshared": lambda world: world.policy(key_arn(1), [root_statement(SHOP)]),
    "three keys": change_three_keys,
    "alias moved": lambda world: world.alias("alias/cache", key_arn(2)),
    "cache moved": move_cache,
    "edited vault": lambda world: world.change(
        KeyMetadata, f"arn:aws:kms:{OHIO}:{SHOP}:key/mrk-1", state="Disabled", enabled=False
    ),
}
"""What changes before the second run."""


def build_organization(folder: Path) -> tuple[Settings, dict[str, str]]:
    """Crawl all scenarios twice and build the mart; returns its settings and the account of each scenario."""
    organization = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    accounts = {scenario: f"{333300000001 + number}" for number, scenario in enumerate(SCENARIOS)}
    worlds = {scenario: LedgerBuilder("") for scenario in SCENARIOS}
    for scenario, world in worlds.items():
        world.account(SHOP, "Shop", IRELAND)
        SCENARIOS[scenario](world)
        merge_scenario(organization, world, accounts[scenario])
    organization.crawl()
    organization.facts.clear()
    for scenario, world in worlds.items():
        if scenario in CHANGES:
            CHANGES[scenario](world)
        merge_scenario(organization, world, accounts[scenario])
    organization.crawl()
    settings = settings_of(database=organization.url, report={"mart": folder / "mart.duckdb"})
    build_mart(settings)
    return settings, accounts
