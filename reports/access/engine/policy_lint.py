"""What a key policy's owner would want to know beside who gets in: statements without effect, lock-outs, loose ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.access.engine.condition_keys import IDENTITY, Source, source
from reports.access.engine.conditions import CURRENT, Element, Value
from reports.access.engine.context_values import INSIDE_NETWORKS, Reach, uses_of
from reports.access.engine.kms_actions import CRYPTO, unknown_names
from reports.access.engine.model import Access, KeyFacts, LintFinding, Organization, Verdict
from reports.access.engine.policy_parser import Policy, Statement
from reports.access.engine.principals import classify
from reports.access.engine.request_principals import Caller, Kind, Origin
from reports.access.engine.solver import Call, Rule, representative, search
from reports.access.engine.wildcards import common, matches

_USE = frozenset(f"kms:{name}" for name in CRYPTO)
_POWER = frozenset({"kms:PutKeyPolicy", "kms:CreateGrant"})
_LABELS = frozenset({"kms:TagResource", "kms:UntagResource", "kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias"})
_NOT_HELD = frozenset({Access.DELETED, Access.UNKNOWN})
_FOREIGN = "999999999998"
_ABSENT_FOR_SOME = IDENTITY - {"kms:calleraccount", "aws:principalaccount", "aws:principalarn", "aws:userid"}


def hygiene_of(
    policy: Policy, rules: Sequence[Rule], verdicts: Sequence[Verdict], facts: KeyFacts
) -> tuple[LintFinding, ...]:
    """Everything to say about one key policy, in the order of its statements, then about the whole."""
    if facts.manager == "AWS":  # nobody can change these
        return tuple(_unreadable(policy))
    found: list[LintFinding] = list(_unreadable(policy))
    for rule in rules:
        found += _of_statement(policy, rule)
        if rule.allow and rule.about_key and rule.operations:
            found += _of_allow(rule, rules, verdicts, facts)
    found += _admins(rules, verdicts)
    found += _whole(policy, verdicts, facts)
    return tuple(found)


def _say(code: str, statement: Statement, text: str) -> LintFinding:
    return LintFinding(code, statement.name, statement.position, f"Statement {statement.name} {text}.")


def _unreadable(policy: Policy) -> Iterator[LintFinding]:
    if policy.readable:
        return
    broken = [statement for statement in policy.statements if not statement.readable]
    if not broken:
        yield LintFinding("unreadable", "", None, "The policy cannot be read.")
    for statement in broken:
        yield _say("unreadable", statement, "cannot be read")


def _of_statement(policy: Policy, rule: Rule) -> Iterator[LintFinding]:
    statement = rule.statement
    if not statement.has_resource or not statement.resources:
        yield _say("no_effect", statement, 'has no Resource and therefore no effect: add "Resource": "*"')
    elif not rule.about_key:
        yield _say(
            "no_effect", statement, f"is about {statement.resources[0]} and not about this key: it has no effect"
        )
    if not statement.principals and not rule.audience.inverted:
        yield _say("no_effect", statement, "names no principal and therefore has no effect")
    unknown = () if statement.not_actions else unknown_names(statement.actions)
    if unknown:
        yield _say("unknown_action", statement, f"names {', '.join(unknown)}, which is no action that is known here")
    elif not rule.operations:
        yield _say("no_effect", statement, "names no action that a key policy decides: it has no effect")
    for named in statement.principals:
        kind = classify(named).type
        if kind == "deleted":
            yield _say("deleted_principal", statement, f"names {named.value}, an identity that was deleted")
        elif kind == "unknown" and ("*" in named.value or "?" in named.value):
            yield _say(
                "wildcard_principal", statement, f"names {named.value}: AWS knows no wildcard inside a principal"
            )
    if rule.audience.inverted and rule.allow:
        yield _say("wildcard_principal", statement, "allows everyone but those whom NotPrincipal lists")
    if policy.version != CURRENT and any("${" in value for element in rule.elements for value in element.values):
        yield _say(
            "variables_not_resolved", statement, f"has policy variables, which are plain text without Version {CURRENT}"
        )


def _of_allow(rule: Rule, rules: Sequence[Rule], verdicts: Sequence[Verdict], facts: KeyFacts) -> Iterator[LintFinding]:
    statement = rule.statement
    mine = [verdict for verdict in verdicts if verdict.statement_index == statement.position]
    wide = rule.audience.everyone or rule.audience.inverted
    for element in rule.elements:
        open_ended = (element.if_exists or element.every) and not element.negated and not element.unreadable
        if open_ended and element.key in _ABSENT_FOR_SOME and (wide or rule.audience.services):
            text = f"tests {element.written} with {element.operator}, which also holds when the key is absent: it scopes nothing"
            yield _say("if_exists_scopes_nothing", statement, text)
    granted = any(
        "kms:CreateGrant" in one.operations
        and one.access not in _NOT_HELD | {Access.OWNER_DELEGATED, Access.AWS_SERVICE}
        for one in mine
    )
    if granted and not _for_resources(rule):
        yield _say(
            "grant_power_without_aws_resource",
            statement,
            "allows CreateGrant without the condition kms:GrantIsForAWSResource: whoever holds it can pass access on to anyone",
        )
    services = sorted(rule.audience.services)
    if not services and any(one.access is Access.AWS_SERVICE and one.principal == "*" for one in mine):
        services = ["*"]
    for service in services:
        if any(one.access is Access.AWS_SERVICE for one in mine) and _deputy_open(rule, rules, service, facts):
            name = "every AWS service" if service == "*" else service
            yield _say(
                "service_without_source",
                statement,
                f"lets {name} in without aws:SourceAccount, aws:SourceArn or aws:SourceOrgID: it may act for any customer",
            )


def _for_resources(rule: Rule) -> bool:
    """Whether only AWS services create the grants, for resources of theirs or in the caller's name."""
    for element in rule.elements:
        if element.optional or element.unreadable:
            continue
        if element.key == "kms:viaservice" and element.family != "null":
            return True
        if element.key == "kms:grantisforawsresource" and {value.lower() for value in element.values} == {"true"}:
            return True
    return False


def _deputy_open(rule: Rule, rules: Sequence[Rule], service: str, facts: KeyFacts) -> bool:
    """Whether the service gets in on behalf of a resource in an account that has nothing to do with ours."""
    if any(element.key.startswith("kms:encryptioncontext:") and not element.optional for element in rule.elements):
        return False  # the encryption context of a service names the resource, and services set it themselves
    caller = Caller(Kind.SERVICE, Origin.NAMED, service)
    _, operation = representative(rule.operations)
    denies = [
        (deny, about)
        for deny in rules
        if not deny.allow
        and deny.about_key
        and deny.operations & operation
        and (about := deny.audience.includes(caller)) is not False
    ]
    elements = [*rule.elements, *(element for deny, _ in denies for element in deny.elements)]
    reach = Reach(uses_of(elements), facts, Organization())
    for arn in _foreign_arns(elements):
        foreign: dict[str, Value] = {
            "aws:sourceaccount": _FOREIGN,
            "aws:sourcearn": arn,
            "aws:sourceorgid": "o-foreign0000",
            "aws:sourceorgpaths": ("o-foreign0000/r-example/",),
        }
        if search(rule.elements, denies, Call(reach, caller, operation, INSIDE_NETWORKS, foreign)).answer:
            return True
    return False


def _foreign_arns(elements: Sequence[Element]) -> Iterator[str]:
    yield f"arn:aws:sns:us-east-1:{_FOREIGN}:topic"
    for element in elements:
        if element.key == "aws:sourcearn" and source(element.key) is Source.DEPUTY:
            for value in element.values:
                account = (value.split(":", 5) + [""] * 5)[4]
                if account and not matches(account, _FOREIGN):
                    continue  # what a star in the name matches is still of that account
                text = common(value, f"arn:*:*:*:{_FOREIGN}:*")
                if text is not None:
                    yield text


def _admins(rules: Sequence[Rule], verdicts: Sequence[Verdict]) -> Iterator[LintFinding]:
    """Those who are given no use of the key, and can give it to themselves."""
    labelled = any(
        element.key.startswith("aws:resourcetag/") or element.key == "kms:resourcealiases"
        for rule in rules
        for element in rule.elements
    )
    powers = _POWER | _LABELS if labelled else _POWER
    confined = {rule.statement.position for rule in rules if _for_resources(rule)}
    held: dict[str, set[str]] = {}
    first: dict[str, Verdict] = {}
    for verdict in verdicts:
        if verdict.access in _NOT_HELD or verdict.access is Access.OWNER_DELEGATED:
            continue
        operations = set(verdict.operations)
        if verdict.statement_index in confined:
            operations.discard("kms:CreateGrant")
        held.setdefault(verdict.principal, set()).update(operations)
        if operations & powers:
            first.setdefault(verdict.principal, verdict)
    for principal, verdict in first.items():
        if not held[principal] & _USE:
            able = ", ".join(sorted(held[principal] & powers))
            text = f"{principal} has no use of the key, but can give it to itself through {able} (statement {verdict.source_id})."
            yield LintFinding("admin_is_user", verdict.source_id, verdict.statement_index, text)


def _whole(policy: Policy, verdicts: Sequence[Verdict], facts: KeyFacts) -> Iterator[LintFinding]:
    owners = {Access.OWNER_DIRECT, Access.OWNER_DELEGATED}
    manage = [verdict for verdict in verdicts if "kms:PutKeyPolicy" in verdict.operations]
    maybe = not policy.readable or any(verdict.access is Access.UNKNOWN for verdict in manage)
    if not maybe and not any(verdict.access in owners for verdict in manage):
        gone = any(verdict.access is Access.DELETED for verdict in manage)
        why = "the only one who could was deleted" if gone else "no statement leaves anyone who can"
        yield LintFinding(
            "lock_out", "", None, f"Nobody in account {facts.account} can change this policy any more: {why}."
        )
    if policy.readable and not any(verdict.access is Access.OWNER_DELEGATED for verdict in verdicts):
        text = f"IAM policies of account {facts.account} have no say: no statement delegates to the account."
        yield LintFinding("root_delegation_missing", "", None, text)
