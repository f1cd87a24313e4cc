"""Who can read a secret: who may call GetSecretValue on it, and for whom Secrets Manager may decrypt with its key.

Both have to be allowed, in the account of the secret as in that of the key (Secrets Manager user guide, "Secret encryption
and decryption in AWS Secrets Manager"): the call to KMS carries the caller, kms:ViaService and the secret's ARN as context.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reports.access.engine.conditions import Value
from reports.access.engine.model import Access, KeyFacts, relation
from reports.access.engine.policy_parser import Named
from reports.access.engine.principals import Principal, classify
from reports.access.engine.solver import Rule
from reports.answers.access_paths import Gate, Way, key_gate, resource_gate, stranger, uncollected
from reports.answers.key_access import AWS_MANAGED_NOTE, everyone_in, identity_named, unknowns, verdicts_on, with_policy
from reports.answers.policy_documents import document
from reports.answers.repository import Facts, Identity, Key
from reports.answers.version_diff import rows
from reports.answers.who_can_result import DEPENDS, NOBODY, UNKNOWN, YES, Holder, KeyAnswer, merged

GET = "secretsmanager:GetSecretValue"
DECRYPT = "kms:Decrypt"
_IDENTITIES = frozenset({"role", "user", "session"})
_POLICY = "SELECT freshness, reason, has_policy, received FROM resource_policies WHERE resource_arn = $arn"
_TAGS = "SELECT tag_key, tag_value FROM resource_tags WHERE resource_arn = $arn"


@dataclass(frozen=True, slots=True)
class _Door:
    """The secret's side."""

    gate: Gate
    unknown: str
    """Why its own policy is not known."""

    @property
    def own(self) -> tuple[Rule, ...]:
        """What its own policy allows."""
        return tuple(rule for rule in self.gate.rules if rule.allow and rule.statement.position >= 0)


def secret_answer(facts: Facts, secret: Mapping[str, Any], key: Key | None) -> tuple[KeyAnswer, list[str]]:
    """Who can read a secret (a row of view resource_keys), and notes."""
    documented = False
    if key is not None:
        key, documented = with_policy(key)
    door = _door(facts, secret)
    found = _Reading(facts, secret, door, key)
    unknown = [f"the secret's own policy: {door.unknown}"] if door.unknown else []
    unknown += [] if key is None else unknowns(key, documented=documented)
    notes = [AWS_MANAGED_NOTE] if documented else []
    notes += (
        f"The secret's policy also names the AWS service {name}; what services read for themselves is not evaluated."
        for name in sorted({name for rule in door.own for name in rule.audience.services})
    )
    gone = secret["key_class"] == "dangling"
    if key is None and not gone:
        reason = secret["reason"] or f"the key is {secret['key_class'].replace('_', ' ')}"
        unknown.append(f"who may decrypt with its key {secret['key_arn'] or secret['raw'] or ''}: {reason}")
    if gone:
        notes.append(f"The secret's key is gone ({secret['reason']}): nobody can read its value.")
    elif key is not None and key.state not in {"Enabled", None}:
        notes.append(f"The key's state is {key.state}: until that changes, nobody can read the secret.")
    holders = [] if gone else merged(found.holders())
    arn, name, state = (key.facts.arn, key.name, key.state) if key else (secret["key_arn"], None, None)
    return KeyAnswer(arn, name, state, holders, unknown, secret["role"]), notes


def _door(facts: Facts, secret: Mapping[str, Any]) -> _Door:
    arn = secret["resource_arn"]
    found = rows(facts.duck, _POLICY, {"arn": arn})
    tags = {row["tag_key"]: row["tag_value"] for row in rows(facts.duck, _TAGS, {"arn": arn})}
    if not found:
        unknown = "it was not asked"
    else:
        unknown = "" if found[0]["freshness"] != "none" else found[0]["reason"] or "it could not be read"
    empty = '{"Statement":[]}'
    text = None if unknown else (found[0]["received"] if found[0]["has_policy"] else empty)
    given: dict[str, Value] = {
        "secretsmanager:secretid": arn,
        "secretsmanager:versionid": None,
        "secretsmanager:versionstage": "AWSCURRENT",
    }
    of_secret = KeyFacts(arn=arn, account=secret["account_id"], tags=tags)
    return _Door(
        resource_gate(of_secret, facts.organization, document("the secret's policy", text), GET, given), unknown
    )


def call_to_kms(secret_arn: str, region: str) -> dict[str, Value]:
    """What the call of Secrets Manager to KMS carries."""
    return {
        "kms:viaservice": f"secretsmanager.{region}.amazonaws.com",
        "aws:viaawsservice": "true",
        "aws:calledvia": ("secretsmanager.amazonaws.com",),
        "aws:calledviafirst": "secretsmanager.amazonaws.com",
        "aws:calledvialast": "secretsmanager.amazonaws.com",
        "kms:encryptioncontext:secretarn": secret_arn,
        "kms:encryptioncontext:secretversionid": "*",
        "kms:encryptioncontextkeys": ("SecretARN", "SecretVersionId"),
    }


class _Reading:
    """One question about one secret."""

    def __init__(self, facts: Facts, secret: Mapping[str, Any], door: _Door, key: Key | None) -> None:
        self._facts, self._secret, self._door, self._key = facts, secret, door, key
        self._partition = secret["resource_arn"].split(":")[1]
        given = call_to_kms(secret["resource_arn"], secret["region"])
        self._gate = None if key is None else key_gate(key, facts.organization, given)

    def holders(self) -> Iterator[Holder]:
        """Everyone for whom both sides open."""
        for who in self._candidates():
            resource_ways = self._door.gate.ways(who, [GET])
            if resource_ways and (ways := self._of_key(who)):
                yield self._holder(who, resource_ways, ways)

    def _of_key(self, who: Identity) -> tuple[Way, ...]:
        ways = () if self._gate is None else self._gate.ways(who, [DECRYPT])
        if self._key is None or self._key.policy is None:
            reason = "the key's policy is not known" if self._key else "nothing is known of the key"
            ways += (Way("policy", "", (DECRYPT,), certain=False, reason=reason),)
        return ways

    def _candidates(self) -> Iterator[Identity]:
        home = self._secret["account_id"]
        named = [*self._named(), *self._holders_of_key()]
        accounts = {home, *(one.account for one in named if one.account)}
        everyone = False
        for rule in self._door.own:
            accounts |= rule.audience.accounts
            if rule.audience.everyone or rule.audience.inverted:
                everyone = True
                accounts |= self._facts.organization.accounts
        for account in sorted(accounts):
            if self._facts.known_iam(account):
                yield from everyone_in(self._facts, account, self._partition)
            if self._facts.iam.get(account, ("none", None))[0] != "current":
                yield uncollected(account)
        for one in dict.fromkeys(named):
            account = one.account or ""
            if not self._facts.known_iam(account):
                yield uncollected(account, one.written, one.type)
            elif one.type == "session" and (session := identity_named(self._facts, one)):
                yield session
        if everyone:
            yield stranger()

    def _named(self) -> Iterator[Principal]:
        """Users, roles and sessions that the secret's policy names."""
        for rule in self._door.own:
            yield from _identities(classify(one) for one in rule.statement.principals)

    def _holders_of_key(self) -> Iterator[Principal]:
        """Users, roles and sessions of the secret's account that the key's policy or grants name."""
        if self._key is None or self._gate is None:
            return
        verdicts = verdicts_on(self._facts, self._key, self._gate, (DECRYPT,))
        found = _identities(classify(Named("AWS", verdict.principal)) for verdict in verdicts)
        yield from (one for one in found if one.account == self._secret["account_id"])

    def _holder(self, who: Identity, resource_ways: tuple[Way, ...], ways: tuple[Way, ...]) -> Holder:
        access, party = relation(who.account, self._secret["account_id"], self._facts.organization)
        kind = who.type
        names = {
            "root": f"The root user of account {who.account}",
            "account": f"Principals of account {who.account}",
            "everyone": "Anyone in any AWS account",
        }
        name, account = names.get(kind, who.arn), None if kind == "everyone" else who.account
        access = Access.PUBLIC if kind == "everyone" else access
        holder = Holder(who.arn, kind, account, party, access, YES, "", "", list(ways), list(resource_ways))
        both = (resource_ways, ways)
        doubt = next((side[0].reason for side in both if not any(way.certain for way in side)), "")
        iam = any(all(way.needs_iam for way in side if way.certain) for side in both)
        if doubt:
            holder.answer, holder.reason = UNKNOWN, doubt
            holder.sentence = f"It is not known whether {name} can read the secret: {doubt}."
        elif iam and who.account in self._facts.organization.accounts:
            why = self._facts.why_no_iam(who.account)
            holder.answer = DEPENDS
            holder.reason = f"The IAM policies of account {who.account} decide; {why}, so it is not known who."
            holder.sentence = f"{name} can read the secret if the account's IAM policies allow it; {why}."
        else:
            condition = ", if their own IAM allows" if iam else ""
            door, key = (" or ".join(way.words() for way in side if way.certain) for side in both)
            holder.sentence = f"{name} can read the secret{condition}: GetSecretValue by {door}; Decrypt by {key}."
        return self._checked(holder, who)

    def _checked(self, holder: Holder, who: Identity) -> Holder:
        missing = who.type in _IDENTITIES and who.collected is False and self._facts.known_iam(who.account)
        return replace(holder, answer=NOBODY) if missing else holder


def _identities(found: Iterable[Principal]) -> Iterator[Principal]:
    return (one for one in found if one.type in _IDENTITIES)
