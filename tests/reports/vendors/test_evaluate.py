"""What vendor profiles say of keys: each verdict from a small ledger, and that what is not known is never a verdict.

Situations that do not affect each other are accounts of one organization, which is crawled and built once.
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
import orjson
import pytest
from click.testing import CliRunner, Result

from models.hashing import canonical_json, content_hash
from models.store.policy_canonical import canonical_policy
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
from reports.vendors import evaluate
from reports.vendors.assignments import uses
from reports.vendors.cli import check as check_command
from reports.vendors.cli import exit_code
from reports.vendors.queries import Facts
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import FIRST_NIGHT, World, build_mart, root_statement, settings_of

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
def check(world: World, tmp_path: Path) -> Check:
    """Crawl, build a mart, and return the checks of one use of a profile, keys first."""

    def checked(
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

    return checked


@dataclass(frozen=True)
class Scenes:
    """A mart of one organization in which each scene is an account of its own."""

    connection: duckdb.DuckDBPyConnection
    accounts: dict[str, str]

    def check(self, scene: str, name: str, use: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The checks of one use of a profile in a scene, keys first, as if its account were ``SHOP``."""
        account = self.accounts[scene]
        if use is None:
            rows = [row for row in self._unconfigured(name) if row["account_id"] == account]
        else:
            rows = self._evaluate(name, json.loads(json.dumps(use).replace(SHOP, account)))
        rows = [_with_text(row, account, SHOP) for row in rows]
        return sorted(
            rows, key=lambda row: (row["kind"] != "key", row["region"] or "", row["key_arn"] or "", row["about"])
        )

    @cache  # noqa: B019 - the fixture lives as long as the module's tests
    def _unconfigured(self, name: str) -> list[dict[str, Any]]:
        return self._evaluate(name, None)

    def _evaluate(self, name: str, use: dict[str, Any] | None) -> list[dict[str, Any]]:
        settings = settings_of(vendors={"profiles": {} if use is None else {name: use}})
        [chosen] = [one for one in uses(settings) if one.name == name]
        return [check.row() for check in evaluate._of_use(chosen, Facts(self.connection, 1))]

    def __hash__(self) -> int:
        return id(self)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """Every scene of this module, crawled once and built once."""
    folder = tmp_path_factory.mktemp("vendors")
    organization = World(f"sqlite:///{folder / 'ledger.db'}")
    accounts = {}
    for number, (scene, arrange) in enumerate(SCENES.items(), start=1):
        alone = World("")
        alone.account(SHOP, "Shop", IRELAND)
        arrange(alone)
        accounts[scene] = f"{333300000000 + number}"
        _move_in(organization, alone, accounts[scene])
    organization.crawl()
    settings = settings_of(database=organization.url, report={"mart": folder / "mart.duckdb"})
    build_mart(settings)
    with connect(settings.report.mart) as connection:
        yield Scenes(connection, accounts)


def _move_in(organization: World, alone: World, account: str) -> None:
    """Add the facts of a scene to the organization, with another account in place of ``SHOP``."""
    digests: dict[bytes, bytes] = {}
    for digest, texts in alone.policies.items():
        canonical, received = (text.replace(SHOP, account) for text in texts)
        digests[digest] = content_hash(canonical)
        organization.policies[digests[digest]] = (canonical, received)
    for model, rows in alone.facts.items():
        for row in rows.values():
            moved = _with_text(row, SHOP, account)
            organization.add(model, **{name: digests.get(value, value) if isinstance(value, bytes) else value
                                       for name, value in moved.items()})  # fmt: skip
    for (owner, region), outcome in alone.outcomes.items():
        organization.outcomes[owner.replace(SHOP, account), region] = outcome


def _with_text(row: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {name: value.replace(old, new) if type(value) is str else value for name, value in row.items()}


def allow(sid: str, principal: Any, actions: list[str] | str, **more: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Principal": principal, "Action": actions, "Resource": "*", **more}


def checkmarx(*more: dict[str, Any], grant: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The policy of the vendor's document, and more statements."""
    vendor = {"AWS": f"arn:aws:iam::{CHECKMARX}:root"}
    grants = allow("grants", vendor, GRANT, Condition=ONLY_AWS) if grant is None else grant
    return [root_statement(SHOP), allow("use", vendor, USE), *([grants] if grants else []), *more]


def role(world: World, trust: dict[str, Any], *policies: dict[str, Any], **tags: str) -> None:
    """The account's IAM was read, and has a role."""

    def kept(document: dict[str, Any]) -> bytes:
        text = orjson.dumps(document).decode()
        digest = content_hash(canonical_policy(text))
        world.policies[digest] = (canonical_policy(text), text)
        return digest

    world.outcomes[SHOP, "global"] = ("complete", None)
    world.add(IamScan, account_id=SHOP)
    values = {"account_id": SHOP, "type": "role", "path": "/"}
    name = "PlerionApplianceRole" if tags else "Vendor"
    arn = f"arn:aws:iam::{SHOP}:role/{name}"
    document = {"Version": "2012-10-17", "Statement": [trust]}
    world.add(IamPrincipal, arn=arn, name=name, policy_hash=kept(document), **values)
    for number, statement in enumerate(policies):
        digest = kept({"Version": "2012-10-17", "Statement": [statement]})
        world.add(IamInlinePolicy, owner_arn=arn, name=f"kms{number}", account_id=SHOP, policy_hash=digest)
    for tag, value in tags.items():
        world.add(Tag, resource_arn=arn, tag_key=tag, tag_value=value)


def assume(principal: str = CERBY_ROLE, **condition: Any) -> dict[str, Any]:
    asks = condition or {"Condition": {"StringEquals": {"sts:ExternalId": "w-1"}}}
    return {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole", **asks}


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["verdict"] for row in rows if row["kind"] == "key"]


def findings(rows: list[dict[str, Any]]) -> set[str]:
    return {row["about"] for row in rows if row["kind"] == "finding" and row["verdict"] != "unknown"}


# -- Checkmarx One: an account that the key policy names


POLICIES: dict[str, tuple[Any, str, str]] = {
    "as documented": (checkmarx(), "accessible", "can use it as the profile asks"),
    "no grants": (checkmarx(grant={}), "blocked_by_policy", "lacks kms:CreateGrant, kms:ListGrants and kms:RevokeGrant"),
    "all actions": (checkmarx(allow("all", {"AWS": CHECKMARX}, "kms:*")), "over_shared", "more than the profile asks"),
    "any grant": (
        checkmarx(grant=allow("grants", {"AWS": CHECKMARX}, GRANT)), "over_shared", "GrantIsForAWSResource is true"
    ),
    "somebody else": (
        checkmarx(allow("other", {"AWS": "999900001111"}, "kms:Decrypt")), "over_shared", "Others than the vendor"
    ),
    "denied": (
        checkmarx({**allow("no", {"AWS": CHECKMARX}, "kms:Decrypt"), "Effect": "Deny"}),
        "blocked_by_policy",
        "which statement no denies",
    ),
    "unreadable": ("no JSON", "unknown", "not known"),
    "refused": (None, "unknown", "kms:GetKeyPolicy was refused"),
}  # fmt: skip
ONE_KEY = {"keys": [f"arn:aws:kms:{IRELAND}:{SHOP}:key/{NAME}"]}


def arrange_policy(world: World, policy: Any) -> None:
    arn = world.key(SHOP, IRELAND, NAME, policy=policy)
    if policy is None:
        world.gap(SHOP, IRELAND, "kms:GetKeyPolicy", arn, "key_policy")


@pytest.mark.parametrize("case", POLICIES)
def test_an_account_and_a_key_policy(scenes: Scenes, case: str) -> None:
    """Sharing is evaluated as a whole: use, grants for AWS resources only, nothing more, nobody else; else it is unknown."""
    _, verdict, words = POLICIES[case]
    [row] = [row for row in scenes.check(f"policy {case}", "checkmarx-one", ONE_KEY) if row["kind"] == "key"]
    assert (row["verdict"], words in row["reason"]) == (verdict, True), row["reason"]
    if verdict == "blocked_by_policy":
        assert f"arn:aws:iam::{CHECKMARX}:root" in row["statement"]


def arrange_condition(world: World) -> None:
    policy = checkmarx()
    policy[1]["Condition"] = {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}
    world.key(SHOP, IRELAND, NAME, policy=policy)


def test_a_condition_that_nobody_knows_is_unknown(scenes: Scenes) -> None:
    """A use that is let in through one service only is neither accessible nor blocked."""
    assert verdicts(scenes.check("condition", "checkmarx-one", ONE_KEY)) == ["unknown"]


def test_a_key_stops_being_shared(world: World, check: Check) -> None:
    """The night after, it is broken: since that run, with both statements to put back."""
    arn = world.key(SHOP, IRELAND, NAME, policy=checkmarx())
    world.crawl()
    world.policy(arn, [root_statement(SHOP)])
    [row] = [row for row in check("checkmarx-one", {"keys": [arn]}) if row["kind"] == "key"]
    assert row["verdict"] == "broken"
    assert row["since"] == (FIRST_NIGHT + dt.timedelta(days=1)).replace(tzinfo=None)
    statements = json.loads(f"[{row['statement']}]")
    assert [one["Sid"] for one in statements] == ["Allow use of the key", "Allow attachment of persistent resources"]


def test_disabled_pending_and_deleted_have_dates(world: World, check: Check) -> None:
    """Disabled counts seven days from what was seen, pending deletion goes by its date, a deleted key is told as gone."""
    disabled, going, gone = (
        world.key(SHOP, IRELAND, f"11111111-0000-4000-8000-00000000000{number}", policy=checkmarx())
        for number in (1, 2, 3)
    )
    database = world.database(SHOP, IRELAND, "scans", status="inaccessible-encryption-credentials-recoverable")
    world.uses(database, disabled)
    world.crawl()
    world.change(KeyMetadata, disabled, state="Disabled", enabled=False)
    due = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
    world.change(KeyMetadata, going, state="PendingDeletion", enabled=False, deletion_date=due)
    world.remove(Key, gone)
    rows = {
        row["key_arn"]: row for row in check("checkmarx-one", {"keys": [disabled, going, gone]}) if row["kind"] == "key"
    }
    assert {row["verdict"] for row in rows.values()} == {"broken"}
    second = (FIRST_NIGHT + dt.timedelta(days=1)).replace(tzinfo=None)
    assert rows[disabled]["deadline"] == second + dt.timedelta(days=7)
    assert "scans is inaccessible-encryption-credentials-recoverable" in rows[disabled]["reason"]
    assert rows[going]["deadline"] == due.replace(tzinfo=None)
    assert rows[gone]["since"] == second
    assert "gone" in rows[gone]["reason"]


def arrange_properties(world: World) -> None:
    world.key(SHOP, IRELAND, NAME, policy=checkmarx(), multi_region=True, origin="EXTERNAL")


def test_properties_and_region_are_findings(scenes: Scenes) -> None:
    """A key of another kind or region is reported beside its verdict."""
    rows = scenes.check("properties", "checkmarx-one", {**ONE_KEY, "parameters": {"tenant_region": OHIO}})
    assert findings(rows) == {"multi_region", "origin", "region"}


def test_an_alias_that_moved_under_a_cache(world: World, check: Check) -> None:
    """ElastiCache stays with the old key, which is a finding as long as a cache uses it."""
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
    assert [row["key_arn"] for row in rows if row["about"] == "alias_moved"] == [old]
    world.uses(cache, new)
    assert "alias_moved" not in findings(check("checkmarx-one", use))


def test_without_settings_the_document_finds_keys(world: World, check: Check) -> None:
    """The vendor's account in a policy is enough; without one the profile says that it is not configured."""
    [row] = check("checkmarx-one")
    assert (row["kind"], row["verdict"]) == ("profile", "not_configured")
    arn = world.key(SHOP, IRELAND, NAME, policy=checkmarx())
    rows = check("checkmarx-one")
    assert [(row["key_arn"], row["verdict"]) for row in rows if row["kind"] == "key"] == [(arn, "accessible")]


# -- Cerby: a role, a multi-Region key


def vault(world: World, *, replicas: tuple[str, ...] = (OREGON,), **values: Any) -> list[str]:
    """A multi-Region key in Ohio with replicas."""
    world.account(SHOP, "Shop", IRELAND, OHIO, OREGON)
    arns = [f"arn:aws:kms:{region}:{SHOP}:key/mrk-1" for region in (OHIO, *replicas)]
    about = {"multi_region": True, "primary_arn": arns[0], "replica_arns": json.dumps(arns[1:]), "key_spec": "RSA_4096"}
    for region, kind in ((OHIO, "PRIMARY"), *((region, "REPLICA") for region in replicas)):
        world.key(SHOP, region, "mrk-1", multi_region_type=kind, rotation="not_applicable", **{**about, **values})
    world.alias("alias/vault", arns[0])
    return arns


CERBY_USE = {"accounts": [SHOP], "keys": ["alias/vault"], "parameters": {"role_name": "Vendor"}}


def arrange_vault(world: World, **values: Any) -> None:
    role(world, assume(), {"Effect": "Allow", "Action": VAULT, "Resource": vault(world, **values)})


def test_a_vault_as_its_vendor_wants_it(scenes: Scenes) -> None:
    """Primary and replica are accessible through the role, and nothing is wrong."""
    rows = scenes.check("vault", "cerby", CERBY_USE)
    assert verdicts(rows) == ["accessible", "accessible"]
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


def arrange_role(world: World, trust: dict[str, Any], policy: list[str]) -> None:
    arns = vault(world)
    role(world, trust, *([{"Effect": "Allow", "Action": policy, "Resource": arns}] if policy else []))


@pytest.mark.parametrize("case", ROLES)
def test_a_role_that_is_not_as_documented(scenes: Scenes, case: str) -> None:
    """Trust, external id and actions are findings on the role; what keeps the vendor out is the key's verdict too."""
    _, _, verdict, found = ROLES[case]
    rows = scenes.check(f"role {case}", "cerby", CERBY_USE)
    assert verdicts(rows) == [verdict, verdict]
    assert findings(rows) == found


def test_a_vault_without_replica_of_a_weak_key(scenes: Scenes) -> None:
    """The missing replica is wrong; RSA_2048 works, and the vendor recommends another."""
    rows = {row["about"]: row for row in scenes.check("weak vault", "cerby", CERBY_USE)}
    assert rows["access"]["verdict"] == "accessible"
    assert OREGON in rows["replica_missing"]["reason"]
    assert rows["key_spec"]["verdict"] == "advice"


LOGS: dict[str, tuple[bool, bool, bool | None, str | None, str]] = {
    "logged": (False, True, True, None, ""),
    "excluded": (True, True, True, "advice", "No trail records the calls of KMS: audit leaves KMS out."),
    "off": (False, True, False, "advice", "audit is switched off"),
    "status unread": (False, True, None, "unknown", "is not known"),
    "never listed": (False, False, True, "unknown", "the trails were never listed there"),
}


def arrange_logs(world: World, *, exclude: bool, listed: bool, logs: bool | None) -> None:
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
def test_whether_the_use_of_the_keys_is_logged(scenes: Scenes, case: str) -> None:
    """The vendor suggests it: what a trail leaves out is advice, what was not read is unknown."""
    _, _, _, verdict, words = LOGS[case]
    found = [row for row in scenes.check(f"logs {case}", "cerby", CERBY_USE) if row["about"] == "logging"]
    assert {row["verdict"] for row in found} == ({verdict} if verdict else set())
    assert len(found) == (2 if verdict else 0)
    assert all(words in row["reason"] for row in found)


def arrange_missing_role(world: World) -> None:
    vault(world)
    role(world, assume())
    world.remove(IamPrincipal, ROLE)


def test_iam_that_was_not_read_is_no_verdict(scenes: Scenes) -> None:
    """Without IAM it is unknown what the role may do; with it, a role that is missing blocks."""
    rows = scenes.check("iam unread", "cerby", CERBY_USE)
    assert verdicts(rows) == ["unknown", "unknown"]
    assert exit_code(rows, "high") == 3
    rows = scenes.check("role missing", "cerby", CERBY_USE)
    assert verdicts(rows) == ["blocked_by_policy", "blocked_by_policy"]
    assert findings(rows) == {"role_missing"}
    assert exit_code(rows, "high") == 1


def test_an_edit_of_a_protected_key_is_told_with_before_and_after(world: World, check: Check) -> None:
    """The vendor does not notice: a disabled key is broken, and the edit is critical with what was before."""
    arns = vault(world)
    role(world, assume(), {"Effect": "Allow", "Action": VAULT, "Resource": arns})
    world.crawl()
    world.change(KeyMetadata, arns[0], state="Disabled", enabled=False)
    rows = check("cerby", {name: value for name, value in CERBY_USE.items() if name != "accounts"})
    assert verdicts(rows) == ["broken", "accessible"]
    [edit] = [row for row in rows if row["about"] == "protected_key_edited"]
    assert (edit["severity"], edit["evidence"]) == ("critical", "before: Enabled\nafter: Disabled")


# -- Plerion: tags and delegation


def appliance(world: World, mode: str) -> None:
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


def arrange_tags(world: World, mode: str, tags: dict[str, str], policy: Any) -> None:
    world.tag(world.key(SHOP, IRELAND, NAME, policy=policy), **tags)
    appliance(world, mode)


@pytest.mark.parametrize(
    "case", range(len(TAGS)), ids=lambda case: "-".join((TAGS[case][0], *TAGS[case][1].values(), TAGS[case][3]))
)
@pytest.mark.parametrize("configured", [True, False])
def test_tags_and_delegation(scenes: Scenes, case: int, configured: bool) -> None:
    """The mode comes from the settings or from the role's policy; a tag does not help where the policy delegates nothing."""
    mode, _, _, verdict = TAGS[case]
    use = {"accounts": [SHOP], "parameters": {"mode": mode}} if configured else None
    [row] = [row for row in scenes.check(f"tags {case}", "plerion", use) if row["kind"] == "key"]
    assert row["verdict"] == verdict, row["reason"]
    if verdict == "blocked_by_policy":
        assert [one["Sid"].split()[1] for one in json.loads(f"[{row['statement']}]")] == [
            "PlerionApplianceRole",
            "PlerionAccessRole",
        ]


def arrange_mode(world: World) -> None:
    world.key(SHOP, IRELAND, NAME)
    appliance(world, "ALL_KEYS")


def test_a_mode_that_is_not_the_roles(scenes: Scenes) -> None:
    """The settings have one mode, the role's policy the other: the vendor reaches other keys than meant."""
    rows = scenes.check("mode", "plerion", {"accounts": [SHOP], "parameters": {"mode": "SELECTED_KEYS"}})
    assert verdicts(rows) == ["over_shared"]
    assert findings(rows) == {"mode"}


def arrange_refused_tags(world: World) -> None:
    arn = world.key(SHOP, IRELAND, NAME)
    world.gap(SHOP, IRELAND, "kms:ListResourceTags", arn, "key_policy")
    appliance(world, "ALL_KEYS")


def test_tags_that_were_refused_are_unknown(scenes: Scenes) -> None:
    """A key whose tags could not be read is neither denied nor accessible."""
    [row] = [row for row in scenes.check("refused tags", "plerion", {"accounts": [SHOP]}) if row["kind"] == "key"]
    assert row["verdict"] == "unknown"
    assert "kms:ListResourceTags was refused" in row["reason"]


SCENES: dict[str, Callable[[World], object]] = {
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
    "refused tags": arrange_refused_tags,
}


def test_the_command_tells_verdicts_and_ends_with_them(world: World, check: Check, tmp_path: Path) -> None:
    """`check` prints what is wrong with what to do, JSON has everything, and the exit code follows severity."""
    arn = world.key(SHOP, IRELAND, NAME, policy=checkmarx(grant={}))
    check("checkmarx-one", {"keys": [arn]})
    config = tmp_path / "kmsledger.yaml"
    config.write_text(f"report: {{mart: '{tmp_path / 'mart.duckdb'}'}}\n")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(check_command, [*arguments, "--config", str(config)])

    told = run("checkmarx-one")
    assert told.exit_code == 1
    assert "blocked by policy" in told.output
    assert "Fix: Add to the key policy" in told.output
    assert run("checkmarx-one", "--fail-on", "never").exit_code == 0
    answer = json.loads(run("--format", "json").output)
    assert answer["format"] == "kmsledger.vendor-checks/1"
    assert {row["profile"] for row in answer["checks"]} == {"checkmarx-one", "cerby", "plerion"}
    rows = list(csv.DictReader(io.StringIO(run("--format", "csv").output)))
    assert [(row["profile"], row["verdict"]) for row in rows] == [
        (row["profile"], row["verdict"]) for row in answer["checks"]
    ]
    assert run("nobody").exit_code == 2
