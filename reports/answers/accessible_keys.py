"""The keys that a principal or account can use across the organization, with access paths and the keys' dependents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.safe_text import printable
from reports.access.engine.kms_actions import KEY_LEVEL
from reports.access.engine.policy_parser import Named
from reports.access.engine.principals import Principal, classify, role_of
from reports.answers import identifier_lookup
from reports.answers.access_paths import protected_key
from reports.answers.change_event import format_account_region
from reports.answers.key_access import IDENTITIES, find_identity
from reports.answers.repository import Facts, Identity, opened
from reports.answers.text import UNEVALUATED_POLICIES, and_more, describe_key
from reports.answers.who_can_result import CONDITIONAL, UNKNOWN, UNUSED, YES
from reports.mart.as_of import RunRef
from reports.mart.errors import QueryError
from reports.mart.rows import Row, rows

FORMAT = "kmsledger.what-can/1"
_MAX_NAMES = 5
_ACCESS = """
SELECT key_arn, key_alias, account_id, account_name, region, key_state, access, principal, principal_account, party,
  operations, path, source_id, conditions, needs_iam, reason, message, alternative_paths, since_run, since
FROM internal.key_access
WHERE access NOT IN ('public', 'public_via_service', 'aws_service') AND {}
ORDER BY account_id, region, key_alias NULLS LAST, key_arn, path DESC, source_id
"""
_IN_ORGANIZATION = "(access = 'organization' AND principal_account IS NULL)"
_PUBLIC = "SELECT DISTINCT key_arn FROM internal.key_access WHERE access IN ('public', 'public_via_service')"
_DEPENDENTS = """
SELECT key_arn, count(DISTINCT resource_arn) AS resources,
  list_sort(list(DISTINCT coalesce(resource_name, resource_arn)))[:{}] AS names
FROM resource_keys WHERE key_arn IN (SELECT unnest($keys)) GROUP BY key_arn
"""
_OPERATIONS = tuple(sorted(f"kms:{name}" for name in KEY_LEVEL))


@dataclass(slots=True)
class AccessibleKeys:
    """The keys that one principal or account can use."""

    run: RunRef
    principal: str
    principal_type: str
    """principal or account."""
    unknown: str
    """Which IAM policies are unknown, as a sentence; empty if none."""
    public_keys: int
    """The number of keys that anyone can use, if evaluated only those that the principal's IAM allows; they are not listed."""
    iam_evaluated: bool
    """Whether the principal's own policies decide over its access."""
    keys: list[Row]
    """Each with its columns of view keys, ``access_paths``, ``dependent_count`` and the first ``dependents``."""

    @property
    def known(self) -> bool:
        """Whether no access path is unknown or depends on IAM policies that were not collected."""
        return not any(path["answer"] in {UNKNOWN, CONDITIONAL} for key in self.keys for path in key["access_paths"])

    def to_dict(self) -> dict[str, Any]:
        """The JSON document that `kmsledger what-can --help` describes."""
        return {
            "format": FORMAT,
            "as_of": self.run,
            "principal": self.principal,
            "principal_type": self.principal_type,
            "unknown": self.unknown or None,
            "public_keys": self.public_keys,
            "keys": self.keys,
            "notes": [UNEVALUATED_POLICIES],
        }

    def to_text(self) -> str:
        """Text for a terminal."""
        count = len(self.keys)
        lines = [f"{self.principal} can use {count} key{'' if count == 1 else 's'}. As of {self.run}."]
        lines += [self.unknown] if self.unknown else []
        for key in self.keys:
            lines += ["", *_key_lines(key, self.principal_type)]
        if self.public_keys:
            whose = "its account's" if self.principal_type == "principal" else "its"
            condition = "" if self.iam_evaluated else f", if {whose} IAM allows"
            count_line = f"Keys that anyone can use{condition}: {self.public_keys}"
            lines += ["", f"{count_line}; `kmsledger cookbook public-keys` lists the keys that are open to anyone."]
        lines += ["", f"Note: {UNEVALUATED_POLICIES}"]
        return "\n".join(map(printable, lines))


def _key_lines(key: Row, principal_type: str) -> Iterator[str]:
    yield describe_key(key)
    for path in key["access_paths"]:
        source_type = {"policy": "statement", "grant": "grant"}.get(path["path"], "IAM policy")
        source = f"{source_type} {path['source_id']}"
        iam = f" with {' or '.join(path['identity_policies'])}" if path["identity_policies"] else ""
        qualifier = ", if its IAM allows" if path["needs_iam"] and not iam else ""
        qualifier = f" (unknown: {path['reason']})" if path["answer"] == UNKNOWN else qualifier
        conditions = f", {path['conditions']}" if path["conditions"] else ""
        principal = f" for {path['principal']}" if path["principal"] and principal_type == "account" else ""
        yield f"  {source}{iam}{principal}{qualifier}{conditions}: {', '.join(path['operations'])}"
    if key["dependent_count"]:
        yield f"  dependents: {and_more(key['dependents'], key['dependent_count'])}"


def accessible_keys(path: Path, principal: str, *, as_of: str | None = None) -> AccessibleKeys:
    """The keys that a principal or account can use, from a mart.

    Raises MartError, or QueryError (exit code 2) for a principal that the ledger does not contain.
    """
    with opened(path, as_of) as facts:
        return find_accessible_keys(facts, principal.strip())


def find_accessible_keys(facts: Facts, text: str) -> AccessibleKeys:
    """The keys that a principal or account can use."""
    public_keys = [row["key_arn"] for row in rows(facts.duck, _PUBLIC)]
    principal = classify(Named("AWS", text))
    if principal.type in {"account", "unknown"}:
        arn = None if principal.type == "account" else _principal_by_name(facts, text)
        if arn is None:
            account = principal.account or _account(facts, text)
            name = facts.account_names.get(account) or facts.organization.parties.get(account)
            return AccessibleKeys(
                facts.run,
                f"Account {format_account_region(account, name, None)}",
                "account",
                _unknown_iam(facts, account),
                len(public_keys),
                False,
                _by_key(facts, _paths_of_account(facts, account)),
            )
        principal = classify(Named("AWS", arn))
    paths, unknown, identity = _paths_of_principal(facts, principal)
    if identity is not None:
        public_keys = [
            key.facts.arn
            for key in facts.keys(public_keys)
            if protected_key(key, facts.organization).access_paths(identity, _OPERATIONS)
        ]
    return AccessibleKeys(
        facts.run,
        principal.written,
        "principal",
        unknown,
        len(public_keys),
        identity is not None,
        _by_key(facts, paths),
    )


def _account(facts: Facts, text: str) -> str:
    try:
        accounts = identifier_lookup.find_accounts(facts.duck, text)
    except QueryError as error:
        hint = str(error).partition("ledger")[2]
        raise QueryError(f"there is no principal or account {printable(text)!r} in the ledger{hint}") from error
    if len(accounts) > 1:
        raise QueryError(
            f"{printable(text)!r} is the name of {len(accounts)} accounts: specify the ID: {', '.join(accounts)}"
        )
    return accounts[0]


def _principal_by_name(facts: Facts, text: str) -> str | None:
    """The ARN of a user or role by its name or unique ID, or a principal that policies write so."""
    query = (
        "SELECT arn FROM iam_principals WHERE name = $name OR unique_id = $name "
        "UNION SELECT principal FROM internal.key_access WHERE principal = $name ORDER BY 1"
    )
    arns = [row["arn"] for row in rows(facts.duck, query, {"name": text})]
    if len(arns) > 1:
        listed = ", ".join(map(printable, arns[:8]))
        raise QueryError(f"{printable(text)!r} is the name of {len(arns)} principals: specify the ARN: {listed}")
    return arns[0] if arns else None


def _unknown_iam(facts: Facts, account: str) -> str:
    if account not in facts.organization.accounts:
        return (
            f"Account {account} is outside the organization: its own IAM decides which of its principals have access."
        )
    if facts.complete_iam(account):
        return ""
    return f"Where access depends on IAM, the principals are unknown: {facts.why_no_iam(account)}."


def _paths_of_account(facts: Facts, account: str) -> Iterator[Row]:
    everyone = f" OR {_IN_ORGANIZATION}" if account in facts.organization.accounts else ""
    # With IAM collected, an account's access is certain: its root user has it, and its identities have rows of their own.
    uncollected = account in facts.organization.accounts and not facts.complete_iam(account)
    for row in rows(facts.duck, _ACCESS.format(f"(principal_account = $account{everyone})"), {"account": account}):
        path = _unevaluated(row)
        yield path | {"answer": YES} if path["answer"] == CONDITIONAL and not uncollected else path


def _paths_of_principal(facts: Facts, principal: Principal) -> tuple[list[Row], str, Identity | None]:
    """The access paths of one principal, which IAM policies are unknown, and the identity if its policies are known."""
    account = principal.account
    if principal.type not in IDENTITIES or account is None:
        query = _ACCESS.format("principal = $principal").replace(", 'aws_service'", "")
        named = rows(facts.duck, query, {"principal": principal.written})
        return list(map(_unevaluated, named)), "", None
    everyone = f" OR {_IN_ORGANIZATION}" if account in facts.organization.accounts else ""
    where = (
        "(principal IN ($principal, $role) OR (principal_account = $account AND (principal = '*' OR principal = $account "
        f"OR principal LIKE '%:root')){everyone})"
    )
    candidates = rows(
        facts.duck,
        _ACCESS.format(where),
        {"principal": principal.written, "role": role_of(principal.written), "account": account},
    )
    identity = find_identity(facts, principal) if facts.known_iam(account) else None
    if identity is not None:
        return list(_evaluated_paths(facts, identity, candidates)), "", identity
    if facts.complete_iam(account):
        return [], f"The IAM of account {account} has no such user or role.", None
    return list(map(_unevaluated, candidates)), _unknown_iam(facts, account), None


def _unevaluated(row: Row) -> Row:
    """An access path whose answer does not depend on policies of identities."""
    answer = CONDITIONAL if row["needs_iam"] else YES
    return row | {"answer": {"unknown": UNKNOWN, "deleted": UNUSED}.get(row["access"], answer), "identity_policies": []}


def _evaluated_paths(facts: Facts, identity: Identity, candidates: Iterable[Row]) -> Iterator[Row]:
    """The candidate paths, of the account or of everyone, that the identity's own policies allow."""
    rows_by_key: dict[str, list[Row]] = {}
    for row in candidates:
        rows_by_key.setdefault(row["key_arn"], []).append(row)
    for key in facts.keys(list(rows_by_key)):
        key_rows = rows_by_key[key.facts.arn]
        if key.policy is None and not key.grants:
            yield from (_unevaluated(row) for row in key_rows if row["access"] == "unknown")
            continue
        for path in protected_key(key, facts.organization).access_paths(identity, _OPERATIONS):
            source = (path.path, path.source_id)
            row = next((row for row in key_rows if (row["path"], row["source_id"]) == source), key_rows[0])
            names = ("path", "source_id", "operations", "conditions", "reason")
            answer = {"answer": YES if path.certain else UNKNOWN, "identity_policies": path.identity_policies}
            needs_iam = {"needs_iam": bool(path.identity_policies)}
            yield row | {name: getattr(path, name) for name in names} | needs_iam | answer


_KEY_COLUMNS = ("key_arn", "key_alias", "account_id", "account_name", "region", "key_state")


def _by_key(facts: Facts, paths: Iterable[Row]) -> list[Row]:
    """The keys of access paths, each with its paths and dependents."""
    keys: dict[str, Row] = {}
    for row in paths:
        key = {name: row.pop(name) for name in _KEY_COLUMNS}
        row["since"] = row["since"].isoformat() + "Z" if row["since"] else None
        keys.setdefault(key["key_arn"], key | {"access_paths": []})["access_paths"].append(row)
    values = {"keys": list(keys)}
    dependents = {row["key_arn"]: row for row in rows(facts.duck, _DEPENDENTS.format(_MAX_NAMES), values)}
    for key_arn, key in keys.items():
        row = dependents.get(key_arn, {"resources": 0, "names": []})
        key |= {"dependent_count": row["resources"], "dependents": row["names"]}
    return list(keys.values())
