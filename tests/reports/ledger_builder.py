"""A small ledger for tests: an organization that changes between runs, and each run is stored through the real merge.

`LedgerBuilder` holds the current state of the organization; `LedgerBuilder.crawl` stores what a crawler would read of it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson

from models.hashing import content_hash
from models.settings import Settings
from models.store.engine import connect
from models.store.policy_canonical import canonical_policy
from models.store.scd2_merge import Batch, PolicyText, merge
from models.tables import (
    Account,
    AccountRegion,
    Alias,
    Gap,
    Key,
    KeyGrant,
    KeyPolicy,
    KeyReference,
    KeyRotation,
    Resource,
    ResourceKey,
    Tag,
)
from models.versioned import VersionedTable
from reports.access.analysis.stage import analyze_access
from reports.mart.build import build
from reports.rules.extension import RuleTables
from reports.rules.loader import load_rules, rule_files
from reports.rules.testing.builders import add_key, root_statement
from reports.rules.testing.fixture import Facts, account_values
from reports.rules.testing.ledger_writer import add_facts, mark_complete, record_run, scopes_of
from reports.rules.testing.operation_facts import OF_ITEM
from reports.vendors.evaluate import VendorChecks
from tests.reports.empty_ledger import create_ledger
from tests.reports.mart_schema import offer_schema

FIRST_RUN = dt.datetime(2026, 11, 20, 3, 0, tzinfo=dt.UTC)


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

    def _add_with_defaults(self, model: type[VersionedTable], **values: Any) -> None:
        self.add(model, **Facts().add(model, values))

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
        self._add_with_defaults(Account, **(account_values(account_id, name) | values))
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
        facts = Facts()
        add_key(facts, values, key_arn=arn, key_id=key_id, account_id=account_id, region=region)
        for model, rows in facts.rows.items():
            self.add(model, **rows[0])
        if rotation != "unknown":
            reason = "automatic rotation does not apply to this key" if rotation == "not_applicable" else None
            period = 365 if rotation == "enabled" else None
            self.add(KeyRotation, key_arn=arn, status=rotation, reason=reason, period_days=period)
        if policy is not None:
            self.policy(arn, [root_statement(account_id)] if policy == "default" else policy)
        return arn

    def policy(self, key_arn: str, statements: Any) -> None:
        """Set the policy of a key: statements, or the text as received."""
        self.add(KeyPolicy, key_arn=key_arn, policy_hash=self._store(statements))

    def document(self, *statements: dict[str, Any]) -> bytes:
        """Store a policy document of these statements; returns its hash."""
        return self._store(list(statements))

    def _store(self, statements: Any) -> bytes:
        received = statements
        if not isinstance(statements, str):
            received = orjson.dumps({"Version": "2012-10-17", "Statement": statements}).decode()
        canonical = canonical_policy(received)
        digest = content_hash(canonical)
        self.policies.setdefault(digest, (canonical, received))
        return digest

    def alias(self, name: str, key_arn: str, **values: Any) -> None:
        """Point an alias at a key, or move it there."""
        _, _, _, region, account_id, resource = key_arn.split(":", 5)
        self._add_with_defaults(
            Alias,
            alias_arn=f"arn:aws:kms:{region}:{account_id}:{name}",
            alias_name=name,
            account_id=account_id,
            region=region,
            target_key_id=resource.removeprefix("key/"),
            target_key_arn=key_arn,
            **values,
        )

    def tag(self, arn: str, **tags: str) -> None:
        """Set tags of a key or resource."""
        for tag_key, tag_value in tags.items():
            self.add(Tag, resource_arn=arn, tag_key=tag_key, tag_value=tag_value)

    def grant(self, key_arn: str, grant_id: str, **values: Any) -> None:
        """Add a grant to Decrypt and GenerateDataKey; name a grantee in one of its two fields."""
        issuer = f"arn:aws:iam::{key_arn.split(':')[4]}:root"
        self._add_with_defaults(KeyGrant, key_arn=key_arn, grant_id=grant_id, **({"issuing_account": issuer} | values))

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

    def end_gaps(self, account_id: str) -> None:
        """Allow all calls in an account from now on."""
        gaps = self.facts.get(Gap, {})
        self.facts[Gap] = {key: gap for key, gap in gaps.items() if gap["account_id"] != account_id}

    def crawl(self, *, status: str | None = None) -> int:
        """Write one run and return its id. A scope whose outcome is `failed` has no data."""
        started = FIRST_RUN + dt.timedelta(days=self.runs)
        self.runs += 1
        if self.url != self._created:
            create_ledger(self.url)
            self._created = self.url
        facts = Facts(outcomes={scope: outcome for scope, (outcome, _) in self.outcomes.items()})
        facts.rows = {model: list(rows.values()) for model, rows in self.facts.items()}
        hide_denied(facts)
        documents = {digest: PolicyText(canonical, received) for digest, (canonical, received) in self.policies.items()}
        batch = Batch(documents=documents)
        add_facts(batch, [facts])
        mark_complete(batch, facts)
        batch.mark_complete(ResourceKey)
        values = {"version": self.version} | ({"status": status} if status else {})
        engine = connect(self.url)
        with engine.begin() as connection:
            run_id = record_run(connection, started, self.outcomes, batch, **values)
            merge(connection, run_id, batch)
        engine.dispose()
        return run_id


def hide_denied(facts: Facts) -> None:
    """Remove the facts that a denied call does not return; those of earlier runs stay in the ledger."""
    scopes = scopes_of(facts)
    for row in facts.rows.get(Gap, ()):
        action, subject, scope = row["action"], row["subject"], (row["account_id"], row["region"])
        if subject:
            for model in OF_ITEM.get(action, ()):
                facts.rows[model] = [
                    fact for fact in facts.rows.get(model, ()) if fact[model.natural_key[0]] != subject
                ]
        elif action == "kms:ListKeys":
            facts.rows[Key] = [key for key in facts.rows.get(Key, ()) if scopes[key["key_arn"]] != scope]


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
