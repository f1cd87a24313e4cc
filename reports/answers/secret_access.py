"""Who can read a secret: who can call GetSecretValue on it, and for whom Secrets Manager can decrypt with its key.

Both must be allowed, in the secret's account and in the key's account (Secrets Manager user guide, "Secret encryption and
decryption in AWS Secrets Manager"): the KMS request carries the caller, kms:ViaService and the secret's ARN as context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reports.access.engine.conditions import UNKNOWN as UNKNOWN_VALUE
from reports.access.engine.conditions import Value
from reports.access.engine.model import Access, KeyFacts, relation
from reports.access.engine.policy_parser import Named
from reports.access.engine.principals import Principal, classify
from reports.answers.access_paths import (
    ANONYMOUS_ACCOUNT,
    AccessPath,
    protected_key,
    protected_resource,
    uncollected,
)
from reports.answers.key_access import (
    AWS_MANAGED_NOTE,
    IDENTITIES,
    find_identity,
    identities_of,
    unknowns,
    verdicts_on,
    with_policy,
)
from reports.answers.policy_documents import document
from reports.answers.repository import Facts, Identity, Key
from reports.answers.who_can_result import (
    CONDITIONAL,
    UNKNOWN,
    UNUSED,
    YES,
    KeyAnswer,
    PrincipalAccess,
    merge_principals,
)
from reports.mart.rows import rows

GET = "secretsmanager:GetSecretValue"
DECRYPT = "kms:Decrypt"
_POLICY = "SELECT freshness, reason, has_policy, received FROM resource_policies WHERE resource_arn = $arn"
_TAGS = "SELECT tag_key, tag_value FROM resource_tags WHERE resource_arn = $arn"


def secret_answer(facts: Facts, secret: Mapping[str, Any], key: Key | None) -> tuple[KeyAnswer, list[str]]:
    """The principals that can read a secret (a row of view resource_keys), and notes."""
    documented = False
    if key is not None:
        key, documented = with_policy(key)
    query = _SecretQuery(facts, secret, key, documented_policy=documented)
    unknown = [f"the secret's own policy: {query.unknown_reason}"] if query.unknown_reason else []
    unknown += [] if key is None else unknowns(key, documented=documented)
    notes = [AWS_MANAGED_NOTE] if documented else []
    notes += (
        f"The secret's policy also names the AWS service {name}; reads by services themselves are not evaluated."
        for name in sorted({name for rule in query.policy_allows for name in rule.audience.services})
    )
    dangling = secret["key_class"] == "dangling"
    if key is None and not dangling:
        reason = secret["reason"] or f"the key is {secret['key_class'].replace('_', ' ')}"
        unknown.append(
            f"principals that can decrypt with its key {secret['key_arn'] or secret['raw_value'] or ''}: {reason}"
        )
    if dangling:
        notes.append(f"The secret's key does not exist ({secret['reason']}): nobody can read its value.")
    elif key is not None and key.state not in {"Enabled", None}:
        notes.append(f"The key is in state {key.state}: nobody can read the secret until that changes.")
    principals = [] if dangling else merge_principals(query.principals())
    arn, name, state = (key.facts.arn, key.name, key.state) if key else (secret["key_arn"], None, None)
    return KeyAnswer(arn, name, state, secret["role"], principals, unknown), notes


def _policy_of(facts: Facts, secret_arn: str) -> tuple[str | None, str]:
    """The secret's own policy; None if it is unknown, with the reason."""
    policy = next(iter(rows(facts.duck, _POLICY, {"arn": secret_arn})), None)
    if policy is None:
        return None, "it was not collected"
    if policy["freshness"] == "none":
        return None, policy["reason"] or "it could not be read"
    return policy["received"] if policy["has_policy"] else '{"Statement":[]}', ""


def kms_request_context(secret_arn: str, region: str, *, documented_policy: bool = False) -> dict[str, Value]:
    """The context values of the request that Secrets Manager sends to KMS.

    In other partitions, such as China with its two suffixes of service names, the name of the service is unknown. It is certainly
    the one in the documented policy of an AWS managed key.
    """
    via: dict[str, Value] = {
        "kms:viaservice": f"secretsmanager.{region}.amazonaws.com",
        "aws:calledvia": ("secretsmanager.amazonaws.com",),
        "aws:calledviafirst": "secretsmanager.amazonaws.com",
        "aws:calledvialast": "secretsmanager.amazonaws.com",
    }
    if secret_arn.split(":")[1] not in {"aws", "aws-us-gov"} and not documented_policy:
        via = dict.fromkeys(via, UNKNOWN_VALUE)
    return via | {
        "aws:viaawsservice": "true",
        "kms:encryptioncontext:secretarn": secret_arn,
        "kms:encryptioncontext:secretversionid": "*",
        "kms:encryptioncontextkeys": ("SecretARN", "SecretVersionId"),
    }


class _SecretQuery:
    """The search for the principals that can read one secret."""

    def __init__(self, facts: Facts, secret: Mapping[str, Any], key: Key | None, *, documented_policy: bool) -> None:
        self._facts, self._secret, self._key = facts, secret, key
        arn = secret["resource_arn"]
        self._partition = arn.split(":")[1]
        text, self.unknown_reason = _policy_of(facts, arn)
        tags = {row["tag_key"]: row["tag_value"] for row in rows(facts.duck, _TAGS, {"arn": arn})}
        context: dict[str, Value] = {
            "secretsmanager:secretid": arn,
            "secretsmanager:versionid": None,
            "secretsmanager:versionstage": "AWSCURRENT",
        }
        secret_facts = KeyFacts(arn=arn, account=secret["account_id"], tags=tags)
        policy = document("the secret's policy", text)
        self._protected_secret = protected_resource(secret_facts, facts.organization, policy, GET, context)
        rules = self._protected_secret.rules
        self.policy_allows = [rule for rule in rules if rule.allow and rule.statement.position >= 0]
        kms_context = kms_request_context(arn, secret["region"], documented_policy=documented_policy)
        self._protected_key = None if key is None else protected_key(key, facts.organization, kms_context)

    def principals(self) -> Iterator[PrincipalAccess]:
        """The principals that both the secret and its key let in."""
        for identity in self._candidates():
            secret_paths = self._protected_secret.access_paths(identity, [GET])
            if secret_paths and (key_paths := self._key_paths(identity)):
                yield self._principal_access(identity, secret_paths, key_paths)

    def _key_paths(self, identity: Identity) -> tuple[AccessPath, ...]:
        paths = () if self._protected_key is None else self._protected_key.access_paths(identity, [DECRYPT])
        if self._key is None or self._key.policy is None:
            reason = "the key's policy is unknown" if self._key else "the key is unknown"
            paths += (AccessPath("policy", "", (DECRYPT,), certain=False, reason=reason),)
        return paths

    def _candidates(self) -> Iterator[Identity]:
        named = self._named()
        accounts = {self._secret["account_id"], *(principal.account for principal in named if principal.account)}
        everyone = False
        for rule in self.policy_allows:
            accounts |= rule.audience.accounts
            if rule.audience.everyone or rule.audience.inverted:
                everyone = True
                accounts |= self._facts.organization.accounts
        for account in sorted(accounts):
            if self._facts.known_iam(account):
                yield from identities_of(self._facts, account, self._partition)
            if not self._facts.complete_iam(account):
                yield uncollected(account, f"arn:{self._partition}:iam::{account}:root")
        for principal in dict.fromkeys(named):
            account = principal.account or ""
            if not self._facts.known_iam(account):
                yield uncollected(account, principal.written, principal.type)
            elif principal.type == "session" and (session := find_identity(self._facts, principal)):
                yield session
        if everyone:
            yield uncollected(ANONYMOUS_ACCOUNT, "*", "everyone")

    def _named(self) -> list[Principal]:
        """Identities that the secret's policy names, and those of its account that the key's policy or grants name."""
        principals = [classify(named) for rule in self.policy_allows for named in rule.statement.principals]
        if self._key is not None and self._protected_key is not None:
            verdicts = verdicts_on(self._facts, self._key, self._protected_key, (DECRYPT,))
            named_by_key = (classify(Named("AWS", verdict.principal)) for verdict in verdicts)
            principals += (each for each in named_by_key if each.account == self._secret["account_id"])
        return [principal for principal in principals if principal.type in IDENTITIES]

    def _principal_access(
        self, identity: Identity, secret_paths: tuple[AccessPath, ...], key_paths: tuple[AccessPath, ...]
    ) -> PrincipalAccess:
        access, party = relation(identity.account, self._secret["account_id"], self._facts.organization)
        names = {
            "root": f"The root user of account {identity.account}",
            "account": f"Principals of account {identity.account}",
            "everyone": "Anyone in any AWS account",
        }
        everyone = identity.type == "everyone"
        name, account = names.get(identity.type, identity.arn), None if everyone else identity.account
        result = PrincipalAccess(
            identity.arn,
            identity.type,
            account,
            self._facts.account_names.get(account or ""),
            party,
            Access.PUBLIC if everyone else access,
            YES,
            message="",
            access_paths=list(key_paths),
            resource_access_paths=list(secret_paths),
        )
        both = (secret_paths, key_paths)
        unknown_reason = next((paths[0].reason for paths in both if not any(path.certain for path in paths)), "")
        needs_iam = any(all(path.needs_iam for path in paths if path.certain) for paths in both)
        if unknown_reason:
            result.answer, result.reason = UNKNOWN, unknown_reason
            result.message = f"Unknown whether {name} can read the secret: {unknown_reason}."
        elif needs_iam and identity.account in self._facts.organization.accounts:
            why = self._facts.why_no_iam(identity.account)
            result.answer = CONDITIONAL
            account_iam = f"the IAM policies of account {identity.account}"
            result.reason = f"Access depends on {account_iam}; {why}, so the principals are unknown."
            result.message = f"{name} can read the secret if the account's IAM policies allow it; {why}."
        else:
            condition = ", if their own IAM allows" if needs_iam else ""
            secret_text, key_text = (" or ".join(path.describe() for path in paths if path.certain) for paths in both)
            paths_text = f"GetSecretValue through {secret_text}; Decrypt through {key_text}"
            result.message = f"{name} can read the secret{condition}: {paths_text}."
        if identity.type in IDENTITIES and not identity.collected and self._facts.known_iam(identity.account):
            result.answer = UNUSED
        return result
