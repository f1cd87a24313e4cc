"""A small ledger for tests: an organization that changes between runs, and each run is stored through the real merge.

`LedgerBuilder` holds the current state of the organization; `LedgerBuilder.crawl` stores what a crawler would read of it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Connection, insert, select

from models.hashing import content_hash
from models.settings import Settings
from models.store.engine import connect
from models.store.policy_canonical import canonical_policy
from models.store.scd2_merge import Batch, merge
from models.tables import (
    Account,
    AccountRegion,
    Alias,
    CustomKeyStore,
    Gap,
    Key,
    KeyGrant,
    KeyMetadata,
    KeyPolicy,
    KeyReference,
    KeyRotation,
    KeyRotationEvent,
    PolicyDocument,
    Resource,
    ResourceKey,
    Run,
    ScopeCoverage,
    Tag,
)
from models.versioned import VersionedTable
from reports.access.analysis.stage import analyze_access
from reports.mart.build import build
from reports.rules.extension import RuleTables
from reports.rules.loader import load_rules, rule_files
from reports.vendors.evaluate import VendorChecks
from tests.reports.empty_ledger import create_ledger
from tests.reports.mart_schema import offer_schema

FIRST_RUN = dt.datetime(2026, 11, 20, 3, 0, tzinfo=dt.UTC)

# The facts that a denied call does not return; facts of earlier runs stay unchanged.
_UNSEEN = {
    "DescribeKey": KeyMetadata,
    "GetKeyPolicy": KeyPolicy,
    "ListGrants": KeyGrant,
    "ListResourceTags": Tag,
    "GetKeyRotationStatus": KeyRotation,
    "ListKeyRotations": KeyRotationEvent,
}
_OF_SCOPE = (Key, Alias, CustomKeyStore)
_OF_KEY = (KeyGrant, KeyRotationEvent)


@dataclass
class LedgerBuilder:
    """An organization whose facts are added, changed and removed; `crawl` writes one run into the ledger."""

    url: str
    facts: dict[type[VersionedTable], dict[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    policies: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], tuple[str, str | None]] = field(default_factory=dict)
    """(account, region) to the outcome of its crawl and the reason."""
    runs: int = 0
    version: str = "0.1.0"
    _created: str = ""
    """The ledger whose tables exist."""

    def add(self, model: type[VersionedTable], **values: Any) -> None:
        """Add a fact, or replace the one with its natural key; columns that are not given are NULL."""
        known = set(model.value_columns())
        assert set(values) <= known, f"{model.__name__} has no {set(values) - known}"
        row = dict.fromkeys(model.value_columns()) | values
        self.facts.setdefault(model, {})[tuple(row[name] for name in model.natural_key)] = row

    def change(self, model: type[VersionedTable], *natural_key: Any, **values: Any) -> None:
        """Change values of a fact."""
        self.facts[model][natural_key].update(values)

    def remove(self, model: type[VersionedTable], *natural_key: Any) -> None:
        """Remove a fact and everything that describes it."""
        del self.facts[model][natural_key]
        if model in {Key, Resource}:
            for other, rows in self.facts.items():
                if any(parent == model.__tablename__ for _, parent, _ in other.parents):
                    for key in [key for key in rows if key[0] == natural_key[0]]:
                        del rows[key]

    def account(self, account_id: str, name: str, *regions: str, **values: Any) -> None:
        """Add an account whose named regions are crawled without gaps."""
        defaults: dict[str, Any] = {
            "email": f"aws+{account_id}@example.org",
            "arn": f"arn:aws:organizations::123456789012:account/o-exampleorg1/{account_id}",
            "state": "ACTIVE",
            "ou_path": "/Production",
            "ou_ids": "r-abcd/ou-abcd-11111111",
            "joined_at": dt.datetime(2020, 5, 1, tzinfo=dt.UTC),
            "is_management": False,
            "selection": "crawled",
        }
        self.add(Account, account_id=account_id, name=name, **(defaults | values))
        for region in regions:
            self.add(AccountRegion, account_id=account_id, region=region, status="ENABLED", selection="crawled")
            self.outcomes[account_id, region] = ("complete", None)

    def key(
        self,
        account_id: str,
        region: str,
        key_id: str,
        *,
        policy: Any = "default",
        rotation: str = "enabled",
        **values: Any,
    ) -> str:
        """Add a key with metadata, rotation status and policy (`None`: not known); returns its ARN."""
        arn = f"arn:aws:kms:{region}:{account_id}:key/{key_id}"
        defaults: dict[str, Any] = {
            "manager": "CUSTOMER",
            "state": "Enabled",
            "enabled": values.get("state", "Enabled") == "Enabled",
            "description": "",
            "key_usage": "ENCRYPT_DECRYPT",
            "key_spec": "SYMMETRIC_DEFAULT",
            "origin": "AWS_KMS",
            "created_at": dt.datetime(2024, 1, 15, 9, 30, tzinfo=dt.UTC),
            "multi_region": False,
            "algorithms": '{"EncryptionAlgorithms":["SYMMETRIC_DEFAULT"]}',
        }
        self.add(Key, key_arn=arn, key_id=key_id, account_id=account_id, region=region)
        self.add(KeyMetadata, key_arn=arn, **(defaults | values))
        if rotation != "unknown":
            reason = "automatic rotation does not apply to this key" if rotation == "not_applicable" else None
            period = 365 if rotation == "enabled" else None
            self.add(KeyRotation, key_arn=arn, status=rotation, reason=reason, period_days=period)
        if policy is not None:
            self.policy(arn, [root_statement(account_id)] if policy == "default" else policy)
        return arn

    def policy(self, key_arn: str, statements: Any) -> None:
        """Set the policy of a key: statements, or the text as received."""
        received = statements
        if not isinstance(statements, str):
            received = orjson.dumps({"Version": "2012-10-17", "Statement": statements}).decode()
        canonical = canonical_policy(received)
        digest = content_hash(canonical)
        self.policies.setdefault(digest, (canonical, received))
        self.add(KeyPolicy, key_arn=key_arn, policy_hash=digest)

    def alias(self, name: str, key_arn: str, **values: Any) -> None:
        """Point an alias at a key, or move it there."""
        _, _, _, region, account_id, resource = key_arn.split(":", 5)
        self.add(
            Alias,
            alias_arn=f"arn:aws:kms:{region}:{account_id}:{name}",
            alias_name=name,
            account_id=account_id,
            region=region,
            target_key_id=resource.removeprefix("key/"),
            target_key_arn=key_arn,
            **({"created_at": dt.datetime(2024, 1, 15, 9, 31, tzinfo=dt.UTC)} | values),
        )

    def tag(self, arn: str, **tags: str) -> None:
        """Set tags of a key or resource."""
        for tag_key, tag_value in tags.items():
            self.add(Tag, resource_arn=arn, tag_key=tag_key, tag_value=tag_value)

    def grant(self, key_arn: str, grant_id: str, **values: Any) -> None:
        """Add a grant to Decrypt and GenerateDataKey; name a grantee in one of its two fields."""
        defaults = {
            "operations": '["Decrypt","GenerateDataKey"]',
            "created_at": dt.datetime(2025, 3, 1, 12, 0, tzinfo=dt.UTC),
            "issuing_account": f"arn:aws:iam::{key_arn.split(':')[4]}:root",
        }
        self.add(KeyGrant, key_arn=key_arn, grant_id=grant_id, **(defaults | values))

    def resource(self, arn: str, resource_type: str, name: str, *, account_id: str, region: str, **values: Any) -> str:
        """Add a resource; returns its ARN."""
        row = {"listing_region": region} | values
        row |= {"account_id": account_id, "region": region, "name": name}
        self.add(Resource, resource_arn=arn, resource_type=resource_type, **row)
        return arn

    def secret(self, account_id: str, region: str, name: str, **values: Any) -> str:
        """Add a secret; returns its ARN."""
        arn = f"arn:aws:secretsmanager:{region}:{account_id}:secret:{name}-AbCdEf"
        return self.resource(arn, "AWS::SecretsManager::Secret", name, account_id=account_id, region=region, **values)

    def database(self, account_id: str, region: str, name: str, **values: Any) -> str:
        """Add an RDS instance; returns its ARN."""
        arn = f"arn:aws:rds:{region}:{account_id}:db:{name}"
        values = {"account_id": account_id, "region": region, "status": "available"} | values
        return self.resource(arn, "AWS::RDS::DBInstance", name, **values)

    def uses(
        self,
        resource_arn: str,
        key_arn: str | None,
        key_class: str = "customer",
        *,
        role: str = "storage",
        **values: Any,
    ) -> None:
        """State the key of a resource, as received (raw_value, format, declared_class) and as resolved (key_arn, key_class)."""
        key_format = values.pop("format", "key_arn" if key_arn else "omitted")
        position = values.pop("position", 0)
        stated = key_class if key_class in {"none", "aws_owned", "unknown"} else None
        self.add(
            KeyReference,
            resource_arn=resource_arn,
            role=role,
            position=position,
            format=key_format,
            raw_value=values.pop("raw_value", key_arn),
            target_arn=values.pop("target_arn", key_arn),
            declared_class=stated,
        )
        self.add(
            ResourceKey,
            resource_arn=resource_arn,
            role=role,
            position=position,
            key_arn=key_arn,
            key_class=key_class,
            reason=values.pop("reason", None),
        )
        assert not values, values

    def gap(
        self, account_id: str, region: str, action: str, subject: str = "", cause: str = "denied", **values: Any
    ) -> None:
        """Deny a call from now on: the facts that it would return keep their last known values."""
        service, operation = action.split(":", 1)
        self.add(
            Gap,
            account_id=account_id,
            region=region,
            service=service,
            operation=operation,
            subject=subject,
            action=action,
            cause=cause,
            **({"code": "AccessDeniedException", "message": f"not authorized to perform: {action}"} | values),
        )
        scope = (account_id, region)
        if self.outcomes.get(scope, ("", None))[0] == "complete":
            self.outcomes[scope] = ("partial", None)

    def crawl(self, *, status: str | None = None) -> int:
        """Write one run and return its id. A scope whose outcome is `failed` has no data."""
        started = FIRST_RUN + dt.timedelta(days=self.runs)
        self.runs += 1
        if self.url != self._created:
            create_ledger(self.url)
            self._created = self.url
        engine = connect(self.url)
        with engine.begin() as connection:
            run_id = self._run(connection, started, status)
            merge(connection, run_id, self._batch())
        engine.dispose()
        return run_id

    def _run(self, connection: Connection, started: dt.datetime, status: str | None) -> int:
        whole = all(outcome in {"complete", "excluded", "disabled"} for outcome, _ in self.outcomes.values())
        run_id = int(
            connection.execute(
                insert(Run)
                .values(
                    started_at=started,
                    finished_at=started + dt.timedelta(minutes=4),
                    status=status or ("complete" if whole else "partial"),
                    version=self.version,
                    caller_arn="arn:aws:sts::123456789012:assumed-role/KmsLedger/crawl",
                    partition="aws",
                    organization_id="o-exampleorg1",
                    management_account_id="123456789012",
                    accounts=len(self.facts.get(Account, {})),
                    scopes=len(self.outcomes),
                    calls=40 * len(self.outcomes),
                    gaps=len(self.facts.get(Gap, {})),
                )
                .returning(Run.run_id)
            ).scalar_one()
        )
        for (account_id, region), (outcome, reason) in self.outcomes.items():
            crawled = outcome in {"complete", "partial", "failed"}
            connection.execute(
                insert(ScopeCoverage).values(
                    run_id=run_id,
                    account_id=account_id,
                    region=region,
                    outcome=outcome,
                    reason=reason,
                    started_at=started if crawled else None,
                    finished_at=started + dt.timedelta(minutes=1) if crawled else None,
                    calls=40 if crawled else 0,
                    gaps=sum(key[:2] == (account_id, region) for key in self.facts.get(Gap, {})),
                )
            )
        stored = set(connection.scalars(select(PolicyDocument.policy_hash)))
        for digest, (canonical, received) in self.policies.items():
            if digest not in stored:
                row = {"policy_hash": digest, "canonical": canonical, "received": received}
                connection.execute(insert(PolicyDocument).values(row))
        return run_id

    def _batch(self) -> Batch:
        batch = Batch()
        gaps = self.facts.get(Gap, {})
        unseen = {(_UNSEEN.get(operation), subject) for _, _, _, operation, subject in gaps}
        seen = {scope for scope, (outcome, _) in self.outcomes.items() if outcome in {"complete", "partial"}}
        unlisted = {(a, r) for a, r, _, operation, subject in gaps if operation == "ListKeys" and not subject}
        scope_of = {row["key_arn"]: (row["account_id"], row["region"]) for row in self.facts.get(Key, {}).values()}
        scope_of |= {
            row["resource_arn"]: (row["account_id"], row["listing_region"])
            for row in self.facts.get(Resource, {}).values()
        }
        for model, rows in self.facts.items():
            for natural_key, row in rows.items():
                scope = scope_of.get(natural_key[0]) if model not in {Account, AccountRegion, Gap} else None
                if model in _OF_SCOPE:
                    scope = (row["account_id"], row["region"])
                hidden = model is Key and scope in unlisted
                if (scope is None or scope in seen) and (model, natural_key[0]) not in unseen and not hidden:
                    batch.add(model, **row)
        for scope in seen:
            for model in _OF_SCOPE:
                if model is not Key or scope not in unlisted:
                    batch.mark_complete(model, *scope)
        for scope in self.outcomes:
            batch.mark_complete(Gap, *scope)
        for arn, scope in scope_of.items():
            if scope not in seen:
                continue
            own = (*_OF_KEY, Tag) if ":key/" in arn else (KeyReference, Tag)
            for model in own:
                if (model, arn) not in unseen:
                    batch.mark_complete(model, arn)
        for account_id in {account_id for account_id, _ in seen}:
            batch.mark_complete(AccountRegion, account_id)
        types = {row["resource_type"] for row in self.facts.get(Resource, {}).values()} | {
            "AWS::SecretsManager::Secret",
            "AWS::RDS::DBInstance",
            "AWS::S3::Bucket",
        }
        for account_id, region in seen:
            for resource_type in types:
                batch.mark_complete(Resource, account_id, region, resource_type)
        batch.mark_complete(ResourceKey)
        return batch


def settings_of(**values: Any) -> Settings:
    """Settings from plain values, as a settings file has them; the first mart gets its schema from another one."""
    settings = Settings.model_validate(values)
    if "mart" in values.get("report", {}):
        offer_schema(settings.report.mart)
    return settings


def only(*rule_ids: str) -> dict[str, Any]:
    """The settings of rules that disable all shipped rules except these."""
    shipped = {name.removesuffix(".sql") for name, _, _ in rule_files()}
    assert shipped >= set(rule_ids), f"no shipped rules: {set(rule_ids) - shipped}"
    return {"disable": sorted(shipped - set(rule_ids))}


def build_mart(settings: Settings) -> None:
    """Analyze access and build the mart without evaluating rules, for tests that do not depend on findings."""
    analyze_access(settings)
    extensions = (RuleTables(settings, ()), VendorChecks(settings))
    build(settings.database, settings.report.mart, settings, extensions=extensions)


@cache
def one_rule_of_each_family() -> tuple[str, ...]:
    """The first shipped rule of each family, in alphabetical order of their ids."""
    families: dict[str, str] = {}
    for rule in load_rules(Settings()):
        families.setdefault(rule.family, rule.rule_id)
    return tuple(sorted(families.values()))


def root_statement(account_id: str) -> dict[str, Any]:
    """The statement that delegates to the IAM policies of the account."""
    return {
        "Sid": "Enable IAM policies",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account_id}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
