"""Who can do something with a key: each principal once, with every way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from reports.access.engine.model import Access, Verdict, relation
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import Named, parse
from reports.access.engine.principals import Principal, classify
from reports.answers.access_paths import Gate, Way, key_gate, operations_of, root_of
from reports.answers.operation_groups import Wanted
from reports.answers.repository import Facts, Identity, Key
from reports.answers.who_can_result import DEPENDS, NOBODY, UNKNOWN, YES, Holder, KeyAnswer, merged

_BROAD = frozenset({Access.AWS_SERVICE, Access.DELETED, Access.UNKNOWN, Access.PUBLIC, Access.PUBLIC_VIA_SERVICE})
_IDENTITIES = frozenset({"role", "user", "session"})
# KMS developer guide, "AWS managed keys": anyone in the account, through the service; the service as in kms:ViaService.
_SERVICE_OF_ALIAS = {
    "backup": "backup",
    "dynamodb": "dynamodb",
    "ebs": "ec2",
    "elasticfilesystem": "elasticfilesystem",
    "kinesis": "kinesis",
    "lambda": "lambda",
    "rds": "rds",
    "redshift": "redshift",
    "s3": "s3",
    "secretsmanager": "secretsmanager",
    "sns": "sns",
    "sqs": "sqs",
    "ssm": "ssm",
}
_AWS_MANAGED = (
    '{"Version":"2012-10-17","Statement":{"Sid":"AWS managed key","Effect":"Allow","Principal":"*","Action":['
    '"kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:CreateGrant","kms:DescribeKey"],'
    '"Resource":"*","Condition":{"StringEquals":{"kms:CallerAccount":"%s","kms:ViaService":"%s.%s.amazonaws.com"}}}}'
)
AWS_MANAGED_NOTE = (
    "The policy of this AWS managed key was not asked; the answer takes it to be the fixed one that AWS documents: "
    "every principal of the account, through the service."
)


def with_policy(key: Key) -> tuple[Key, bool]:
    """The key, and whether its policy is the documented one of AWS managed keys instead of one that was read."""
    if key.policy is not None or key.facts.manager != "AWS":
        return key, False
    names = (alias.removeprefix("alias/aws/") for alias in key.facts.aliases or () if alias.startswith("alias/aws/"))
    service = next((_SERVICE_OF_ALIAS[name] for name in names if name in _SERVICE_OF_ALIAS), None)
    if service is None:
        return key, False
    return replace(key, policy=parse(_AWS_MANAGED % (key.facts.account, service, key.region))), True


def key_answer(facts: Facts, key: Key, wanted: Wanted) -> tuple[KeyAnswer, list[str]]:
    """The holders of some operations on a key, and notes."""
    key, documented = with_policy(key)
    gate = key_gate(key, facts.organization)
    verdicts = list(verdicts_on(facts, key, gate, wanted.operations))
    asking = _Asking(facts, key, gate, wanted)
    holders = merged([*asking.broad(verdicts), *asking.identities(verdicts)])
    answer = KeyAnswer(key.facts.arn, key.name, key.state, holders, list(unknowns(key, documented=documented)))
    notes = [AWS_MANAGED_NOTE] if documented else []
    if key.state not in {"Enabled", None}:
        notes.append(f"The key's state is {key.state}: until that changes, nobody can use it for cryptography.")
    return answer, notes


def unknowns(key: Key, *, documented: bool) -> Iterator[str]:
    """What is not known of the key itself."""
    if key.policy is None:
        yield (
            f"the policy of key {key.facts.arn} ({key.reason}): whom it names, whom IAM policies let in through it, and whom it "
            "denies"
        )
    if key.grants_reason and not documented:
        yield f"the grants on key {key.facts.arn} ({key.grants_reason})"


def verdicts_on(facts: Facts, key: Key, gate: Gate, operations: tuple[str, ...]) -> Iterator[Verdict]:
    """What policy and grants give of these operations, each verdict with those only."""
    listed = [] if key.policy is None else [*analyse_policy(key.policy, key.facts, facts.organization).verdicts]
    listed += (verdict for _, verdicts in gate.grants for verdict in verdicts)
    for verdict in listed:
        if mine := operations_of(verdict, operations):
            yield replace(verdict, operations=mine)
        elif verdict.access is Access.UNKNOWN and not verdict.operations:
            yield verdict


def identity_named(facts: Facts, found: Principal) -> Identity | None:
    """The user or role that a principal names, or the session of one; None when IAM has none such."""
    account = found.account or ""
    if found.type != "session":
        return next((one for one in facts.identities(account) if one.arn == found.written), None)
    role = found.written.partition(":assumed-role/")[2].partition("/")[0]
    for one in facts.identities(account):
        if one.type == "role" and one.arn.rpartition("/")[2] == role:
            return replace(one, arn=found.written, type="session")
    return None


def everyone_in(facts: Facts, account: str, partition: str = "aws") -> Iterator[Identity]:
    """The users and roles of an account and its root user."""
    yield root_of(account, partition)
    yield from facts.identities(account)


class _Asking:
    """One question about one key."""

    def __init__(self, facts: Facts, key: Key, gate: Gate, wanted: Wanted) -> None:
        self._facts, self._key, self._gate, self._wanted = facts, key, gate, wanted
        self._partition = key.facts.arn.split(":")[1]

    def broad(self, verdicts: Iterable[Verdict]) -> Iterator[Holder]:
        """Those who are told as the policy or grant names them, because nothing nearer is known."""
        for verdict in verdicts:
            found = classify(Named("AWS", verdict.principal))
            answer, reason = YES, ""
            if verdict.access is Access.UNKNOWN:
                answer, reason = UNKNOWN, verdict.reason
            elif verdict.access is Access.DELETED:
                answer, reason = (
                    NOBODY,
                    "the principal was deleted, and one of the same name made later would not hold this",
                )
            elif verdict.access in _BROAD or verdict.access in {Access.VENDOR, Access.EXTERNAL}:
                pass
            elif found.type in _IDENTITIES:
                told = self._of_identity(verdict, found)
                if told is None:
                    continue
                answer, reason = told
            else:
                reason = self._of_accounts(verdict)
                if not reason:
                    continue  # its identities are told instead
                answer = YES if verdict.access is Access.OWNER_DIRECT else DEPENDS
            yield _holder(verdict, found, answer, reason)

    def _of_identity(self, verdict: Verdict, found: Principal) -> tuple[str, str] | None:
        account = found.account or ""
        internal = ":assumed-role/aws:" in found.written  # made by services for themselves, and in nobody's IAM
        if not self._facts.known_iam(account) or internal:
            if not verdict.needs_iam:
                return YES, ""
            return DEPENDS, f"The IAM policies of account {account} decide; {self._facts.why_no_iam(account)}."
        if identity_named(self._facts, found) is not None:
            return None
        if self._facts.iam[account][0] == "current":
            return NOBODY, f"The IAM of account {account} has no such user or role."
        return UNKNOWN, f"It is not among the users and roles of account {account} that could be read."

    def _of_accounts(self, verdict: Verdict) -> str:
        """Why the principals of the account or accounts cannot be told one by one; empty when they can."""
        if verdict.account is not None:
            if self._facts.iam.get(verdict.account, ("none", None))[0] == "current":
                return ""
            why = self._facts.why_no_iam(verdict.account)
            if verdict.access is Access.OWNER_DIRECT:
                return f"Who there is in account {verdict.account} is not known: {why}."
            return f"The IAM policies of account {verdict.account} decide; {why}, so it is not known who."
        if verdict.access is not Access.ORGANIZATION:
            return ""
        accounts = self._facts.organization.accounts
        missing = sum(self._facts.iam.get(account, ("none", None))[0] != "current" for account in accounts)
        if not missing:
            return ""
        return f"The IAM policies of {missing} of the {len(accounts)} accounts decide; their IAM was not collected."

    def identities(self, verdicts: Iterable[Verdict]) -> Iterator[Holder]:
        """Users and roles, one by one, where IAM was collected."""
        accounts: set[str] = set()
        named: dict[str, Identity] = {}
        for verdict in verdicts:
            found = classify(Named("AWS", verdict.principal))
            if verdict.access in {Access.PUBLIC, Access.PUBLIC_VIA_SERVICE}:
                accounts.add(self._key.facts.account)
            elif found.type in _IDENTITIES and self._facts.known_iam(found.account):
                if one := identity_named(self._facts, found):
                    named[one.arn] = one
            elif verdict.access in _BROAD or found.type in _IDENTITIES:
                continue
            elif verdict.account is not None:
                accounts.add(verdict.account)
            elif verdict.access is Access.ORGANIZATION:
                accounts |= self._facts.organization.accounts
        for account in sorted(accounts):
            if self._facts.known_iam(account):
                named |= {one.arn: one for one in everyone_in(self._facts, account, self._partition)}
        for one in named.values():
            if ways := self._gate.ways(one, self._wanted.operations):
                yield self._of_ways(one, ways)

    def _of_ways(self, one: Identity, ways: tuple[Way, ...]) -> Holder:
        access, party = relation(one.account, self._key.facts.account, self._facts.organization)
        if not any(way.path == "grant" or not way.identity for way in ways):
            access = Access.OWNER_DELEGATED if access is Access.OWNER_DIRECT else access
        sure = [way for way in ways if way.certain]
        who = f"The root user of account {one.account}" if one.type == "root" else one.arn
        through = "; ".join(way.words() for way in sure or ways)
        what = f"{self._wanted.phrase} the key"
        if sure:
            return Holder(
                one.arn,
                one.type,
                one.account,
                party,
                access,
                YES,
                f"{who} can {what} through {through}.",
                ways=list(ways),
            )
        reason = ways[0].reason
        sentence = f"It is not known whether {who} can {what}: {reason}."
        return Holder(one.arn, one.type, one.account, party, access, UNKNOWN, sentence, reason, list(ways))


def _holder(verdict: Verdict, found: Principal, answer: str, reason: str) -> Holder:
    way = Way(
        verdict.path,
        verdict.source_id,
        verdict.operations,
        verdict.conditions,
        needs_iam=verdict.needs_iam,
        certain=verdict.access is not Access.UNKNOWN,
        reason=verdict.reason,
    )
    kind = found.type if verdict.principal != "*" else "everyone"
    if kind == "everyone" and verdict.access is Access.ORGANIZATION and verdict.account is None:
        kind = "organization"
    elif kind == "everyone" and verdict.account is not None:
        kind = "account"
    elif kind in {"unknown", "canonical", "federated", "public"}:
        kind = "other"
    return Holder(
        verdict.principal,
        kind,
        verdict.account,
        verdict.party,
        verdict.access,
        answer,
        verdict.message,
        reason,
        [way],
    )
