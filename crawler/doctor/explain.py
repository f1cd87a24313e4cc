"""Turns failed calls into checks: grouped by what fixes them, each with the statement or command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from crawler.aws.credentials import ASSUME_ROLE, Identity, iam_arn
from crawler.aws.errors import FIXES
from crawler.doctor.probe import Failure
from crawler.iam_policies import Permissions, external_id_condition
from crawler.services.kms import DESCRIBE_KEY
from crawler.spec import WHOLE_SCOPE
from models.aws_error_codes import DENIED_CODES
from models.diagnosis import Check, Status, named
from models.remediation import EXTERNAL_ID, FIX_IN, Fix, fix
from models.settings import Settings
from models.tables.runs import Cause

Group = tuple[str, ...]


def explain(failures: Sequence[Failure], identity: Identity, settings: Settings) -> list[Check]:
    """Return a check for each group of failures that one fix solves."""
    groups: dict[Group, list[Failure]] = {}
    for failure in failures:
        groups.setdefault(_group(failure, failures), []).append(failure)
    groups = _merge_actions(groups)
    return [_check(group, listed, identity, settings) for group, listed in groups.items()]


def _group(failure: Failure, failures: Sequence[Failure]) -> Group:
    cause = str(failure.error.cause)
    if failure.operation is ASSUME_ROLE:
        return ("role", cause, failure.error.code)
    if failure.operation is WHOLE_SCOPE:
        return ("region", cause, failure.region)
    if _is_locked_out(failure):
        # Keys of an account whose policies deny the same actions get the same statement.
        actions = sorted(
            {other.action for other in failures if other.subject == failure.subject and _is_locked_out(other)}
        )
        return ("key policy", cause, failure.account_id, *actions)
    if failure.error.cause in {Cause.UNREACHABLE, Cause.UNSUPPORTED}:
        return ("endpoint", cause, failure.operation.service, failure.region)
    own = "own" if failure.identity and ":role/" not in failure.identity else ""
    return ("action", cause, failure.action, own)


def _merge_actions(groups: dict[Group, list[Failure]]) -> dict[Group, list[Failure]]:
    """Merge the groups of actions that are denied for the same reason in the same accounts: one statement allows all of them."""
    merged: dict[Group, list[Failure]] = {}
    for group, failures in groups.items():
        accounts = sorted({failure.account_id for failure in failures})
        key = ("action", group[1], group[3], *accounts) if group[0] == "action" else group
        merged.setdefault(key, []).extend(failures)
    return merged


def _is_locked_out(failure: Failure) -> bool:
    return failure.error.cause is Cause.KEY_POLICY and failure.operation.service == "kms" and bool(failure.subject)


def _check(group: Group, failures: Sequence[Failure], identity: Identity, settings: Settings) -> Check:
    name, first = group[0], failures[0]
    error = first.error
    accounts = tuple(sorted({failure.account_id for failure in failures}))
    regions = sorted({failure.region for failure in failures} - {"*"})
    text = error.cause.text
    where = f"in {named(accounts)}"
    remedy = _remedy(group, failures, identity, settings)
    match name:
        case "role":
            role = f"role {settings.role.name}"
            text = text.replace("the role's", f"{role}'s").replace("the role ", f"{role} ")
            subjects: tuple[str, ...] = tuple(sorted({failure.subject for failure in failures}))
            message = f"{text}, {where}"
        case "region":
            subjects = (first.region,)
            message = f"{first.region} is closed ({text}), {where}"
        case "key policy":
            subjects = tuple(sorted({failure.subject for failure in failures}))
            message = f"{text}, for {named(subjects)} ({', '.join(group[3:])})"
        case "endpoint":
            subjects = (first.operation.service, first.region)
            message = f"{first.operation.service} in {first.region}: {text} ({error.code}: {error.message}), {where}"
        case _:
            subjects = tuple(sorted({failure.action for failure in failures}))
            detail = "" if error.code in DENIED_CODES else f" ({error.code}: {error.message})"
            message = f"{named(subjects)}: {text}{detail}, {where} ({named(regions)})"
    return Check(name, Status.PROBLEM, message, remedy.where, remedy.statement, accounts, subjects)


def _remedy(group: Group, failures: Sequence[Failure], identity: Identity, settings: Settings) -> Fix:
    first = failures[0]
    cause = first.error.cause
    messages = [failure.error.message for failure in failures]
    actions = sorted({failure.action for failure in failures})
    role = first.subject if group[0] == "role" else iam_arn(first.identity or identity.arn)
    if len({failure.account_id for failure in failures}) > 1:
        role = re.sub(r"::\d{12}:", "::*:", role)
    if group[0] == "region":
        return _region_remedy(group, role, messages)
    if group[0] == "key policy":
        statement = Permissions(settings, identity.partition).key_policy_statement(role)
        if DESCRIBE_KEY.iam_action not in group[3:]:
            statement["Action"] = list(group[3:])
        keys = "this key" if len({failure.subject for failure in failures}) == 1 else "each of these keys"
        return Fix(f"add this statement to the key policy of {keys}", statement)
    if (fix_in := FIX_IN.get(str(cause))) is not None:
        if group[0] == "action" and fix_in == "key_policy":
            fix_in = "resource_policy"
        caller = iam_arn(identity.arn)
        trust = _trust(caller, identity, settings) if fix_in == "trust_policy" else None
        remedy = fix(str(cause), fix_in, role, actions, messages, caller, trust)
        if fix_in == "role_policy" and not group[2]:
            # Attached once, the complete policy also allows what no call has tried.
            return Fix(
                f"{remedy.where}, or attach the policy of `kmsledger permissions --role member`", remedy.statement
            )
        return remedy
    if cause is Cause.UNREACHABLE:
        where = (
            f"open the network to it, name its VPC endpoint in aws.endpoints, or add {first.region} to regions.exclude"
        )
        return Fix(where, None)
    return Fix(_FIXES.get(cause, "correct what the message of AWS names"), None)


_FIXES = FIXES | {
    Cause.ACCOUNT_SUSPENDED: "close or reopen the account, or list it in organization.exclude.accounts",
    Cause.UNSUPPORTED: "list the resource types that the endpoint supports in crawl.resource_types, or exclude the region",
}


def _trust(caller: str, identity: Identity, settings: Settings) -> list[dict[str, Any]]:
    """The statements of the trust policy that the settings require, with a placeholder for the external ID."""
    condition = None if settings.role.external_id is None else external_id_condition(EXTERNAL_ID)
    statements: list[dict[str, Any]] = Permissions(settings, identity.partition).trust(caller, condition)["Statement"]
    return statements


def _region_remedy(group: Group, role: str, messages: Sequence[str]) -> Fix:
    cause, region = group[1], group[2]
    if cause == str(Cause.SERVICE_CONTROL_POLICY):
        allowing = fix(cause, FIX_IN[cause], role, ["*"], messages, None)
        return Fix(f"add {region} to regions.exclude if it is not used; otherwise {allowing.where}", allowing.statement)
    return Fix(f"wait until {region} is enabled in the account, or add it to regions.exclude", None)
