"""Checks the role of a profile in the customer's accounts: existence, trust policy and permissions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reports.access.engine.kms_actions import BY_POLICY_MASK, matching, names
from reports.access.engine.policy_parser import Named, Statement, parse
from reports.access.engine.principals import classify
from reports.access.engine.wildcards import matches
from reports.vendors.assignments import ProfileAssignment
from reports.vendors.profile import Role, TagMode
from reports.vendors.queries import Facts, RoleRow
from reports.vendors.result import Check, CheckResult, check_of, join_list

_EQUALS = frozenset({"stringequals", "stringequalsignorecase"})


class Roles:
    """The roles of one profile assignment that were read."""

    def __init__(self, assignment: ProfileAssignment, facts: Facts) -> None:
        self.assignment = assignment
        self.facts = facts
        self.role = role = assignment.profile.role
        """The role as defined in the profile."""
        texts = (role.name, role.account, role.trusted_account) if role else ("", "", "")
        self.name, self.account, self._vendor_account = map(assignment.text, texts)
        self._trust_checks: dict[str, tuple[bool | None, list[Check]]] = {}

    def of(self, name: str, account: str) -> list[RoleRow]:
        """The roles with this name in an account; without a name, those that trust the vendor's account."""
        return self.facts.roles(name, self._vendor_account).get(account, [])

    def named(self, account: str) -> list[RoleRow]:
        """The profile's roles in an account."""
        return self.of(self.name, account)

    def all(self) -> list[RoleRow]:
        """The roles in all accounts of the assignment, by name or by trusted account."""
        accounts = {self.account} if self.account else set(self.assignment.accounts)
        by_account = self.facts.roles(self.name, self._vendor_account) if self.role else {}
        return [role for account in by_account if not accounts or account in accounts for role in by_account[account]]

    def assumable(self, role: RoleRow) -> bool | None:
        """Whether the vendor can assume the role; None if unknown."""
        return self._trust(role)[0]

    def mode(self, role: RoleRow) -> str | None:
        """The mode of key selection that a role's policy implements, or None."""
        tags = self.assignment.profile.tags
        for name, mode in tags.modes.items() if tags else ():
            if any(row.effect == "Allow" and _implements(row.conditions, mode) for row in _statements(role)):
                return name
        return None

    def policy(self, key_arns: Sequence[str]) -> str | None:
        """The role's policy from the profile, for these keys and the mode of the settings, as JSON."""
        if self.role is None:
            return None
        values: dict[str, str | list[str]] = {
            "key_arns": list(key_arns) or ["<the ARN of the key>"],
            "partition": key_arns[0].split(":")[1] if key_arns else "aws",
        }
        tags = self.assignment.profile.tags
        if mode := tags.modes.get(self.assignment.values.get(tags.chosen_by, "")) if tags else None:
            values |= {"tag_key": mode.key, "tag_value": mode.value, "tag_operator": mode.operator}
        return self.assignment.json(self.role.policy, values)

    def findings(self, roles: Sequence[RoleRow], key_arns: Sequence[str], accounts: Iterable[str]) -> Iterator[Check]:
        """Yield findings about roles: missing and unread ones, trust, tags, permissions, and modes other than the settings'."""
        if self.role is None:
            return
        label = f"role {self.name}" if self.name else f"role that trusts account {self._vendor_account}"
        for account in sorted(set(accounts) - {role.account_id for role in roles}):
            known, why = self.facts.iam(account)
            if known:
                reason = f"Account {account} has no {label}: the vendor cannot operate there."
                fix, statement = "Create the role with this policy.", self.policy(key_arns)
                yield self._finding("role_missing", reason, account, fix=fix, statement=statement)
            else:
                reason = f"Whether account {account} has a {label} could not be determined: {why}."
                yield self._unknown("role_unknown", reason, account)
        for role in roles:
            yield from self._trust(role)[1]
            yield from self._tags(role, self.role.tags)
            yield from self._policies(role, self.role, key_arns)
        tags = self.assignment.profile.tags
        chosen = self.assignment.values.get(tags.chosen_by) if tags else None
        for role in roles if tags and chosen else ():
            mode = self.mode(role)
            if tags and mode != chosen:
                what = f"implements mode {mode}" if mode else f"implements none of the modes {join_list(tags.modes)}"
                reason = f"The policy of role {role.name} {what}; the settings specify {chosen}."
                fix = "Switch the integration to the intended mode, or correct the settings."
                yield self._finding("mode", reason, role, fix=fix)

    def _tags(self, role: RoleRow, tags: Mapping[str, str]) -> Iterator[Check]:
        for tag, value in tags.items():
            if role.tags.get(tag) != value:
                actual = f"has {tag}={role.tags[tag]}" if tag in role.tags else f"has no tag {tag}"
                reason = f"Role {role.name} {actual}: key policies that allow it by its tag {tag}={value} do not apply to it."
                fix = f"aws iam tag-role --role-name {role.name} --tags Key={tag},Value={value}"
                yield self._finding("role_tag", reason, role, fix=fix)

    def _policies(self, role: RoleRow, spec: Role, key_arns: Sequence[str]) -> Iterator[Check]:
        if role.unread:
            reason = f"Policy {join_list(role.unread)} of role {role.name} could not be read."
            yield self._unknown("role_policy_unknown", reason, role)
            return
        granted, resources = 0, dict[str, None]()
        for statement in _statements(role):
            if statement.effect == "Allow" and not statement.not_actions:
                operations = matching(statement.actions) & BY_POLICY_MASK
                granted |= operations
                resources |= dict.fromkeys(statement.resources if operations else ())
        required = matching(spec.actions) & BY_POLICY_MASK
        policy = self.policy(key_arns)
        high = self._at_most_high()
        if missing := names(required & ~granted):
            check_name = "role_actions_missing" if granted & required else "role_policy_missing"
            reason = f"Role {role.name} has no policy that allows any required KMS operation."
            if granted & required:
                reason = f"The policies of role {role.name} do not allow {join_list(missing)}."
            yield self._finding(check_name, reason, role, fix="Set this inline policy.", statement=policy)
        if excess := names(granted & ~required):
            reason = f"The policies of role {role.name} allow more than the vendor requires: {join_list(excess)}."
            fix = "Replace its policy with this one."
            yield self._finding("role_actions_beyond", reason, role, severity=high, fix=fix, statement=policy)
        extra = [resource for resource in resources if resource not in key_arns]
        if extra and spec.resources == "keys":
            reason = f"The policies of role {role.name} apply to {join_list(extra)}, not only to the vendor's keys."
            fix = "Name only the vendor's keys, including replicas."
            yield self._finding("role_resources_beyond", reason, role, severity=high, fix=fix, statement=policy)

    def _trust(self, role: RoleRow) -> tuple[bool | None, list[Check]]:
        if role.arn not in self._trust_checks:
            self._trust_checks[role.arn] = self._check_trust(role)
        return self._trust_checks[role.arn]

    def _check_trust(self, role: RoleRow) -> tuple[bool | None, list[Check]]:
        """Whether the vendor can assume a role (None if unknown), and findings about its trust policy."""
        spec = self.role
        if spec is None or not spec.trusted:
            return True, []
        if role.trust is None:
            reason = f"The trust policy of role {role.name} could not be read."
            return None, [self._unknown("trust_unknown", reason, role)]
        policy = parse(role.trust)
        if not policy.readable or any(row.effect == "Deny" or row.not_actions for row in policy.statements):
            reason = f"The trust policy of role {role.name} has a Deny statement or an element that this check does not evaluate."
            return None, [self._unknown("trust_unknown", reason, role)]
        partition = {"partition": role.arn.split(":")[1]}
        expected = self.assignment.text(spec.trusted, partition)
        problems: list[tuple[str, str, str]] = []
        assumable = False
        for statement in policy.statements:
            if not any(matches(action.lower(), "sts:assumerole") for action in statement.actions):
                continue
            for principal in statement.principals:
                problem = self._trusted(role, principal, expected)
                if problem is None:
                    continue
                assumable |= problem[0] != "trust_other"
                problems += [problem, *(_external_id(role, statement) if spec.external_id == "required" else ())]
        if not assumable:
            reason = f"The trust policy of role {role.name} does not allow {expected} to assume it."
            problems.append(("trust_missing", reason, "Set this trust policy."))
        statement_text = self.assignment.json(spec.trust_policy, partition)
        severities = dict.fromkeys(("trust_too_wide", "trust_other"), self._at_most_high())
        return assumable, [
            self._finding(name, reason, role, severity=severities.get(name), fix=fix, statement=statement_text)
            for name, reason, fix in problems
            if name
        ]

    def _trusted(self, role: RoleRow, principal: Named, expected: str) -> tuple[str, str, str] | None:
        """The problem with a trusted principal: without a name for the expected one, None for one of the role's account."""
        party = classify(principal)
        if principal.value == expected:
            return "", "", ""
        if party.type == "public":
            reason = f"Anyone can assume role {role.name}, subject to its conditions."
            return "trust_public", reason, "Trust only the vendor's role."
        if party.type == "account" and party.account == self._vendor_account:
            account = f"the vendor's account {self._vendor_account}"
            reason = f"Role {role.name} trusts every principal of {account}, not only {expected}."
            return "trust_too_wide", reason, "Name the vendor's role in the trust policy."
        if party.account != role.account_id:
            reason = f"Role {role.name} can be assumed by {principal.value}, which the vendor does not document."
            return "trust_other", reason, "Remove it from the trust policy."
        return None

    def _at_most_high(self) -> str:
        severity: str = self.assignment.profile.severity
        return "high" if severity == "critical" else severity

    def _finding(self, check_name: str, reason: str, where: RoleRow | str, **more: Any) -> Check:
        """A finding about a role, or about an account without one."""
        subject: dict[str, Any] = {"account_id": where}
        if isinstance(where, RoleRow):
            subject = {"subject": where.arn, "account_name": where.account_name, "account_id": where.account_id}
        return check_of(self.assignment, check_name, reason, region="global", **subject, **more)

    def _unknown(self, check_name: str, reason: str, where: RoleRow | str) -> Check:
        fix = "Enable crawl.iam, and allow the crawler's role to call iam:GetAccountAuthorizationDetails."
        return self._finding(check_name, reason, where, result=CheckResult.UNKNOWN, severity="medium", fix=fix)


def _external_id(role: RoleRow, statement: Statement) -> Iterator[tuple[str, str, str]]:
    fix = "Add the condition StringEquals sts:ExternalId with the external ID from the vendor."
    external_ids = [
        (operator.lower(), value)
        for operator, key, value in _conditions(statement.conditions)
        if key.lower() == "sts:externalid"
    ]
    if not external_ids:
        risk = "another customer of the vendor could make the vendor use this role"
        reason = f"The trust policy of role {role.name} requires no external ID: {risk}."
        yield "external_id_missing", reason, fix
    elif not any(operator in _EQUALS and value != "*" for operator, value in external_ids):
        reason = f"The trust policy of role {role.name} does not require a specific external ID."
        yield "external_id_pattern", reason, fix


def keys_named_by(roles: Sequence[RoleRow]) -> list[str]:
    """The key ARNs that the policies of roles name."""
    statements = (statement for role in roles for statement in _statements(role) if matching(statement.actions))
    resources = {resource for statement in statements for resource in statement.resources}
    return sorted(resource for resource in resources if ":key/" in resource and "*" not in resource)


def _statements(role: RoleRow) -> Iterator[Statement]:
    for text in role.policies:
        yield from (row for row in (parse(text).statements if text is not None else ()) if row.readable)


def _conditions(conditions: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield operator, key and value of each condition."""
    for operator, block in conditions.items():
        for key, values in block.items() if isinstance(block, Mapping) else ():
            yield from ((operator, key, value) for value in (values if isinstance(values, list) else [values]))


def _implements(conditions: Mapping[str, Any], mode: TagMode) -> bool:
    expected = (mode.operator.lower(), f"aws:resourcetag/{mode.key}".lower(), mode.value.casefold())
    return any(
        (operator.lower(), key.lower(), str(value).casefold()) == expected
        for operator, key, value in _conditions(conditions)
    )
