"""Who can perform operations on a key: each principal once, with all its access paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from reports.access.engine.model import Access, Verdict, relation
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import Named, parse
from reports.access.engine.principals import Principal, classify
from reports.answers.access_paths import AccessPath, ProtectedResource, operations_of, protected_key, root_of
from reports.answers.operation_groups import OperationGroup
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

_BROAD = frozenset({Access.AWS_SERVICE, Access.DELETED, Access.UNKNOWN, Access.PUBLIC, Access.PUBLIC_VIA_SERVICE})
IDENTITIES = frozenset({"role", "user", "session"})
"""The types of principals whose IAM policies can be evaluated."""
# Alias to service name in kms:ViaService. KMS developer guide, "AWS managed keys": anyone in the account, via the service.
_SERVICE_OF_ALIAS = {"ebs": "ec2"} | {
    name: name
    for name in (
        *("backup", "dynamodb", "elasticfilesystem", "kinesis", "lambda", "rds", "redshift", "s3", "secretsmanager"),
        *("sns", "sqs", "ssm"),
    )
}
_AWS_MANAGED = (
    '{"Version":"2012-10-17","Statement":{"Sid":"AWS managed key","Effect":"Allow","Principal":"*","Action":['
    '"kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:CreateGrant","kms:DescribeKey"],'
    '"Resource":"*","Condition":{"StringEquals":{"kms:CallerAccount":"%s","kms:ViaService":"%s.%s.amazonaws.com"}}}}'
)
AWS_MANAGED_NOTE = (
    "The policy of this AWS managed key was not collected; the answer assumes the fixed policy that AWS documents: "
    "every principal of the account has access through the service."
)


def with_policy(key: Key) -> tuple[Key, bool]:
    """The key with the documented policy of AWS managed keys if its own was not collected, and whether that is so."""
    if key.policy is not None or key.facts.manager != "AWS":
        return key, False
    names = (alias.removeprefix("alias/aws/") for alias in key.facts.aliases or () if alias.startswith("alias/aws/"))
    service = next((_SERVICE_OF_ALIAS[name] for name in names if name in _SERVICE_OF_ALIAS), None)
    if service is None:
        return key, False
    return replace(key, policy=parse(_AWS_MANAGED % (key.facts.account, service, key.region))), True


def key_answer(facts: Facts, key: Key, group: OperationGroup) -> tuple[KeyAnswer, list[str]]:
    """The principals that can perform the operations of a group on a key, and notes."""
    key, documented = with_policy(key)
    resource = protected_key(key, facts.organization)
    verdicts = list(verdicts_on(facts, key, resource, group.operations))
    query = _KeyQuery(facts, key, resource, group)
    principals = merge_principals([*query.named_principals(verdicts), *query.evaluated_identities(verdicts)])
    unknown = list(unknowns(key, documented=documented))
    answer = KeyAnswer(key.facts.arn, key.name, key.state, principals=principals, unknown=unknown)
    notes = [AWS_MANAGED_NOTE] if documented else []
    if key.state not in {"Enabled", None}:
        notes.append(
            f"The key is in state {key.state}: it cannot be used for cryptographic operations until that changes."
        )
    return answer, notes


def unknowns(key: Key, *, documented: bool) -> Iterator[str]:
    """What is unknown about the key itself."""
    if key.policy is None:
        yield f"principals allowed or denied by the policy of key {key.facts.arn} ({key.reason})"
    if key.grants_reason and not documented:
        yield f"grants on key {key.facts.arn} ({key.grants_reason})"


def verdicts_on(facts: Facts, key: Key, resource: ProtectedResource, operations: tuple[str, ...]) -> Iterator[Verdict]:
    """The verdicts on the key's policy and grants, each limited to the given operations."""
    verdicts = [] if key.policy is None else [*analyse_policy(key.policy, key.facts, facts.organization).verdicts]
    verdicts += (verdict for _, grant_verdicts in resource.grants for verdict in grant_verdicts)
    for verdict in verdicts:
        if matching := operations_of(verdict, operations):
            yield replace(verdict, operations=matching)
        elif verdict.access is Access.UNKNOWN and not verdict.operations:
            yield verdict


def find_identity(facts: Facts, principal: Principal) -> Identity | None:
    """The user, role or role session that a principal names; None if IAM has no such identity."""
    account = principal.account or ""
    identities = facts.identities(account)
    if principal.type != "session":
        return next((identity for identity in identities if identity.arn == principal.written), None)
    role_name = principal.written.partition(":assumed-role/")[2].partition("/")[0]
    for identity in identities:
        if identity.type == "role" and identity.arn.rpartition("/")[2] == role_name:
            return replace(identity, arn=principal.written, type="session")
    return None


def identities_of(facts: Facts, account: str, partition: str = "aws") -> Iterator[Identity]:
    """The root user, users and roles of an account."""
    yield root_of(account, partition)
    yield from facts.identities(account)


class _KeyQuery:
    """The search for the principals that can perform a group of operations on one key."""

    def __init__(self, facts: Facts, key: Key, resource: ProtectedResource, group: OperationGroup) -> None:
        self._facts, self._key, self._resource, self._group = facts, key, resource, group
        self._partition = key.facts.arn.split(":")[1]

    def named_principals(self, verdicts: Iterable[Verdict]) -> Iterator[PrincipalAccess]:
        """Principals as the policy or grant names them, where their identities cannot be evaluated."""
        for verdict in verdicts:
            principal = classify(Named("AWS", verdict.principal))
            answer, reason = YES, ""
            if verdict.access is Access.UNKNOWN:
                answer, reason = UNKNOWN, verdict.reason
            elif verdict.access is Access.DELETED:
                answer, reason = UNUSED, "the principal was deleted; a new principal of the same name has no access"
            elif verdict.access in _BROAD or verdict.access in {Access.VENDOR, Access.EXTERNAL} or verdict.by_service:
                pass
            elif principal.type in IDENTITIES:
                result = self._identity_answer(verdict, principal)
                if result is None:
                    continue
                answer, reason = result
            else:
                reason = self._uncollected_reason(verdict)
                if not reason:
                    continue  # its identities are evaluated
                answer = CONDITIONAL if verdict.needs_iam else YES
            yield self._principal_access(verdict, principal, answer, reason)

    def _identity_answer(self, verdict: Verdict, principal: Principal) -> tuple[str, str] | None:
        """The answer for a user, role or session by name; None if the identity is evaluated."""
        account = principal.account or ""
        service_session = ":assumed-role/aws:" in principal.written  # created by AWS services, not listed in IAM
        if not self._facts.known_iam(account) or service_session:
            if not verdict.needs_iam:
                return YES, ""
            return (
                CONDITIONAL,
                f"Access depends on the IAM policies of account {account}; {self._facts.why_no_iam(account)}.",
            )
        if find_identity(self._facts, principal) is not None:
            return None
        if self._facts.complete_iam(account):
            return UNUSED, f"The IAM of account {account} has no such user or role."
        return UNKNOWN, f"It is not among the users and roles of account {account} that could be read."

    def _uncollected_reason(self, verdict: Verdict) -> str:
        """Why the identities of the account or organization cannot be evaluated; empty if they can."""
        if verdict.account is not None:
            if self._facts.complete_iam(verdict.account):
                return ""
            why = self._facts.why_no_iam(verdict.account)
            if verdict.access is Access.OWNER_DIRECT:
                return f"The principals of account {verdict.account} are unknown: {why}."
            return f"Access depends on the IAM policies of account {verdict.account}; {why}, so the principals are unknown."
        if verdict.access is not Access.ORGANIZATION:
            return ""
        accounts = self._facts.organization.accounts
        missing = sum(not self._facts.complete_iam(account) for account in accounts)
        if not missing:
            return ""
        return (
            f"Access depends on the IAM policies of {missing} of {len(accounts)} accounts, whose IAM was not collected."
        )

    def evaluated_identities(self, verdicts: Iterable[Verdict]) -> Iterator[PrincipalAccess]:
        """Users and roles whose policies were evaluated, where IAM was collected."""
        accounts: set[str] = set()
        identities: dict[str, Identity] = {}
        for verdict in verdicts:
            principal = classify(Named("AWS", verdict.principal))
            if verdict.access in {Access.PUBLIC, Access.PUBLIC_VIA_SERVICE}:
                accounts.add(self._key.facts.account)
            elif principal.type in IDENTITIES and self._facts.known_iam(principal.account):
                if identity := find_identity(self._facts, principal):
                    identities[identity.arn] = identity
            elif verdict.access in _BROAD or principal.type in IDENTITIES:
                continue
            elif verdict.account is not None:
                accounts.add(verdict.account)
            elif verdict.access is Access.ORGANIZATION:
                accounts |= self._facts.organization.accounts
        for account in sorted(accounts):
            if self._facts.known_iam(account):
                identities |= {each.arn: each for each in identities_of(self._facts, account, self._partition)}
        for identity in identities.values():
            if paths := self._resource.access_paths(identity, self._group.operations):
                yield self._identity_access(identity, paths)

    def _identity_access(self, identity: Identity, paths: tuple[AccessPath, ...]) -> PrincipalAccess:
        access, party = relation(identity.account, self._key.facts.account, self._facts.organization)
        if not any(path.path == "grant" or not path.identity_policies for path in paths):
            access = Access.OWNER_DELEGATED if access is Access.OWNER_DIRECT else access
        certain = [path for path in paths if path.certain]
        name = f"The root user of account {identity.account}" if identity.type == "root" else identity.arn
        action = f"{self._group.phrase} the key"
        if certain:
            answer, reason = YES, ""
            message = f"{name} can {action} through {'; '.join(path.describe() for path in certain)}."
        else:
            answer, reason = UNKNOWN, paths[0].reason
            message = f"Unknown whether {name} can {action}: {reason}."
        return PrincipalAccess(
            identity.arn,
            identity.type,
            identity.account,
            self._facts.account_names.get(identity.account),
            party,
            access,
            answer,
            message,
            reason,
            list(paths),
        )

    def _principal_access(self, verdict: Verdict, principal: Principal, answer: str, reason: str) -> PrincipalAccess:
        path = AccessPath(
            verdict.path,
            verdict.source_id,
            verdict.operations,
            verdict.conditions,
            needs_iam=verdict.needs_iam,
            certain=verdict.access is not Access.UNKNOWN,
            reason=verdict.reason,
        )
        principal_type = principal.type if verdict.principal != "*" else "everyone"
        if principal_type == "everyone" and verdict.account is not None:
            principal_type = "account"
        elif principal_type == "everyone" and verdict.access is Access.ORGANIZATION:
            principal_type = "organization"
        elif principal_type in {"unknown", "canonical", "federated", "public"}:
            principal_type = "other"
        return PrincipalAccess(
            verdict.principal,
            principal_type,
            verdict.account,
            self._facts.account_names.get(verdict.account or ""),
            verdict.party,
            verdict.access,
            answer,
            verdict.message,
            reason,
            [path],
        )
