"""Which keys a principal or account can use, across the organization, by which ways, and what those keys protect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.access.engine.kms_actions import KEY_LEVEL
from reports.access.engine.policy_parser import Named
from reports.access.engine.principals import Principal, classify
from reports.answers import identifier_lookup
from reports.answers.access_paths import Way, key_gate
from reports.answers.key_access import identity_named
from reports.answers.repository import Facts, Identity, opened
from reports.answers.version_diff import rows
from reports.mart.as_of import Moment
from reports.mart.change_event import moment, place
from reports.mart.errors import QueryError
from reports.mart.result_writers import printable

FORMAT = "kmsledger.what-can/1"
_NAMES_SHOWN = 5
_EVERYONE = ("public", "public_via_service")
_ACCESS = """
SELECT key_arn, key_alias, account_id, account_name, region, key_state, access, principal, principal_account, party,
  operations, path, source_id, scope, needs_iam, reason, message, alternative_paths, since_run, since
FROM internal.key_access
WHERE access NOT IN ('public', 'public_via_service', 'aws_service') AND {}
ORDER BY account_id, region, key_alias NULLS LAST, key_arn, path DESC, source_id
"""
_IN_ORGANIZATION = "(access = 'organization' AND principal_account IS NULL)"
_PUBLIC = (
    "SELECT count(DISTINCT key_arn) AS n FROM internal.key_access WHERE access IN ('public', 'public_via_service')"
)
_USED = """
SELECT key_arn, count(DISTINCT resource_arn) AS resources,
  list_sort(list(DISTINCT coalesce(resource_name, resource_arn)))[:{}] AS names
FROM resource_keys WHERE key_arn IN (SELECT unnest($keys)) GROUP BY key_arn
"""
_OPERATIONS = tuple(sorted(f"kms:{name}" for name in KEY_LEVEL))


@dataclass(slots=True)
class Usable:
    """One key, with the ways of whoever was asked about."""

    key_arn: str
    key_alias: str | None
    account_id: str
    account_name: str | None
    region: str
    key_state: str | None
    ways: list[dict[str, Any]] = field(default_factory=list)
    protects: int = 0
    protected: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Reach:
    """The keys within reach."""

    end: Moment
    who: str
    kind: str
    """principal or account."""
    iam: str
    """What is known of the IAM policies that have a say, as a sentence; empty when all of it."""
    public: int
    """Keys that anyone can use, and so this one; not listed."""
    keys: list[Usable]

    @property
    def known(self) -> bool:
        """Whether all of it is known."""
        return not any(way["answer"] in {"unknown", "depends"} for one in self.keys for way in one.ways)

    def plain(self) -> dict[str, Any]:
        """For JSON; the README describes it."""
        return {
            "format": FORMAT,
            "as_of": moment(self.end),
            "who": self.who,
            "kind": self.kind,
            "not_known": self.iam or None,
            "public_keys": self.public,
            "keys": [one.plain() for one in self.keys],
        }

    def lines(self) -> list[str]:
        """For people."""
        count = len(self.keys)
        found = [f"{self.who} can use {count} key{'' if count == 1 else 's'}. As of {self.end}."]
        found += [self.iam] if self.iam else []
        for one in self.keys:
            found += ["", *_lines(one, self.kind)]
        if self.public:
            found += [
                "",
                f"Besides, {self.public} keys can be used by anyone: `kmsledger sql` tells them from key_access.",
            ]
        return [printable(line) for line in found]


def _lines(one: Usable, kind: str) -> Iterator[str]:
    state = f", state {one.key_state}" if one.key_state not in {None, "Enabled"} else ""
    alias = f" ({one.key_alias})" if one.key_alias else ""
    yield f"{one.key_arn}{alias} in {place(one.account_id, one.account_name, one.region)}{state}"
    for way in one.ways:
        sort = {"policy": "statement", "grant": "grant"}.get(way["path"], "IAM policy")
        through = f"{sort} {way['via']}"
        iam = f" with {' or '.join(way['identity_policies'])}" if way["identity_policies"] else ""
        depends = ", if its IAM allows" if way["needs_iam"] and not iam else ""
        depends = f" (not known: {way['reason']})" if way["answer"] == "unknown" else depends
        scope = f", {way['scope']}" if way["scope"] else ""
        who = f" for {way['principal']}" if way["principal"] and kind == "account" else ""
        yield f"  {through}{iam}{who}{depends}{scope}: {', '.join(way['operations'])}"
    if one.protects:
        more = f" and {one.protects - len(one.protected)} more" if one.protects > len(one.protected) else ""
        yield f"  protects {', '.join(one.protected)}{more}"


def access(path: Path, who: str, *, as_of: str | None = None) -> Reach:
    """Answer from a mart. Raises MartError, or QueryError (exit code 2) for whom the ledger does not know."""
    with opened(path, as_of) as facts:
        return reach(facts, who.strip())


def reach(facts: Facts, who: str) -> Reach:
    """The keys that a principal or account can use."""
    public = rows(facts.duck, _PUBLIC)[0]["n"]
    found = classify(Named("AWS", who))
    if found.type in {"account", "unknown"}:
        named = None if found.type == "account" else _principal_named(facts, who)
        if named is None:
            account = found.account or _account(facts, who)
            keys = _gathered(_of_account(facts, account))
            text = place(account, facts.names.get(account) or facts.organization.parties.get(account), None)
            return Reach(
                facts.moment, f"Account {text}", "account", _depends(facts, account), public, _used(facts, keys)
            )
        found = classify(Named("AWS", named))
    ways, unknown = _of_principal(facts, found)
    return Reach(facts.moment, found.written, "principal", unknown, public, _used(facts, _gathered(ways)))


def _account(facts: Facts, who: str) -> str:
    try:
        accounts = identifier_lookup.accounts(facts.duck, who)
    except QueryError as error:
        hint = str(error).partition("ledger")[2]
        raise QueryError(f"there is no principal or account {printable(who)!r} in the ledger{hint}") from error
    if len(accounts) > 1:
        raise QueryError(
            f"{printable(who)!r} is the name of {len(accounts)} accounts: choose one by its id: {', '.join(accounts)}"
        )
    return accounts[0]


def _principal_named(facts: Facts, who: str) -> str | None:
    """A user or role by its bare name, or whatever else policies name so."""
    query = (
        "SELECT arn FROM iam_principals WHERE name = $who OR unique_id = $who "
        "UNION SELECT principal FROM internal.key_access WHERE principal = $who ORDER BY 1"
    )
    found = [row["arn"] for row in rows(facts.duck, query, {"who": who})]
    if len(found) > 1:
        listed = ", ".join(map(printable, found[:8]))
        raise QueryError(f"{printable(who)!r} is the name of {len(found)} principals: choose one by its ARN: {listed}")
    return found[0] if found else None


def _depends(facts: Facts, account: str) -> str:
    if account not in facts.organization.accounts:
        return f"Account {account} is not ours: its own IAM decides which of its principals can do that."
    if facts.iam.get(account, ("none", None))[0] == "current":
        return ""
    return f"Where IAM has a say it is not known who of the account: {facts.why_no_iam(account)}."


def _of_account(facts: Facts, account: str) -> Iterator[dict[str, Any]]:
    everyone = f" OR {_IN_ORGANIZATION}" if account in facts.organization.accounts else ""
    # With its IAM collected an account surely can: its root user, and whoever has a row of their own.
    ours = account in facts.organization.accounts and facts.iam.get(account, ("none", None))[0] != "current"
    for row in rows(facts.duck, _ACCESS.format(f"(principal_account = $account{everyone})"), {"account": account}):
        answer = _answer(row)
        yield row | {"answer": "yes" if answer == "depends" and not ours else answer, "identity_policies": []}


def _of_principal(facts: Facts, found: Principal) -> tuple[list[dict[str, Any]], str]:
    """The ways of one principal, and what is not known about them."""
    account = found.account
    if found.type not in {"role", "user", "session"} or account is None:
        mine = rows(
            facts.duck, _ACCESS.format("principal = $who").replace(", 'aws_service'", ""), {"who": found.written}
        )
        return [row | {"answer": _answer(row), "identity_policies": []} for row in mine], ""
    role = found.written
    if found.type == "session":
        head, _, rest = role.partition(":assumed-role/")
        role = f"{head.replace(':sts:', ':iam:')}:role/{rest.partition('/')[0]}"
    everyone = f" OR {_IN_ORGANIZATION}" if account in facts.organization.accounts else ""
    where = (
        "(principal IN ($who, $role) OR (principal_account = $account AND (principal = '*' OR principal = $account "
        f"OR principal LIKE '%:root')){everyone})"
    )
    values = {"who": found.written, "role": role, "account": account}
    mine = rows(facts.duck, _ACCESS.format(where), values)
    one = identity_named(facts, found) if facts.known_iam(account) else None
    if one is not None:
        return list(_judged(facts, one, mine)), ""
    if facts.iam.get(account, ("none", None))[0] == "current":
        return [], f"The IAM of account {account} has no such user or role."
    told = [row | {"answer": _answer(row), "identity_policies": []} for row in mine]
    return told, _depends(facts, account)


def _answer(row: dict[str, Any]) -> str:
    if row["access"] in {"unknown", "deleted"}:
        return "unknown" if row["access"] == "unknown" else "nobody"
    return "depends" if row["needs_iam"] else "yes"


def _judged(facts: Facts, one: Identity, mine: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the principal's own policies leave of the ways that its account, or everyone in the organization, has."""
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in mine:
        by_key.setdefault(row["key_arn"], []).append(row)
    for key in facts.keys(list(by_key)):
        listed = by_key[key.facts.arn]
        if key.policy is None and not key.grants:
            yield from (
                row | {"answer": "unknown", "identity_policies": []} for row in listed if row["access"] == "unknown"
            )
            continue
        for way in key_gate(key, facts.organization).ways(one, _OPERATIONS):
            row = next((row for row in listed if (row["path"], row["via"]) == (way.path, way.via)), listed[0])
            yield row | _told(way)


def _told(way: Way) -> dict[str, Any]:
    return {
        "path": way.path,
        "via": way.via,
        "operations": list(way.operations),
        "scope": way.scope,
        "needs_iam": bool(way.identity),
        "reason": way.reason,
        "answer": "yes" if way.certain else "unknown",
        "identity_policies": list(way.identity),
    }


_OF_KEY = ("key_arn", "key_alias", "account_id", "account_name", "region", "key_state")


def _gathered(ways: Iterable[dict[str, Any]]) -> list[Usable]:
    found: dict[str, Usable] = {}
    for row in ways:
        key = found.setdefault(row["key_arn"], Usable(**{name: row[name] for name in _OF_KEY}))
        row["since"] = row["since"].isoformat() + "Z" if row["since"] else None
        key.ways.append({name: value for name, value in row.items() if name not in _OF_KEY})
    return list(found.values())


def _used(facts: Facts, keys: list[Usable]) -> list[Usable]:
    values = {"keys": [one.key_arn for one in keys]}
    used = {row["key_arn"]: row for row in rows(facts.duck, _USED.format(_NAMES_SHOWN), values)} if keys else {}
    for one in keys:
        if row := used.get(one.key_arn):
            one.protects, one.protected = row["resources"], row["names"]
    return keys
