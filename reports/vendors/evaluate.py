"""Evaluates vendor profiles against the mart: a result for every key that a vendor should use, and findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from models.settings import Settings
from models.severities import SEVERITIES
from reports.mart.extension import Extension, fill
from reports.vendors.assignments import ProfileAssignment, load_assignments
from reports.vendors.key_check import KeyChecker
from reports.vendors.logging_check import logging
from reports.vendors.profile import Property
from reports.vendors.queries import DeletedKey, Facts, KeyRow
from reports.vendors.requirements import Needs
from reports.vendors.result import Check, CheckResult, date_text, finding, join_list
from reports.vendors.role_check import Roles, keys_named_by

TABLE: Final = "vendor_check"
_TIMES = ("deadline", "since")
_STALE_SHARE_DAYS = 30
"""A key that the settings do not name is ignored if sharing stopped longer ago than this."""
_EDITS = ("key_state", "deletion_", "metadata_", "policy_", "tag_", "alias_", "grant_", "key_gone")


@dataclass(frozen=True, slots=True)
class VendorChecks(Extension):
    """Fills the mart's table ``internal.vendor_check``, which the view ``vendor_checks`` reads."""

    settings: Settings

    def create(self, duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
        """Evaluate the profiles as of a run. Raises VendorProfileError."""
        fill(duck, TABLE, ({"run_id": run_id, **_to_row(check)} for check in evaluate(duck, self.settings, run_id)))


def evaluate(connection: duckdb.DuckDBPyConnection, settings: Settings, run_id: int) -> Iterator[Check]:
    """Yield the checks of every assigned profile as of a run, which must be the run of the connection's views."""
    facts = Facts(connection, run_id)
    for assignment in load_assignments(settings):
        yield from _checks_of(assignment, facts)


def worst(checks: Iterable[Check]) -> list[Check]:
    """Checks ordered by severity, highest first."""
    return sorted(
        checks,
        key=lambda check: (SEVERITIES.index(check.severity), check.profile, check.subject_type, check.key_arn or ""),
    )


def _to_row(check: Check) -> dict[str, Any]:
    row = check.row()
    return row | {name: row[name].isoformat() if row[name] else None for name in _TIMES}


def _checks_of(assignment: ProfileAssignment, facts: Facts) -> Iterator[Check]:
    roles = Roles(assignment, facts)
    existing_roles = roles.all()
    missing_keys = _missing(assignment, facts)
    arns: list[str] | None = None
    accounts: Sequence[str] = assignment.accounts
    if assignment.keys or assignment.profile.keys.found_by != "account_of_role":
        arns = _arns(assignment, facts, keys_named_by(existing_roles))
    elif not accounts:
        accounts = sorted({role.account_id for role in existing_roles})
    deleted_keys = _deleted_keys(assignment, facts, arns or [])
    if (
        not assignment.configured
        and not arns
        and not deleted_keys
        and not existing_roles
        and not (arns is None and accounts)
    ):
        yield _not_configured(assignment, facts)
        return
    checker = KeyChecker(assignment, facts, roles, Needs(assignment, facts, roles))
    checked: list[KeyRow] = []
    total = 0
    account_regions: set[tuple[str, str]] = set()
    for key in facts.keys(arns=arns, accounts=accounts):
        check = checker.check(key)
        if not assignment.configured and check.result is CheckResult.BROKEN and _is_stale_share(check, facts):
            continue
        total += 1
        account_regions.add((key.account_id, key.region))
        yield check
        if arns is not None:
            checked.append(key)
            yield from _key_findings(assignment, facts, key)
    yield from (_deleted(assignment, key) for key in deleted_keys)
    yield from missing_keys
    if assignment.configured and not total and not deleted_keys and not assignment.keys:
        yield finding(assignment, "no_keys", "No key matches this assignment of the profile.", severity="medium",
                      fix="Add the keys to the settings (vendors.profiles).")  # fmt: skip
    role_accounts = {key.account_id for key in checked} or set(accounts) or set(assignment.accounts)
    account = assignment.text(roles.role.account) if roles.role else ""
    key_arns = [key.key_arn for key in checked] if arns is not None else []
    yield from roles.findings(existing_roles, key_arns, [account] if account else sorted(role_accounts))
    yield from _mode(assignment, roles, existing_roles)
    if assignment.profile.alias_moves is not None:
        yield from _moves(assignment, facts, [key.key_arn for key in checked])
    if assignment.profile.logging:
        yield from logging(assignment, facts, account_regions)


def _arns(assignment: ProfileAssignment, facts: Facts, named_by_roles: Sequence[str]) -> list[str]:
    if assignment.keys:
        key_arns = [arn for arns in facts.find_keys(assignment.keys, assignment.accounts).values() for arn in arns]
    elif assignment.profile.keys.found_by == "vendor_account":
        key_arns = facts.ever_shared_with(assignment.values["vendor_account"], assignment.accounts)
    else:
        key_arns = list(named_by_roles)
    key_arns = list(dict.fromkeys(key_arns))
    return facts.related(key_arns) if assignment.profile.keys.replica_regions else key_arns


def _deleted_keys(assignment: ProfileAssignment, facts: Facts, arns: Sequence[str]) -> list[DeletedKey]:
    keys = facts.deleted(assignment.keys or arns)
    keys = [key for key in keys if not assignment.accounts or key.account_id in assignment.accounts]
    if assignment.keys or assignment.configured:
        return keys
    return [key for key in keys if key.since and (facts.started_at - key.since).days <= _STALE_SHARE_DAYS]


def _is_stale_share(check: Check, facts: Facts) -> bool:
    is_unshared = check.evidence is None or not check.evidence.startswith("state ")
    return is_unshared and check.since is not None and (facts.started_at - check.since).days > _STALE_SHARE_DAYS


def _missing(assignment: ProfileAssignment, facts: Facts) -> list[Check]:
    """Configured names that match no key; deleted keys are reported as deleted."""
    if not assignment.keys:
        return []
    checks = []
    for name, arns in facts.find_keys(assignment.keys, assignment.accounts).items():
        if not arns and not facts.deleted([name]):
            account = assignment.accounts[0] if len(assignment.accounts) == 1 else None
            reason = (
                f"The settings name {name}, but the ledger has no key with this alias, ARN or ID: it does not exist, or its "
                "account and region were not read."
            )
            checks.append(
                finding(
                    assignment,
                    "key_not_found",
                    reason,
                    result=CheckResult.UNKNOWN,
                    severity="medium",
                    account_id=account,
                    subject=name,
                )
            )
    return checks


def _deleted(assignment: ProfileAssignment, key: DeletedKey) -> Check:
    scenario = assignment.profile.scenarios.deleted
    return Check(
        profile=assignment.name, vendor=assignment.profile.vendor, subject_type="key", check_name="access",
        result=CheckResult.BROKEN, severity=assignment.profile.severity,
        reason=f"The key was deleted: the complete key list of its region of {date_text(key.since)} does not contain it. "
        f"{scenario.effect}",
        account_id=key.account_id, region=key.region, key_arn=key.key_arn, key_alias=key.alias, fix=scenario.fix,
        since=key.since, evidence="state deleted",
    )  # fmt: skip


def _not_configured(assignment: ProfileAssignment, facts: Facts) -> Check:
    profile = assignment.profile
    hint = {
        "vendor_account": f"no key policy names account {assignment.values.get('vendor_account')}",
        "role": "no role that was read trusts the vendor",
        "account_of_role": "no role of the vendor was found",
    }.get(profile.keys.found_by, "the profile does not discover keys")
    if profile.role is not None:
        counts = next(
            facts.rows(
                "SELECT count(*) FILTER (freshness IN ('current', 'stale')) AS read, count(*) AS all FROM iam_accounts"
            )
        )
        hint += f" (IAM was read in {counts['read']} of {counts['all']} accounts)"
    return Check(
        profile=assignment.name, vendor=profile.vendor, subject_type="profile", check_name="configuration",
        result=CheckResult.NOT_CONFIGURED, severity="info", reason=f"Not configured: {hint}.",
        fix=f"If {profile.vendor} uses your keys, add them to the settings: vendors.profiles.{assignment.name}.",
    )  # fmt: skip


def _key_findings(assignment: ProfileAssignment, facts: Facts, key: KeyRow) -> Iterator[Check]:
    """Yield the findings about properties, regions, replicas, delegation and edits of a key."""
    keys = assignment.profile.keys
    failed: set[str] = set()
    for prop in sorted(keys.properties, key=lambda prop: prop.level != "required"):
        if prop.name in failed:
            continue
        value = getattr(key, prop.name)
        text = str(value).lower() if isinstance(value, bool) else value
        if text is None:
            yield finding(
                assignment,
                prop.name,
                f"Its {_property_name(prop)} is unknown: {facts.gap_reason(key.key_arn, 'kms:DescribeKey')}.",
                key=key,
                result=CheckResult.UNKNOWN,
                severity="medium",
            )
        elif text not in prop.expect:
            failed.add(prop.name)
            yield _property(assignment, prop, text, key)
    regions = [region for template in keys.regions if (region := assignment.text(template))]
    if keys.primary_region:
        regions = [keys.primary_region, *keys.replica_regions]
    if regions and key.region not in regions:
        reason = f"The key is in {key.region}; the profile requires {join_list(regions)}."
        yield finding(
            assignment,
            "region",
            reason,
            key=key,
            fix="A key cannot be moved: create a key in that region and share it.",
        )
    if keys.replica_regions and key.multi_region_type == "PRIMARY":
        existing_regions = {arn.split(":")[3] for arn in key.replica_arns}
        for region in keys.replica_regions:
            if region not in existing_regions and key.region != region:
                command = f"aws kms replicate-key --region {key.region} --key-id {key.key_id} --replica-region {region}"
                reason = f"The key has no replica in {region}, which the vendor's disaster recovery requires."
                yield finding(
                    assignment,
                    "replica_missing",
                    reason,
                    key=key,
                    fix=f"{command}; then add the replica's ARN to the role's policy.",
                )
    if keys.primary_region and key.multi_region_type == "PRIMARY" and key.region != keys.primary_region:
        reason = f"The primary key is in {key.region}; the profile requires {keys.primary_region}."
        yield finding(
            assignment,
            "primary_region",
            reason,
            key=key,
            fix=f"aws kms update-primary-region --primary-region {keys.primary_region}",
        )
    if keys.delegation == "expected" and key.policy_hash is not None:
        policy = facts.policy(key.policy_hash)
        root = {key.account_id, f"arn:{key.key_arn.split(':')[1]}:iam::{key.account_id}:root"}
        if not any(
            statement.effect == "Allow" and root & {principal.value for principal in statement.principals}
            for statement in policy.statements
        ):
            reason = (
                "The key policy does not delegate to IAM of its own account: if the administrators that it names are deleted, "
                "nobody can change it."
            )
            yield finding(
                assignment,
                "delegation",
                reason,
                key=key,
                severity="medium",
                fix="Restore the statement for the account's root principal.",
            )
    if keys.protected:
        yield from _edits(assignment, facts, key)


def _property(assignment: ProfileAssignment, prop: Property, value: str, key: KeyRow) -> Check:
    required = prop.level == "required"
    verb = "requires" if required else "recommends"
    reason = f"Its {_property_name(prop)} is {value}; the profile {verb} {' or '.join(prop.expect)}. {prop.why}"
    if prop.name == "multi_region":
        kind = {"true": "a multi-Region key", "false": "a single-Region key"}
        expected = " or ".join(kind.get(name, name) for name in prop.expect)
        reason = f"It is {kind.get(value, value)}; the profile {verb} {expected}. {prop.why}"
    more: dict[str, Any] = {
        "severity": "high" if required else "low",
        "result": CheckResult.WRONG if required else CheckResult.ADVICE,
    }
    return finding(
        assignment,
        prop.name,
        reason,
        key=key,
        fix="This property of a key cannot be changed: create a new key and migrate to it.",
        **more,
    )


def _property_name(prop: Property) -> str:
    return {"key_spec": "key spec", "key_usage": "usage", "origin": "key material's origin"}.get(prop.name, prop.name)


def _edits(assignment: ProfileAssignment, facts: Facts, key: KeyRow) -> Iterator[Check]:
    for change in facts.changes(key.key_arn, assignment.profile.keys.protected_days):
        if change["event_type"].startswith(_EDITS):
            before, after = change["before"] or "nothing", change["after"] or "nothing"
            yield finding(
                assignment, "protected_key_edited", key=key,
                reason=f"A key that must stay unchanged for the vendor was edited: {change['message']}", severity="critical",
                fix=f"Restore the previous state, unless the change was planned with {assignment.profile.vendor}.",
                evidence=f"before: {before}\nafter: {after}", since=change["since"],
            )  # fmt: skip


def _moves(assignment: ProfileAssignment, facts: Facts, arns: Sequence[str]) -> Iterator[Check]:
    moves = assignment.profile.alias_moves
    names = [name for name in assignment.keys if name.startswith("alias/")]
    for move in facts.alias_moves(names, arns) if moves else ():
        dependents = [
            row for row in facts.dependents(move["from_arn"]) if row["service"] in (moves.services if moves else ())
        ]
        if not dependents or moves is None:
            continue
        _, _, _, region, account, _ = move["from_arn"].split(":", 5)
        reason = (
            f"Alias {move['alias_name']} was moved to another key ({move['to_arn'].rpartition('/')[2]}) "
            f"on {date_text(move['since'])}, while "
            f"{join_list(row['name'] for row in dependents)} still {'uses' if len(dependents) == 1 else 'use'} the old key. "
            f"{moves.effect}"
        )
        yield finding(
            assignment, "alias_moved", reason, severity="high", account_id=account, region=region, key_arn=move["from_arn"],
            key_alias=move["alias_name"], subject=dependents[0]["resource_arn"], fix=moves.fix, since=move["since"],
            evidence=f"from {move['from_arn']} to {move['to_arn']}",
        )  # fmt: skip


def _mode(assignment: ProfileAssignment, roles: Roles, existing_roles: Sequence[Any]) -> Iterator[Check]:
    """Yield a finding for each role whose policy has a different mode than the settings: the vendor can access the wrong keys."""
    tags = assignment.profile.tags
    chosen = assignment.values.get(tags.chosen_by, "") if tags else ""
    for role in existing_roles if chosen else ():
        mode = roles.mode(role)
        if mode != chosen:
            what = (
                f"implements mode {mode}"
                if mode
                else f"implements none of the modes {join_list(tags.modes if tags else ())}"
            )
            reason = f"The policy of role {role.name} {what}; the settings specify {chosen}."
            yield finding(
                assignment, "mode", reason, account_id=role.account_id, account_name=role.account_name, region="global",
                subject=role.arn, fix="Switch the integration to the intended mode, or correct the settings.",
            )  # fmt: skip
