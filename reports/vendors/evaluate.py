"""Evaluates vendor profiles against the mart: a result for every key that a vendor should use, and findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import orjson

from models.settings import Settings
from reports.mart.extension import Extension, fill
from reports.vendors.access_check import AccessCheck
from reports.vendors.assignments import ProfileAssignment, load_assignments
from reports.vendors.key_check import KeyCheck
from reports.vendors.queries import Facts, KeyRow, RoleRow
from reports.vendors.result import Check, CheckResult, check_of, date_text, join_list
from reports.vendors.role_check import Roles, keys_named_by

_STALE_SHARE_DAYS = 30
"""A key that the settings do not name is ignored if sharing stopped longer ago than this."""


@dataclass(frozen=True, slots=True)
class VendorChecks(Extension):
    """Fills the mart's table ``internal.vendor_check``, which the view ``vendor_checks`` reads."""

    settings: Settings

    def create(self, duck: duckdb.DuckDBPyConnection, run_id: int) -> None:
        """Evaluate the profiles as of a run, which must be that of the connection's views. Raises VendorProfileError."""
        facts = Facts(duck, run_id)
        assignments = load_assignments(self.settings)
        checks = (check for assignment in assignments for check in evaluate_assignment(assignment, facts))
        fill(duck, "vendor_check", ({"run_id": run_id, **check.row()} for check in checks))


def evaluate_assignment(assignment: ProfileAssignment, facts: Facts) -> Iterator[Check]:
    """Yield the checks of one profile assignment."""
    profile, configured = assignment.profile, assignment.configured
    roles = Roles(assignment, facts)
    existing_roles = roles.all()
    accounts = list(assignment.accounts)
    names = assignment.keys
    arns: list[str] | None = None
    unknown_names: list[str] = []
    if names or profile.keys.found_by != "account_of_role":
        arns, unknown_names = _arns(assignment, facts, existing_roles)
    elif not accounts:
        accounts = sorted({role.account_id for role in existing_roles})
    deleted_keys = list(facts.rows("deleted_keys", names=names or arns)) if names or arns else []
    former_names = {name for key in deleted_keys for name in (key["key_arn"], key["key_id"], *key["aliases"])}
    deleted_keys = [
        key
        for key in deleted_keys
        if (not assignment.accounts or key["account_id"] in assignment.accounts)
        and (configured or (key["since"] and (facts.started_at - key["since"]).days <= _STALE_SHARE_DAYS))
    ]
    if not (configured or arns or deleted_keys or existing_roles or (arns is None and accounts)):
        yield _not_configured(assignment, facts)
        return
    access = AccessCheck(assignment, facts, roles)
    keys: list[KeyRow] = []
    for key in facts.keys(arns, accounts):
        check = KeyCheck(access, key).result()
        if configured or check.result is not CheckResult.BROKEN or not _is_stale_share(check, facts):
            keys.append(key)
            yield check
    checked = [key.key_arn for key in keys if arns is not None]
    yield from _of_rows(assignment, _key_findings(assignment, facts, checked))
    yield from (_deleted(assignment, key) for key in deleted_keys)
    yield from (_missing(assignment, name) for name in unknown_names if name not in former_names)
    if configured and not keys and not deleted_keys and not names:
        yield check_of(assignment, "no_keys", "No key matches this assignment of the profile.", severity="medium",
                      fix="Add the keys to the settings (vendors.profiles).")  # fmt: skip
    role_accounts = (checked and {key.account_id for key in keys}) or accounts
    yield from roles.findings(existing_roles, checked, [roles.account] if roles.account else role_accounts)
    if profile.alias_moves is not None:
        moves = profile.alias_moves.model_dump(mode="json")
        aliases = [name for name in names if name.startswith("alias/")]
        yield from _of_rows(assignment, facts.rows("alias_moves", names=aliases, arns=checked, **moves))
    if profile.logging and keys:
        account_regions = sorted({f"{key.account_id}/{key.region}" for key in keys})
        yield from _of_rows(assignment, facts.rows("logging", account_regions=account_regions, why=profile.logging))


def _of_rows(assignment: ProfileAssignment, rows: Any) -> Iterator[Check]:
    return (check_of(assignment, **row) for row in rows)


def _arns(assignment: ProfileAssignment, facts: Facts, roles: Sequence[RoleRow]) -> tuple[list[str], list[str]]:
    """The ARNs of the profile's keys, and configured names that match no existing key."""
    keys, accounts = assignment.profile.keys, list(assignment.accounts)
    unknown_names: list[str] = []
    if names := assignment.keys:
        rows = list(facts.rows("keys_by_name", names=names, accounts=accounts))
        known = {row["name"] for row in rows}
        unknown_names = [name for name in dict.fromkeys(names) if name not in known]
    elif keys.found_by == "vendor_account":
        account = assignment.values["vendor_account"]
        rows = list(facts.rows("shared_keys", vendor_account=account, accounts=accounts))
    else:
        rows = [{"key_arn": arn} for arn in keys_named_by(roles)]
    arns = list(dict.fromkeys(row["key_arn"] for row in rows))
    if arns and keys.replica_regions:
        arns = [row["key_arn"] for row in facts.rows("related_keys", arns=arns)]
    return arns, unknown_names


def _key_findings(assignment: ProfileAssignment, facts: Facts, arns: list[str]) -> Iterator[dict[str, Any]]:
    keys = assignment.profile.keys
    regions = [region for template in keys.regions if (region := assignment.text(template))]
    if keys.primary_region:
        regions = [keys.primary_region, *keys.replica_regions]
    requirements = orjson.dumps({**keys.model_dump(mode="json"), "regions": regions}).decode()
    if arns:
        yield from facts.rows("key_findings", arns=arns, requirements=requirements, regions_text=join_list(regions))
    if arns and keys.protected:
        yield from facts.rows("edits", arns=arns, days=keys.protected_days, vendor=assignment.profile.vendor)


def _is_stale_share(check: Check, facts: Facts) -> bool:
    is_unshared = check.evidence is None or not check.evidence.startswith("state ")
    return is_unshared and check.since is not None and (facts.started_at - check.since).days > _STALE_SHARE_DAYS


def _missing(assignment: ProfileAssignment, name: str) -> Check:
    return check_of(
        assignment, "key_not_found",
        f"The settings name {name}, but the ledger has no key with this alias, ARN or ID: it does not exist, or its "
        "account and region were not read.",
        result=CheckResult.UNKNOWN, severity="medium", subject=name,
        account_id=assignment.accounts[0] if len(assignment.accounts) == 1 else None,
    )  # fmt: skip


def _deleted(assignment: ProfileAssignment, key: dict[str, Any]) -> Check:
    scenario = assignment.profile.scenarios.deleted
    return check_of(
        assignment, "access",
        f"The key was deleted: the complete key list of its region of {date_text(key['since'])} does not contain it. "
        f"{scenario.effect}",
        subject_type="key", result=CheckResult.BROKEN, account_id=key["account_id"], region=key["region"],
        key_arn=key["key_arn"], key_alias=key["key_alias"], fix=scenario.fix, since=key["since"], evidence="state deleted",
    )  # fmt: skip


def _not_configured(assignment: ProfileAssignment, facts: Facts) -> Check:
    profile = assignment.profile
    hint = {
        "vendor_account": f"no key policy names account {assignment.values.get('vendor_account')}",
        "role": "no role that was read trusts the vendor",
        "account_of_role": "no role of the vendor was found",
    }.get(profile.keys.found_by, "the profile does not discover keys")
    if profile.role is not None:
        hint += f" ({facts.iam_read()})"
    return check_of(
        assignment, "configuration", f"Not configured: {hint}.", subject_type="profile",
        result=CheckResult.NOT_CONFIGURED, severity="info",
        fix=f"If {profile.vendor} uses your keys, add them to the settings: vendors.profiles.{assignment.name}.",
    )  # fmt: skip
