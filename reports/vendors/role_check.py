"""Checks the role of a profile in the customer's accounts: existence, trust policy and permissions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.access.engine.kms_actions import BY_POLICY_MASK, matching, names
from reports.access.engine.policy_parser import Statement, parse
from reports.access.engine.principals import classify
from reports.access.engine.wildcards import matches
from reports.vendors.access_check import identity_policy
from reports.vendors.assignments import ProfileAssignment
from reports.vendors.profile import Role, TagMode
from reports.vendors.queries import Facts, RoleRow
from reports.vendors.result import Check, CheckResult, finding, join_list

_EQUALS = frozenset({"stringequals", "stringequalsignorecase"})


@dataclass(slots=True)
class Roles:
    """The roles of one profile assignment that were read."""

    assignment: ProfileAssignment
    facts: Facts
    _by_name: dict[tuple[str, str], list[RoleRow]] = field(default_factory=dict)
    _trust_checks: dict[str, tuple[bool | None, list[Check]]] = field(default_factory=dict)

    def of(self, name: str, account: str) -> list[RoleRow]:
        """The roles with this name in an account; without a name, those that trust the vendor's account."""
        cached = (name, account)
        if cached not in self._by_name:
            trusting = self.assignment.text(self.role.trusted_account) if self.role else ""
            self._by_name[cached] = self.facts.roles(name=name, trusting=trusting, accounts=(account,))
        return self._by_name[cached]

    @property
    def role(self) -> Role | None:
        """The role as defined in the profile."""
        return self.assignment.profile.role

    def all(self) -> list[RoleRow]:
        """The roles in all accounts of the assignment, by name or by trusted account."""
        if self.role is None:
            return []
        account = self.assignment.text(self.role.account)
        accounts = (account,) if account else self.assignment.accounts
        trusting = self.assignment.text(self.role.trusted_account)
        return self.facts.roles(name=self.assignment.text(self.role.name), trusting=trusting, accounts=accounts)

    def assumable(self, role: RoleRow) -> bool | None:
        """Whether the vendor can assume the role; None if unknown."""
        return self._trust(role)[0]

    def mode(self, role: RoleRow) -> str | None:
        """The mode of key selection that a role's policy implements, or None."""
        tags = self.assignment.profile.tags
        for name, mode in tags.modes.items() if tags else ():
            for statement in _statements(role):
                if statement.effect == "Allow" and _implements(statement.conditions, mode):
                    return name
        return None

    def findings(self, roles: Sequence[RoleRow], key_arns: Sequence[str], accounts: Sequence[str]) -> Iterator[Check]:
        """Yield findings about roles, including missing and unread ones."""
        if self.role is None:
            return
        name = self.assignment.text(self.role.name)
        with_role = {role.account_id for role in roles}
        for account in sorted(set(accounts) - with_role):
            known, why = self.facts.iam(account)
            role_text = (
                f"role {name}"
                if name
                else f"role that trusts account {self.assignment.text(self.role.trusted_account)}"
            )
            if known:
                reason = f"Account {account} has no {role_text}: the vendor cannot operate there."
                yield self._finding(
                    "role_missing",
                    reason,
                    account,
                    fix="Create the role with this policy.",
                    statement=self.policy(key_arns),
                )
            else:
                reason = f"Whether account {account} has a {role_text} could not be determined: {why}."
                yield self._unknown("role_unknown", reason, account)
        for role in roles:
            yield from self._trust(role)[1]
            yield from self._tags(role)
            yield from self._policies(role, key_arns)

    def _tags(self, role: RoleRow) -> Iterator[Check]:
        for tag, value in (self.role.tags if self.role else {}).items():
            if role.tags.get(tag) != value:
                actual = f"has {tag}={role.tags[tag]}" if tag in role.tags else f"has no tag {tag}"
                reason = f"Role {role.name} {actual}: key policies that allow it by its tag {tag}={value} do not apply to it."
                fix = f"aws iam tag-role --role-name {role.name} --tags Key={tag},Value={value}"
                yield self._finding("role_tag", reason, role.account_id, role=role, fix=fix)

    def _policies(self, role: RoleRow, key_arns: Sequence[str]) -> Iterator[Check]:
        spec: Role | None = self.role
        if spec is None:
            return
        own = [(name, text) for source, name, text in role.policies if source != "boundary"]
        if any(text is None for _, text in own):
            unread = join_list(name for name, text in own if text is None)
            yield self._unknown(
                "role_policy_unknown", f"Policy {unread} of role {role.name} could not be read.", role.account_id, role
            )
            return
        allow_statements = [
            statement for statement in _statements(role) if statement.effect == "Allow" and not statement.not_actions
        ]
        granted = 0
        extra_resources: list[str] = []
        for statement in allow_statements:
            operations = matching(statement.actions) & BY_POLICY_MASK
            granted |= operations
            if operations and spec.resources == "keys":
                extra_resources += [resource for resource in statement.resources if resource not in key_arns]
        required = matching(spec.actions) & BY_POLICY_MASK
        policy = self.policy(key_arns)
        if missing := names(required & ~granted):
            none = not granted & required
            reason = (
                f"Role {role.name} has no policy that allows any required KMS operation."
                if none
                else (f"The policies of role {role.name} do not allow {join_list(missing)}.")
            )
            check_name = "role_policy_missing" if none else "role_actions_missing"
            yield self._finding(
                check_name, reason, role.account_id, role=role, fix="Set this inline policy.", statement=policy
            )
        if excess := names(granted & ~required):
            reason = f"The policies of role {role.name} allow more than the vendor requires: {join_list(excess)}."
            yield self._finding(
                "role_actions_beyond", reason, role.account_id, role=role, severity=_at_most_high(self.assignment),
                fix="Replace its policy with this one.", statement=policy,
            )  # fmt: skip
        if extra_resources:
            resources = join_list(dict.fromkeys(extra_resources))
            reason = f"The policies of role {role.name} apply to {resources}, not only to the vendor's keys."
            yield self._finding(
                "role_resources_beyond", reason, role.account_id, role=role, severity=_at_most_high(self.assignment),
                fix="Name only the vendor's keys, including replicas.", statement=policy,
            )  # fmt: skip

    def policy(self, key_arns: Sequence[str]) -> str | None:
        """The role's policy from the profile, for these keys, as JSON."""
        if self.role is None:
            return None
        mode = self.chosen_mode
        more: dict[str, str | list[str]] = {
            "key_arns": list(key_arns) or ["<the ARN of the key>"],
            "partition": _partition(key_arns),
        }
        if mode is not None:
            more |= {"tag_key": mode.key, "tag_value": mode.value, "tag_operator": mode.operator}
        return self.assignment.json(self.role.policy, more)

    @property
    def chosen_mode(self) -> TagMode | None:
        """The mode chosen in the settings."""
        tags = self.assignment.profile.tags
        return tags.modes.get(self.assignment.values.get(tags.chosen_by, "")) if tags else None

    def _trust(self, role: RoleRow) -> tuple[bool | None, list[Check]]:
        if role.arn not in self._trust_checks:
            self._trust_checks[role.arn] = self._check_trust(role)
        return self._trust_checks[role.arn]

    def _check_trust(self, role: RoleRow) -> tuple[bool | None, list[Check]]:
        spec = self.role
        if spec is None or not spec.trusted:
            return True, []
        if role.trust is None:
            return None, [
                self._unknown(
                    "trust_unknown", f"The trust policy of role {role.name} could not be read.", role.account_id, role
                )
            ]
        policy = parse(role.trust)
        assume_statements = [
            statement
            for statement in policy.statements
            if any(matches(action.lower(), "sts:assumerole") for action in statement.actions)
        ]
        if not policy.readable or any(
            statement.effect == "Deny" or statement.not_actions for statement in policy.statements
        ):
            reason = f"The trust policy of role {role.name} has a Deny statement or an element that this check does not evaluate."
            return None, [self._unknown("trust_unknown", reason, role.account_id, role)]
        partition = role.arn.split(":")[1]
        expected = self.assignment.text(spec.trusted, {"partition": partition})
        vendor = self.assignment.text(spec.trusted_account)
        trust_policy = self.assignment.json(spec.trust_policy, {"partition": partition})
        checks: list[Check] = []
        assumable = False

        def add_finding(check_name: str, reason: str, fix: str, severity: str | None = None) -> None:
            more = {"severity": severity} if severity else {}
            checks.append(
                self._finding(check_name, reason, role.account_id, role=role, fix=fix, statement=trust_policy, **more)
            )

        for statement in assume_statements:
            for principal in statement.principals:
                party = classify(principal)
                if principal.value == expected:
                    assumable = True
                elif party.type == "public":
                    assumable = True
                    add_finding(
                        "trust_public",
                        f"Anyone can assume role {role.name}, subject to its conditions.",
                        "Trust only the vendor's role.",
                    )
                elif party.type == "account" and party.account == vendor:
                    assumable = True
                    reason = f"Role {role.name} trusts every principal of the vendor's account {vendor}, not only {expected}."
                    add_finding(
                        "trust_too_wide",
                        reason,
                        "Name the vendor's role in the trust policy.",
                        _at_most_high(self.assignment),
                    )
                elif party.account != role.account_id:
                    reason = (
                        f"Role {role.name} can be assumed by {principal.value}, which the vendor does not document."
                    )
                    add_finding(
                        "trust_other", reason, "Remove it from the trust policy.", _at_most_high(self.assignment)
                    )
                else:
                    continue
                if spec.external_id == "required":
                    self._external_id(role, statement, add_finding)
        if not assumable:
            add_finding(
                "trust_missing",
                f"The trust policy of role {role.name} does not allow {expected} to assume it.",
                "Set this trust policy.",
            )
        return assumable, checks

    def _external_id(self, role: RoleRow, statement: Statement, add_finding: Any) -> None:
        external_ids = {
            (operator.lower(), value)
            for operator, block in statement.conditions.items()
            for key, values in block.items()
            if key.lower() == "sts:externalid"
            for value in (values if isinstance(values, list) else [values])
        }
        fix = "Add the condition StringEquals sts:ExternalId with the external ID from the vendor."
        if not external_ids:
            add_finding(
                "external_id_missing",
                f"The trust policy of role {role.name} requires no external ID: another customer of the vendor could make the "
                "vendor use this role.",
                fix,
            )
        elif not any(operator in _EQUALS and value != "*" for operator, value in external_ids):
            reason = f"The trust policy of role {role.name} does not require a specific external ID."
            add_finding("external_id_pattern", reason, fix)

    def _finding(
        self, check_name: str, reason: str, account: str, *, role: RoleRow | None = None, **more: Any
    ) -> Check:
        subject: dict[str, Any] = {"subject": role.arn, "account_name": role.account_name} if role else {}
        return finding(self.assignment, check_name, reason, account_id=account, region="global", **subject, **more)

    def _unknown(self, check_name: str, reason: str, account: str, role: RoleRow | None = None) -> Check:
        fix = "Enable crawl.iam, and allow the crawler's role to call iam:GetAccountAuthorizationDetails."
        return self._finding(
            check_name, reason, account, role=role, result=CheckResult.UNKNOWN, severity="medium", fix=fix
        )


def identities(role: RoleRow) -> tuple[Any, Any]:
    """A role's identity policy and its boundary, as input of the access engine."""
    own = identity_policy([text for source, _, text in role.policies if source != "boundary"], role.arn)
    bounds = [text for source, _, text in role.policies if source == "boundary"]
    return own, identity_policy(bounds, role.arn) if bounds else None


def keys_named_by(roles: Sequence[RoleRow]) -> list[str]:
    """The key ARNs that the policies of roles name."""
    key_arns = {
        resource
        for role in roles
        for statement in _statements(role)
        if matching(statement.actions)
        for resource in statement.resources
        if ":key/" in resource and "*" not in resource
    }
    return sorted(key_arns)


def _statements(role: RoleRow) -> Iterator[Statement]:
    for source, _, text in role.policies:
        if source != "boundary" and text is not None:
            yield from (statement for statement in parse(text).statements if statement.readable)


def _implements(conditions: Mapping[str, Any], mode: TagMode) -> bool:
    expected = (mode.operator.lower(), f"aws:resourcetag/{mode.key}".lower(), mode.value.casefold())
    return any(
        (operator.lower(), key.lower(), str(value).casefold()) == expected
        for operator, block in conditions.items()
        if isinstance(block, Mapping)
        for key, values in block.items()
        for value in (values if isinstance(values, list) else [values])
    )


def _at_most_high(assignment: ProfileAssignment) -> str:
    return "high" if assignment.profile.severity == "critical" else assignment.profile.severity


def _partition(key_arns: Sequence[str]) -> str:
    return key_arns[0].split(":")[1] if key_arns else "aws"
