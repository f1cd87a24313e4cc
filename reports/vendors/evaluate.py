"""Vendor profiles over the mart: a verdict for every key that a vendor is meant to use, and what is not as its document asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from models.settings import Settings
from models.severities import SEVERITIES
from reports.mart.extension import Extension, fill
from reports.vendors.assignments import Use, uses
from reports.vendors.key_check import KeyJudge
from reports.vendors.logging_check import logging
from reports.vendors.profile import Property
from reports.vendors.queries import Facts, Gone, KeyRow
from reports.vendors.requirements import Needs
from reports.vendors.result import Check, Verdict, day, finding, listed
from reports.vendors.role_check import Roles, keys_named_by

TABLE: Final = "vendor_check"
_TIMES = ("deadline", "since")
_FORGOTTEN_DAYS = 30
"""A key that stopped being shared so long ago, and that the settings do not name, is no longer the vendor's."""
_EDITS = ("key_state", "deletion_", "metadata_", "policy_", "tag_", "alias_", "grant_", "key_gone")


@dataclass(frozen=True, slots=True)
class VendorChecks(Extension):
    """Fills the mart's table ``internal.vendor_check``, which the view ``vendor_checks`` reads."""

    settings: Settings

    def create(self, duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
        """Evaluate the profiles as of a run. Raises VendorProfileError."""
        fill(duck, TABLE, ({"run_id": run_id, **_plain(check)} for check in evaluate(duck, self.settings, run_id)))


def evaluate(connection: duckdb.DuckDBPyConnection, settings: Settings, run_id: int) -> Iterator[Check]:
    """What every profile in use says as of a run. The connection's views answer for that run."""
    facts = Facts(connection, run_id)
    for use in uses(settings):
        yield from _of_use(use, facts)


def worst(checks: Iterable[Check]) -> list[Check]:
    """Checks with the gravest first."""
    return sorted(
        checks, key=lambda one: (SEVERITIES.index(one.severity), one.profile, one.subject_type, one.key_arn or "")
    )


def _plain(check: Check) -> dict[str, Any]:
    row = check.row()
    return row | {name: row[name].isoformat() if row[name] else None for name in _TIMES}


def _of_use(use: Use, facts: Facts) -> Iterator[Check]:
    roles = Roles(use, facts)
    found_roles = roles.everywhere()
    listed_keys = _missing(use, facts)
    arns: list[str] | None = None
    accounts: Sequence[str] = use.accounts
    if use.keys or use.profile.keys.found_by != "account_of_role":
        arns = _arns(use, facts, keys_named_by(found_roles))
    elif not accounts:
        accounts = sorted({role.account_id for role in found_roles})
    gone = _gone(use, facts, arns or [])
    if not use.configured and not arns and not gone and not found_roles and not (arns is None and accounts):
        yield _not_configured(use, facts)
        return
    judge = KeyJudge(use, facts, roles, Needs(use, facts, roles))
    seen: list[KeyRow] = []
    total = 0
    places: set[tuple[str, str]] = set()
    for key in facts.keys(arns=arns, accounts=accounts):
        check = judge.check(key)
        if not use.configured and check.result is Verdict.BROKEN and _forgotten(check, facts):
            continue
        total += 1
        places.add((key.account_id, key.region))
        yield check
        if arns is not None:
            seen.append(key)
            yield from _of_key(use, facts, key)
    yield from (_deleted(use, one) for one in gone)
    yield from listed_keys
    if use.configured and not total and not gone and not use.keys:
        yield finding(use, "no_keys", "No key was found that this use of the profile is about.", severity="medium",
                      fix="Name the keys in the settings (vendors.profiles).")  # fmt: skip
    where = {key.account_id for key in seen} or set(accounts) or set(use.accounts)
    account = use.text(roles.role.account) if roles.role else ""
    named = [key.key_arn for key in seen] if arns is not None else []
    yield from roles.findings(found_roles, named, [account] if account else sorted(where))
    yield from _mode(use, roles, found_roles)
    if use.profile.alias_moves is not None:
        yield from _moves(use, facts, [key.key_arn for key in seen])
    if use.profile.logging:
        yield from logging(use, facts, places)


def _arns(use: Use, facts: Facts, named_by_roles: Sequence[str]) -> list[str]:
    if use.keys:
        found = [arn for arns in facts.named(use.keys, use.accounts).values() for arn in arns]
    elif use.profile.keys.found_by == "vendor_account":
        found = facts.ever_named(use.values["vendor_account"], use.accounts)
    else:
        found = list(named_by_roles)
    found = list(dict.fromkeys(found))
    return facts.related(found) if use.profile.keys.replica_regions else found


def _gone(use: Use, facts: Facts, arns: Sequence[str]) -> list[Gone]:
    found = [one for one in facts.gone(use.keys or arns) if not use.accounts or one.account_id in use.accounts]
    if use.keys or use.configured:
        return found
    latest = facts.started_at
    return [one for one in found if one.since and (latest - one.since).days <= _FORGOTTEN_DAYS]


def _forgotten(check: Check, facts: Facts) -> bool:
    unshared = check.evidence is None or not check.evidence.startswith("state ")
    return unshared and check.since is not None and (facts.started_at - check.since).days > _FORGOTTEN_DAYS


def _missing(use: Use, facts: Facts) -> list[Check]:
    """Names of the settings that lead to no key; one that was deleted is told as such."""
    if not use.keys:
        return []
    checks = []
    for name, arns in facts.named(use.keys, use.accounts).items():
        if not arns and not facts.gone([name]):
            account = use.accounts[0] if len(use.accounts) == 1 else None
            reason = (
                f"The settings name {name}, which is no alias, ARN or id of a key in the ledger: it does not exist, or its "
                "account and region were not read."
            )
            checks.append(
                finding(
                    use,
                    "key_not_found",
                    reason,
                    result=Verdict.UNKNOWN,
                    severity="medium",
                    account_id=account,
                    subject=name,
                )
            )
    return checks


def _deleted(use: Use, gone: Gone) -> Check:
    scenario = use.profile.scenarios.deleted
    return Check(
        profile=use.name, vendor=use.profile.vendor, subject_type="key", check_name="access", result=Verdict.BROKEN,
        severity=use.profile.severity,
        reason=f"The key is gone: the complete list of its region of {day(gone.since)} does not show it. {scenario.effect}",
        account_id=gone.account_id, region=gone.region, key_arn=gone.key_arn, key_alias=gone.alias, fix=scenario.fix,
        since=gone.since, evidence="state deleted",
    )  # fmt: skip


def _not_configured(use: Use, facts: Facts) -> Check:
    profile = use.profile
    hint = {
        "vendor_account": f"no key policy names account {use.values.get('vendor_account')}",
        "role": "no role that the crawl has read trusts the vendor",
        "account_of_role": "no role of the vendor's was read",
    }.get(profile.keys.found_by, "it finds no keys by itself")
    if profile.role is not None:
        known = list(
            facts.rows(
                "SELECT count(*) FILTER (freshness IN ('current', 'stale')) AS read, count(*) AS all FROM iam_accounts"
            )
        )
        hint += f" (IAM of {known[0]['read']} of {known[0]['all']} accounts is known)"
    return Check(
        profile=use.name, vendor=profile.vendor, subject_type="profile", check_name="configuration", result=Verdict.NOT_CONFIGURED,
        severity="info", reason=f"Not configured: {hint}.",
        fix=f"If {profile.vendor} uses keys of yours, name them in the settings: vendors.profiles.{use.name}.",
    )  # fmt: skip


def _of_key(use: Use, facts: Facts, key: KeyRow) -> Iterator[Check]:
    """What is not as the profile asks beside the access."""
    keys = use.profile.keys
    failed: set[str] = set()
    for wanted in sorted(keys.properties, key=lambda one: one.level != "required"):
        if wanted.name in failed:
            continue
        have = getattr(key, wanted.name)
        text = str(have).lower() if isinstance(have, bool) else have
        if text is None:
            yield finding(
                use,
                wanted.name,
                f"Its {_words(wanted)} is not known.",
                key=key,
                result=Verdict.UNKNOWN,
                severity="medium",
            )
        elif text not in wanted.expect:
            failed.add(wanted.name)
            yield _property(use, wanted, text, key)
    regions = [region for one in keys.regions if (region := use.text(one))]
    if keys.primary_region:
        regions = [keys.primary_region, *keys.replica_regions]
    if regions and key.region not in regions:
        reason = f"The key is in {key.region}; the profile asks for {listed(regions)}."
        yield finding(
            use, "region", reason, key=key, fix="A key cannot be moved: make one in that region and share it."
        )
    if keys.replica_regions and key.multi_region_type == "PRIMARY":
        have_regions = {arn.split(":")[3] for arn in key.replica_arns}
        for region in keys.replica_regions:
            if region not in have_regions and key.region != region:
                command = f"aws kms replicate-key --region {key.region} --key-id {key.key_id} --replica-region {region}"
                reason = f"The key has no replica in {region}, which the vendor's disaster recovery needs."
                yield finding(
                    use,
                    "replica_missing",
                    reason,
                    key=key,
                    fix=f"{command}; then name the replica's ARN in the role's policy.",
                )
    if keys.primary_region and key.multi_region_type == "PRIMARY" and key.region != keys.primary_region:
        reason = f"The primary key is in {key.region}; the vendor's main region is {keys.primary_region}."
        yield finding(
            use,
            "primary_region",
            reason,
            key=key,
            fix=f"aws kms update-primary-region --primary-region {keys.primary_region}",
        )
    if keys.delegation == "expected" and key.policy_hash is not None:
        policy = facts.policy(key.policy_hash)
        root = {key.account_id, f"arn:{key.key_arn.split(':')[1]}:iam::{key.account_id}:root"}
        if not any(
            one.effect == "Allow" and root & {named.value for named in one.principals} for one in policy.statements
        ):
            reason = (
                "The key policy does not leave decisions to IAM of its own account: if the administrators that it names are "
                "deleted, nobody can change it."
            )
            yield finding(
                use,
                "delegation",
                reason,
                key=key,
                severity="medium",
                fix="Put the statement for the account's root back.",
            )
    if keys.protected:
        yield from _edits(use, facts, key)


def _property(use: Use, wanted: Property, have: str, key: KeyRow) -> Check:
    required = wanted.level == "required"
    asks = "asks for" if required else "recommends"
    reason = f"Its {_words(wanted)} is {have}; the profile {asks} {' or '.join(wanted.expect)}. {wanted.why}"
    if wanted.name == "multi_region":
        kind = {"true": "a multi-Region key", "false": "a single-Region key"}
        expected = " or ".join(kind.get(one, one) for one in wanted.expect)
        reason = f"It is {kind.get(have, have)}; the profile {asks} {expected}. {wanted.why}"
    more: dict[str, Any] = {
        "severity": "high" if required else "low",
        "result": Verdict.WRONG if required else Verdict.ADVICE,
    }
    return finding(
        use, wanted.name, reason, key=key, fix="This cannot be changed on a key: make a new one and move over.", **more
    )


def _words(wanted: Property) -> str:
    return {"key_spec": "key spec", "key_usage": "usage", "origin": "key material's origin"}.get(
        wanted.name, wanted.name
    )


def _edits(use: Use, facts: Facts, key: KeyRow) -> Iterator[Check]:
    for change in facts.changes(key.key_arn, use.profile.keys.protected_days):
        if change["event_type"].startswith(_EDITS):
            before, after = change["before"] or "nothing", change["after"] or "nothing"
            yield finding(
                use, "protected_key_edited", f"A key that the vendor asks not to edit was edited: {change['message']}",
                key=key, severity="critical",
                fix=f"Put back what was there before, unless it was planned with {use.profile.vendor}.",
                evidence=f"before: {before}\nafter: {after}", since=change["since"],
            )  # fmt: skip


def _moves(use: Use, facts: Facts, arns: Sequence[str]) -> Iterator[Check]:
    moves = use.profile.alias_moves
    names = [name for name in use.keys if name.startswith("alias/")]
    for move in facts.alias_moves(names, arns) if moves else ():
        left = [
            row for row in facts.dependents(move["from_arn"]) if row["service"] in (moves.services if moves else ())
        ]
        if not left or moves is None:
            continue
        _, _, _, region, account, _ = move["from_arn"].split(":", 5)
        reason = (
            f"Alias {move['alias_name']} was moved to another key ({move['to_arn'].rpartition('/')[2]}) "
            f"on {day(move['since'])}, while "
            f"{listed(row['name'] for row in left)} still {'uses' if len(left) == 1 else 'use'} the old one. {moves.effect}"
        )
        yield finding(
            use, "alias_moved", reason, severity="high", account_id=account, region=region, key_arn=move["from_arn"],
            key_alias=move["alias_name"], subject=left[0]["resource_arn"], fix=moves.fix, since=move["since"],
            evidence=f"from {move['from_arn']} to {move['to_arn']}",
        )  # fmt: skip


def _mode(use: Use, roles: Roles, found: Sequence[Any]) -> Iterator[Check]:
    """The role's policy has another mode than the settings: the vendor reaches other keys than meant."""
    tags = use.profile.tags
    chosen = use.values.get(tags.chosen_by, "") if tags else ""
    for role in found if chosen else ():
        mode = roles.mode(role)
        if mode != chosen:
            what = f"is for {mode}" if mode else f"has none of the conditions of {listed(tags.modes if tags else ())}"
            reason = f"The policy of role {role.name} {what}; the settings say {chosen}."
            yield finding(
                use, "mode", reason, account_id=role.account_id, account_name=role.account_name, region="global",
                subject=role.arn, fix="Update the integration to the mode that is meant, or correct the settings.",
            )  # fmt: skip
