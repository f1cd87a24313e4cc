"""Lint key policies: statements without effect, lock-outs, and risky statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.access.engine.condition_keys import Source, condition_key, condition_keys
from reports.access.engine.conditions import CURRENT
from reports.access.engine.context_values import INSIDE_NETWORKS, CandidateContext, compared_values
from reports.access.engine.kms_actions import CRYPTO, mask, names, representative, supported, unknown_names
from reports.access.engine.model import Access, KeyFacts, LintFinding, Organization, Verdict
from reports.access.engine.policy_parser import Policy, Statement
from reports.access.engine.principals import classify
from reports.access.engine.request_principals import Caller, Kind, Origin
from reports.access.engine.service_sources import acts_for, example_accounts, mentioned_sources
from reports.access.engine.solver import Call, Rule, denies_of, elements_of
from reports.access.engine.wildcards import has_wildcard

_USE = frozenset(f"kms:{name}" for name in CRYPTO)
_ESCALATION = frozenset({"kms:PutKeyPolicy", "kms:CreateGrant"})
_TAGGING = frozenset({"kms:TagResource", "kms:UntagResource", "kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias"})
_NO_ACCESS = frozenset({Access.DELETED, Access.UNKNOWN})
_ABSENT_FOR_SOME = {name for name, key in condition_keys().items() if key.identifies_caller} - {
    *("kms:calleraccount", "aws:principalaccount", "aws:principalarn", "aws:userid")
}
_FREE_TEXT = ("aws:referer", "aws:useragent", "kms:encryptioncontext:", "kms:recipientattestation:")
"""Keys whose values may contain ``*`` or ``?`` themselves; an ARN, ID, tag or name cannot."""


def lint_policy(
    policy: Policy, rules: Sequence[Rule], verdicts: Sequence[Verdict], facts: KeyFacts
) -> Iterator[LintFinding]:
    """Yield the lint findings of a key policy: by statement, then on the policy as a whole."""
    yield from _unreadable(policy)
    if facts.manager == "AWS":  # these policies cannot be changed
        return
    for rule in rules:
        yield from _lint_statement(policy, rule)
        if rule.allow and rule.about_key and rule.operations:
            yield from _lint_allow(rule, rules, verdicts, facts)
    yield from _lint_admins(rules, verdicts)
    yield from _lint_policy(policy, verdicts, facts)


def _finding(code: str, statement: Statement, text: str) -> LintFinding:
    return LintFinding(code, statement.name, statement.position, f"Statement {statement.name} {text}.")


def _unreadable(policy: Policy) -> Iterator[LintFinding]:
    if policy.readable:
        return
    unreadable = [statement for statement in policy.statements if not statement.readable]
    if not unreadable:
        yield LintFinding("unreadable", "", None, "The policy could not be parsed.")
    for statement in unreadable:
        yield _finding("unreadable", statement, "could not be parsed")


def _lint_statement(policy: Policy, rule: Rule) -> Iterator[LintFinding]:
    statement = rule.statement
    if not statement.has_resource or not statement.resources:
        yield _finding("no_effect", statement, 'has no Resource and therefore no effect: add "Resource": "*"')
    elif not rule.about_key:
        yield _finding(
            "no_effect", statement, f"applies to {statement.resources[0]}, not to this key, and has no effect"
        )
    if not statement.principals and not rule.audience.inverted:
        yield _finding("no_effect", statement, "names no principal and has no effect")
    unknown = () if statement.not_actions else unknown_names(statement.actions)
    if unknown:
        yield _finding("unknown_action", statement, f"names unknown actions: {', '.join(unknown)}")
    elif not rule.operations:
        yield _finding("no_effect", statement, "names no action that a key policy controls, and has no effect")
    for named in statement.principals:
        kind = classify(named).type
        if kind == "deleted":
            yield _finding("deleted_principal", statement, f"names {named.value}, a deleted identity")
        elif kind == "unknown" and has_wildcard(named.value):
            yield _finding(
                "wildcard_principal",
                statement,
                f"names {named.value}: AWS does not support wildcards inside a principal",
            )
    if rule.audience.inverted and rule.allow:
        yield _finding("wildcard_principal", statement, "allows everyone except the principals that NotPrincipal lists")
    for element in rule.elements:
        if (
            element.family in {"text", "caseless"}
            and any(map(has_wildcard, element.values))
            and condition_key(element.key).source is not Source.UNKNOWN
            and not element.key.startswith(_FREE_TEXT)
        ):
            test = f"compares {element.written} with {element.operator} to a value with a wildcard"
            yield _finding(
                "literal_wildcard", statement, f"{test}, which this operator takes literally: no request matches it"
            )
    if policy.version != CURRENT and any("${" in value for element in rule.elements for value in element.values):
        yield _finding(
            "variables_not_resolved", statement, f"has policy variables, which are plain text without Version {CURRENT}"
        )


def _lint_allow(
    rule: Rule, rules: Sequence[Rule], verdicts: Sequence[Verdict], facts: KeyFacts
) -> Iterator[LintFinding]:
    statement = rule.statement
    own_verdicts = [verdict for verdict in verdicts if verdict.statement_index == statement.position]
    public = rule.audience.everyone or rule.audience.inverted
    operations = rule.operations & supported(facts.key_spec, facts.key_usage)
    for element in rule.elements:
        if not element.if_exists and not element.all_values:
            continue
        absent = operations & ~condition_key(element.key).operations
        open_ended = not element.negated and not element.unreadable
        if absent and (absent == operations or absent & mask(CRYPTO)):
            why = f"but requests of {names(absent)[0]} never carry this key"
        elif open_ended and element.key in _ABSENT_FOR_SOME and (public or rule.audience.services):
            why = "which also holds when the key is absent"
        else:
            continue
        text = f"tests {element.written} with {element.operator}, {why}: it restricts nothing"
        yield _finding("if_exists_scopes_nothing", statement, text)
    granted = any(
        "kms:CreateGrant" in verdict.operations
        and verdict.access not in _NO_ACCESS | {Access.OWNER_DELEGATED, Access.AWS_SERVICE}
        for verdict in own_verdicts
    )
    if granted and not _only_service_grants(rule):
        yield _finding(
            "grant_power_without_aws_resource",
            statement,
            "allows CreateGrant without the condition kms:GrantIsForAWSResource: its principals can grant access to anyone",
        )
    with_access = {verdict.principal for verdict in own_verdicts if verdict.access is Access.AWS_SERVICE}
    for service in sorted(rule.audience.services or with_access & {"*"}) if with_access else ():
        if _is_confused_deputy(rule, rules, service, facts):
            name = "every AWS service" if service == "*" else service
            yield _finding(
                "service_without_source",
                statement,
                f"allows {name} without aws:SourceAccount, aws:SourceArn or aws:SourceOrgID: it may act for any customer",
            )


def _only_service_grants(rule: Rule) -> bool:
    """Whether only AWS services can create the grants, for their resources or on behalf of the caller."""
    certain = [element for element in rule.elements if not element.optional and not element.unreadable]
    return any(
        (element.key == "kms:viaservice" and element.family != "null")
        or (element.key == "kms:grantisforawsresource" and {value.lower() for value in element.values} == {"true"})
        for element in certain
    )


def _is_confused_deputy(rule: Rule, rules: Sequence[Rule], service: str, facts: KeyFacts) -> bool:
    """Whether the service has access on behalf of a resource in an unrelated account."""
    if any(element.key.startswith("kms:encryptioncontext:") and not element.optional for element in rule.elements):
        return False  # services set the encryption context themselves, and it names the resource
    caller = Caller(Kind.SERVICE, Origin.NAMED, service)
    _, operation = representative(rule.operations)
    denies = denies_of(rules, caller, operation)
    elements = elements_of(rule.elements, denies)
    candidates = CandidateContext(compared_values(elements), facts, Organization())
    call = Call(candidates, caller, operation, INSIDE_NETWORKS)
    known = frozenset({facts.account, *mentioned_sources(elements)[0]})
    return any(acts_for(rule.elements, denies, call, account) for account in example_accounts(elements, known))


def _lint_admins(rules: Sequence[Rule], verdicts: Sequence[Verdict]) -> Iterator[LintFinding]:
    """Yield principals that cannot use the key, but can grant themselves access to it."""
    uses_tags = any(
        element.key.startswith("aws:resourcetag/") or element.key == "kms:resourcealiases"
        for rule in rules
        for element in rule.elements
    )
    escalation = _ESCALATION | _TAGGING if uses_tags else _ESCALATION
    restricted = {rule.statement.position for rule in rules if _only_service_grants(rule)}
    held: dict[str, set[str]] = {}
    first: dict[str, Verdict] = {}
    for verdict in verdicts:
        if verdict.access in _NO_ACCESS or verdict.access is Access.OWNER_DELEGATED:
            continue
        operations = set(verdict.operations)
        if verdict.statement_index in restricted:
            operations.discard("kms:CreateGrant")
        held.setdefault(verdict.principal, set()).update(operations)
        if operations & escalation:
            first.setdefault(verdict.principal, verdict)
    for principal, verdict in first.items():
        if not held[principal] & _USE:
            powers = ", ".join(sorted(held[principal] & escalation))
            source = f"{powers} (statement {verdict.source_id})"
            text = f"{principal} cannot use the key, but can grant itself access through {source}."
            yield LintFinding("admin_is_user", verdict.source_id, verdict.statement_index, text)


def _lint_policy(policy: Policy, verdicts: Sequence[Verdict], facts: KeyFacts) -> Iterator[LintFinding]:
    owners = {Access.OWNER_DIRECT, Access.OWNER_DELEGATED}
    managing = [verdict for verdict in verdicts if "kms:PutKeyPolicy" in verdict.operations]
    unsure = not policy.readable or any(verdict.access is Access.UNKNOWN for verdict in managing)
    if not unsure and not any(verdict.access in owners for verdict in managing):
        deleted = any(verdict.access is Access.DELETED for verdict in managing)
        cause = "the only principal that could was deleted" if deleted else "no statement allows it"
        yield LintFinding(
            "lock_out", "", None, f"Nobody in account {facts.account} can change this policy any more: {cause}."
        )
    if policy.readable and not any(verdict.access is Access.OWNER_DELEGATED for verdict in verdicts):
        text = f"IAM policies of account {facts.account} have no effect: no statement delegates to the account."
        yield LintFinding("root_delegation_missing", "", None, text)
