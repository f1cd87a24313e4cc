"""The role of a profile in the customer's accounts: whether it exists, who may assume it, and what its policies allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.access.engine.kms_actions import BY_POLICY_MASK, matching, names
from reports.access.engine.policy_parser import Statement, parse
from reports.access.engine.principals import classify
from reports.access.engine.wildcards import matches
from reports.vendors.access_check import identity_policy
from reports.vendors.assignments import Use
from reports.vendors.profile import Role, TagMode
from reports.vendors.queries import Facts, RoleRow
from reports.vendors.result import Check, Verdict, finding, listed

_EQUALS = frozenset({"stringequals", "stringequalsignorecase"})


@dataclass(slots=True)
class Roles:
    """The roles of one use, as far as they can be seen."""

    use: Use
    facts: Facts
    _found: dict[tuple[str, str], list[RoleRow]] = field(default_factory=dict)
    _trusted: dict[str, tuple[bool | None, list[Check]]] = field(default_factory=dict)

    def of(self, name: str, account: str) -> list[RoleRow]:
        """Roles of this name in an account; without a name, those that trust the vendor's account."""
        asked = (name, account)
        if asked not in self._found:
            trusting = self.use.text(self.role.trusted_account) if self.role else ""
            self._found[asked] = self.facts.roles(name=name, trusting=trusting, accounts=(account,))
        return self._found[asked]

    @property
    def role(self) -> Role | None:
        """The role as the profile describes it."""
        return self.use.profile.role

    def everywhere(self) -> list[RoleRow]:
        """The roles in all accounts of the use, by name or by whom they trust."""
        if self.role is None:
            return []
        account = self.use.text(self.role.account)
        accounts = (account,) if account else self.use.accounts
        trusting = self.use.text(self.role.trusted_account)
        return self.facts.roles(name=self.use.text(self.role.name), trusting=trusting, accounts=accounts)

    def assumable(self, role: RoleRow) -> bool | None:
        """Whether the vendor can assume it; None when that cannot be told."""
        return self._trust(role)[0]

    def mode(self, role: RoleRow) -> str | None:
        """The mode of choosing keys by tags that a role's policy has; None when it has none of them."""
        tags = self.use.profile.tags
        for name, mode in tags.modes.items() if tags else ():
            for statement in _statements(role):
                if statement.effect == "Allow" and _has(statement.conditions, mode):
                    return name
        return None

    def findings(self, roles: Sequence[RoleRow], key_arns: Sequence[str], accounts: Sequence[str]) -> Iterator[Check]:
        """What is wrong with the roles, and where one is missing or not known."""
        if self.role is None:
            return
        name = self.use.text(self.role.name)
        have = {role.account_id for role in roles}
        for account in sorted(set(accounts) - have):
            known, why = self.facts.iam(account)
            who = f"role {name}" if name else f"role that trusts account {self.use.text(self.role.trusted_account)}"
            if known:
                reason = f"There is no {who} in account {account}: the vendor cannot work there."
                yield self._finding(
                    "role_missing",
                    reason,
                    account,
                    fix="Create the role with this policy.",
                    statement=self.policy(key_arns),
                )
            else:
                reason = f"Whether there is a {who} in account {account} is not known: {why}."
                yield self._unknown("role_unknown", reason, account)
        for role in roles:
            yield from self._trust(role)[1]
            yield from self._tags(role)
            yield from self._policies(role, key_arns)

    def _tags(self, role: RoleRow) -> Iterator[Check]:
        for tag, value in (self.role.tags if self.role else {}).items():
            if role.tags.get(tag) != value:
                has = f"has {tag}={role.tags[tag]}" if tag in role.tags else f"has no tag {tag}"
                reason = (
                    f"Role {role.name} {has}: key policies that let it in by its tag {tag}={value} do not apply to it."
                )
                fix = f"aws iam tag-role --role-name {role.name} --tags Key={tag},Value={value}"
                yield self._finding("role_tag", reason, role.account_id, role=role, fix=fix)

    def _policies(self, role: RoleRow, key_arns: Sequence[str]) -> Iterator[Check]:
        wanted: Role | None = self.role
        if wanted is None:
            return
        own = [(name, text) for source, name, text in role.policies if source != "boundary"]
        if any(text is None for _, text in own):
            unread = listed(name for name, text in own if text is None)
            yield self._unknown(
                "role_policy_unknown", f"Policy {unread} of role {role.name} is not known.", role.account_id, role
            )
            return
        allows = [one for one in _statements(role) if one.effect == "Allow" and not one.not_actions]
        given = 0
        wide: list[str] = []
        for statement in allows:
            operations = matching(statement.actions) & BY_POLICY_MASK
            given |= operations
            if operations and wanted.resources == "keys":
                wide += [one for one in statement.resources if one not in key_arns]
        asked = matching(wanted.actions) & BY_POLICY_MASK
        policy = self.policy(key_arns)
        if missing := names(asked & ~given):
            none = not given & asked
            reason = (
                f"Role {role.name} has no policy that allows anything on keys."
                if none
                else (f"The policies of role {role.name} lack {listed(missing)}.")
            )
            about = "role_policy_missing" if none else "role_actions_missing"
            yield self._finding(
                about, reason, role.account_id, role=role, fix="Set this inline policy.", statement=policy
            )
        if more := names(given & ~asked):
            reason = f"The policies of role {role.name} allow more than the vendor asks for: {listed(more)}."
            yield self._finding(
                "role_actions_beyond", reason, role.account_id, role=role, severity=_at_most_high(self.use),
                fix="Replace its policy by this one.", statement=policy,
            )  # fmt: skip
        if wide:
            reason = (
                f"The policies of role {role.name} are about {listed(dict.fromkeys(wide))}, not only the vendor's keys."
            )
            yield self._finding(
                "role_resources_beyond", reason, role.account_id, role=role, severity=_at_most_high(self.use),
                fix="Name the vendor's keys, the replica included, and nothing else.", statement=policy,
            )  # fmt: skip

    def policy(self, key_arns: Sequence[str]) -> str | None:
        """The role's policy as the profile has it, for these keys, as JSON."""
        if self.role is None:
            return None
        mode = self.chosen_mode
        more: dict[str, str | list[str]] = {
            "key_arns": list(key_arns) or ["<the ARN of the key>"],
            "partition": _partition(key_arns),
        }
        if mode is not None:
            more |= {"tag_key": mode.key, "tag_value": mode.value, "tag_operator": mode.operator}
        return self.use.json(self.role.policy, more)

    @property
    def chosen_mode(self) -> TagMode | None:
        """The mode that the settings choose."""
        tags = self.use.profile.tags
        return tags.modes.get(self.use.values.get(tags.chosen_by, "")) if tags else None

    def _trust(self, role: RoleRow) -> tuple[bool | None, list[Check]]:
        if role.arn not in self._trusted:
            self._trusted[role.arn] = self._judge_trust(role)
        return self._trusted[role.arn]

    def _judge_trust(self, role: RoleRow) -> tuple[bool | None, list[Check]]:
        wanted = self.role
        if wanted is None or not wanted.trusted:
            return True, []
        if role.trust is None:
            return None, [
                self._unknown(
                    "trust_unknown", f"The trust policy of role {role.name} is not known.", role.account_id, role
                )
            ]
        policy = parse(role.trust)
        about_assume = [
            one for one in policy.statements if any(matches(action.lower(), "sts:assumerole") for action in one.actions)
        ]
        if not policy.readable or any(one.effect == "Deny" or one.not_actions for one in policy.statements):
            reason = f"The trust policy of role {role.name} has a Deny or a part that this check does not judge."
            return None, [self._unknown("trust_unknown", reason, role.account_id, role)]
        partition = role.arn.split(":")[1]
        right = self.use.text(wanted.trusted, {"partition": partition})
        vendor = self.use.text(wanted.trusted_account)
        shown = self.use.json(wanted.trust_policy, {"partition": partition})
        checks: list[Check] = []
        assumable = False

        def wrong(about: str, reason: str, fix: str, severity: str | None = None) -> None:
            more = {"severity": severity} if severity else {}
            checks.append(self._finding(about, reason, role.account_id, role=role, fix=fix, statement=shown, **more))

        for statement in about_assume:
            for named in statement.principals:
                found = classify(named)
                if named.value == right:
                    assumable = True
                elif found.type == "public":
                    assumable = True
                    wrong(
                        "trust_public",
                        f"Anyone may assume role {role.name}, as far as conditions let them.",
                        "Trust the vendor's role only.",
                    )
                elif found.type == "account" and found.account == vendor:
                    assumable = True
                    reason = (
                        f"Role {role.name} trusts every principal of the vendor's account {vendor}, not only {right}."
                    )
                    wrong(
                        "trust_too_wide", reason, "Name the vendor's role in the trust policy.", _at_most_high(self.use)
                    )
                elif found.account != role.account_id:
                    reason = f"Role {role.name} may be assumed by {named.value}, of whom the vendor's document does not speak."
                    wrong("trust_other", reason, "Take it out of the trust policy.", _at_most_high(self.use))
                else:
                    continue
                if wanted.external_id == "required":
                    self._external_id(role, statement, wrong)
        if not assumable:
            wrong(
                "trust_missing",
                f"The trust policy of role {role.name} does not let {right} assume it.",
                "Set this trust policy.",
            )
        return assumable, checks

    def _external_id(self, role: RoleRow, statement: Statement, wrong: Any) -> None:
        asked = {
            (operator.lower(), value)
            for operator, block in statement.conditions.items()
            for key, values in block.items()
            if key.lower() == "sts:externalid"
            for value in (values if isinstance(values, list) else [values])
        }
        fix = "Add the condition StringEquals sts:ExternalId with the id that you have from the vendor."
        if not asked:
            wrong(
                "external_id_missing",
                f"The trust policy of role {role.name} asks for no external id: another customer of the vendor could have the "
                "vendor use this role for him.",
                fix,
            )
        elif not any(operator in _EQUALS and value != "*" for operator, value in asked):
            reason = f"The trust policy of role {role.name} does not ask for one certain external id."
            wrong("external_id_pattern", reason, fix)

    def _finding(self, about: str, reason: str, account: str, *, role: RoleRow | None = None, **more: Any) -> Check:
        subject: dict[str, Any] = {"subject": role.arn, "account_name": role.account_name} if role else {}
        return finding(self.use, about, reason, account_id=account, region="global", **subject, **more)

    def _unknown(self, about: str, reason: str, account: str, role: RoleRow | None = None) -> Check:
        fix = "Let the crawl read IAM (crawl.iam: true) with a role that may call iam:GetAccountAuthorizationDetails."
        return self._finding(about, reason, account, role=role, result=Verdict.UNKNOWN, severity="medium", fix=fix)


def identities(role: RoleRow) -> tuple[Any, Any]:
    """A role's identity policy and its boundary, as the access engine wants them."""
    own = identity_policy([text for source, _, text in role.policies if source != "boundary"], role.arn)
    bounds = [text for source, _, text in role.policies if source == "boundary"]
    return own, identity_policy(bounds, role.arn) if bounds else None


def keys_named_by(roles: Sequence[RoleRow]) -> list[str]:
    """The key ARNs that the policies of roles name."""
    found = {
        one
        for role in roles
        for statement in _statements(role)
        if matching(statement.actions)
        for one in statement.resources
        if ":key/" in one and "*" not in one
    }
    return sorted(found)


def _statements(role: RoleRow) -> Iterator[Statement]:
    for source, _, text in role.policies:
        if source != "boundary" and text is not None:
            yield from (one for one in parse(text).statements if one.readable)


def _has(conditions: Mapping[str, Any], mode: TagMode) -> bool:
    wanted = (mode.operator.lower(), f"aws:resourcetag/{mode.key}".lower(), mode.value.casefold())
    return any(
        (operator.lower(), key.lower(), str(value).casefold()) == wanted
        for operator, block in conditions.items()
        if isinstance(block, Mapping)
        for key, values in block.items()
        for value in (values if isinstance(values, list) else [values])
    )


def _at_most_high(use: Use) -> str:
    return "high" if use.profile.severity == "critical" else use.profile.severity


def _partition(key_arns: Sequence[str]) -> str:
    return key_arns[0].split(":")[1] if key_arns else "aws"
