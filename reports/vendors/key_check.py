"""Checks one key against a profile: result, reason, fix, deadline and start."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from models.aws_types import service_label
from reports.access.engine.policy_parser import Policy
from reports.vendors.access_check import Caller, Evaluation, Outcome
from reports.vendors.assignments import ProfileAssignment
from reports.vendors.profile import Need, Scenario, TagMode
from reports.vendors.queries import Facts, KeyRow
from reports.vendors.requirements import EvaluatedNeed, Needs, Result
from reports.vendors.result import Check, CheckResult, date_text, join_list, of_key
from reports.vendors.role_check import Roles

_USABLE = frozenset({"Enabled", "Updating"})
_PENDING_DELETION = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
_INACCESSIBLE = "inaccessible-encryption-credentials"


@dataclass(slots=True)
class KeyChecker:
    """Checks the keys of one profile assignment."""

    _assignment: ProfileAssignment
    _facts: Facts
    _roles: Roles
    _needs: Needs

    def check(self, key: KeyRow) -> Check:
        """The result for a key. Tags come first: a key excluded by tag cannot fail."""
        mode_name, mode = self._mode(key)
        if self._assignment.profile.tags is not None:
            if mode is None:
                return self._unknown(key, mode_name, "Set parameters.mode of this profile, or enable crawl.iam.")
            if (by_tag := self._by_tag(key, mode_name, mode)) is not None:
                return by_tag
        if key.state is None:
            return self._unknown(
                key, f"Its state is unknown: {self._facts.gap_reason(key.key_arn, 'kms:DescribeKey')}."
            )
        if key.state not in _USABLE:
            return self._unusable(key)
        if key.policy_hash is None:
            return self._unknown(
                key, f"Its policy is unknown: {self._facts.gap_reason(key.key_arn, 'kms:GetKeyPolicy')}."
            )
        return self._by_policy(key, self._facts.policy(key.policy_hash), mode)

    # -- by tag

    def _mode(self, key: KeyRow) -> tuple[str, TagMode | None]:
        """The name of the mode and the mode, from the settings or the role's policy; or the reason and None."""
        tags = self._assignment.profile.tags
        if tags is None:
            return "", None
        chosen = self._assignment.values.get(tags.chosen_by, "")
        if chosen:
            return chosen, tags.modes.get(chosen)
        account = self._assignment.text(self._roles.role.account) if self._roles.role else ""
        account = account or key.account_id
        name = self._assignment.text(self._roles.role.name) if self._roles.role else ""
        modes = [mode for role in self._roles.of(name, account) if (mode := self._roles.mode(role))]
        if modes:
            return modes[0], tags.modes[modes[0]]
        known, why = self._facts.iam(account)
        if known:
            return (
                f"The mode is not set, and no role {name} in account {account} has a policy that implements a mode.",
                None,
            )
        return f"The mode is not set, and the role's policy in account {account} could not be read: {why}.", None

    def _by_tag(self, key: KeyRow, mode_name: str, mode: TagMode) -> Check | None:
        if key.tags is None:
            return self._unknown(
                key, f"Its tags are unknown: {self._facts.gap_reason(key.key_arn, 'kms:ListResourceTags')}."
            )
        value = key.tags.get(mode.key)
        has_tag = value is not None and _matches(value, mode)
        similar = [
            (name, other)
            for name, other in key.tags.items()
            if name != mode.key and name.casefold() == mode.key.casefold()
        ]
        case_variant = next((f"{name}={other}" for name, other in similar if _matches(other, mode)), "")
        if mode.means == "denied":
            if has_tag:
                return self._excluded(
                    key, CheckResult.DENIED_BY_TAG, f"Its tag {mode.key}={value} excludes the vendor ({mode_name}).", ""
                )
            if case_variant:
                reason = (
                    f"Its tag {case_variant} differs from {mode.key} in letter case: according to the vendor it does not "
                    "exclude the vendor, but IAM ignores the case of tag keys."
                )
                return self._unknown(key, reason, f"Change the tag key to {mode.key}.")
            return None
        if has_tag:
            return None
        tag = f"aws kms tag-resource --key-id {key.key_arn} --tags TagKey={mode.key},TagValue={mode.value}"
        if case_variant:
            reason = (
                f"Its tag {case_variant} differs from {mode.key} in letter case: according to the vendor it does not select "
                f"the key ({mode_name}), but IAM ignores the case of tag keys, so the role may have access."
            )
            return of_key(
                self._assignment, key, CheckResult.NOT_SELECTED, reason, fix=f"Change the tag key to {mode.key}."
            )
        if value is not None:
            reason = f"Its tag {mode.key}={value} is not {mode.value} ({mode_name})."
        else:
            reason = f"It has no tag {mode.key}={mode.value} ({mode_name})."
        return self._excluded(key, CheckResult.NOT_SELECTED, reason, f"To allow the vendor to use it: {tag}")

    def _excluded(self, key: KeyRow, check_result: CheckResult, reason: str, fix: str) -> Check:
        """The result for a key excluded by tag: over-shared if the policies allow the vendor anyway."""
        if key.policy_hash is not None and key.state in _USABLE:
            result = self._needs.result(key, self._facts.policy(key.policy_hash))
            for _, caller, evaluation in (evaluated for evaluated in result.of(Outcome.MET) if evaluated[0].iam):
                access = f"statement {evaluation.via} of the key policy allows {_caller_name(caller)} to use it"
                reason += f" However, {access}: {join_list(evaluation.operations)}."
                fix = f"Remove statement {evaluation.via} from the key policy, or make it conditional on the tag."
                return of_key(
                    self._assignment, key, CheckResult.OVER_SHARED, reason, fix=fix,
                    evidence=evaluation.via, since=key.policy_since,
                )  # fmt: skip
        return of_key(self._assignment, key, check_result, reason, fix=fix)

    # -- by state

    def _unusable(self, key: KeyRow) -> Check:
        state = key.state or ""
        since, seen_before = self._facts.state_since(key.key_arn, state)
        scenarios = self._assignment.profile.scenarios
        start = (
            f"since {date_text(since)}"
            if seen_before
            else f"since {date_text(since)} or earlier, the first crawl of the key"
        )
        if state in _PENDING_DELETION:
            scenario, deadline = scenarios.pending_deletion, key.deletion_date
            reason = f"The key is scheduled for deletion ({start}); it will be deleted on {date_text(deadline)}."
        elif state == "Disabled":
            scenario, deadline = scenarios.disabled, None
            reason = f"The key is disabled, {start}."
        else:
            scenario, deadline = scenarios.unusable, None
            reason = f"The key cannot be used: its state is {state}, {start}."
        data_loss = _data_loss_date(since, scenario)
        if data_loss is not None:
            deadline = min(data_loss, deadline) if deadline else data_loss
            estimate = f"by this estimate on {date_text(data_loss)}"
            reason += f" Databases without access to it are lost after {scenario.days} days: {estimate}."
        return of_key(
            self._assignment, key, CheckResult.BROKEN,
            f"{reason}{self._dependents_text(key)} {scenario.effect}",
            fix=scenario.fix, deadline=deadline, since=since, evidence=f"state {state}",
        )  # fmt: skip

    def _dependents_text(self, key: KeyRow) -> str:
        """A text about the dependents of the key in the organization, and databases without access to it."""
        dependents = self._facts.dependents(key.key_arn)
        counts = [
            f"{count} {service_label(name)}" for name, count in Counter(row["service"] for row in dependents).items()
        ]
        text = f" In this organization it protects {join_list(counts)}." if counts else ""
        inaccessible = [
            f"{row['name']} is {row['status']}" for row in dependents if str(row["status"]).startswith(_INACCESSIBLE)
        ]
        return f"{text} {join_list(inaccessible)}." if inaccessible else text

    # -- by policy

    def _by_policy(self, key: KeyRow, policy: Policy, mode: TagMode | None) -> Check:
        result = self._needs.result(key, policy)
        if denied := result.of(Outcome.DENIED, Outcome.NOT_ALLOWED):
            return self._blocked(key, denied)
        if undetermined := result.of(Outcome.UNKNOWN, Outcome.CONDITIONAL):
            return self._undetermined(key, undetermined)
        for need, caller, _ in result.needs:
            if (
                need.iam
                and (role := self._needs.role_of(caller)) is not None
                and self._roles.assumable(role) is not True
            ):
                if self._roles.assumable(role) is None:
                    return self._unknown(
                        key, f"Whether the vendor can assume role {role.name} could not be determined."
                    )
                reason = (
                    f"Role {role.name} can use the key, but its trust policy does not allow the vendor to assume it."
                )
                return of_key(
                    self._assignment,
                    key,
                    CheckResult.BLOCKED,
                    reason,
                    fix="Set the trust policy from the finding about the role.",
                )
        if (excess := self._excess(key, policy, result)) is not None:
            return excess
        statements = join_list(
            dict.fromkeys(f"“{evaluation.via}”" for _, _, evaluation in result.needs if evaluation.via)
        )
        callers = join_list(
            dict.fromkeys(_caller_name(caller) for need, caller, _ in result.needs if need.iam or not caller.is_role)
        )
        chosen = f", and no tag {mode.key}={mode.value} excludes it" if mode and mode.means == "denied" else ""
        reason = f"{callers} can use it as the profile requires, through {statements or 'the key policy'}{chosen}."
        return of_key(
            self._assignment, key, CheckResult.ACCESSIBLE, reason, evidence=statements or None, since=key.policy_since
        )

    def _blocked(self, key: KeyRow, denied: Sequence[EvaluatedNeed]) -> Check:
        _, caller, evaluation = denied[0]
        by_policy = [evaluated for evaluated in denied if evaluated[2].outcome is Outcome.DENIED]
        if by_policy and (since := self._shared_until(key)) is not None:
            scenario = self._assignment.profile.scenarios.unshared
            operations = join_list(dict.fromkeys(name for _, _, denial in by_policy for name in denial.operations))
            reason = (
                f"The key stopped being shared with {_caller_name(by_policy[0][1])}: until {date_text(since)} the key policy "
                f"allowed {operations}, and now it does not.{self._dependents_text(key)} {scenario.effect}"
            )
            return of_key(
                self._assignment, key, CheckResult.BROKEN, reason, fix=scenario.fix, statement=self._statements(key, by_policy),
                since=since, evidence=by_policy[0][2].via or None,
            )  # fmt: skip
        if by_policy:
            details = [f"{need.title}: {_missing_access(principal, denial)}" for need, principal, denial in by_policy]
            reason = f"The key policy does not allow the vendor ({'; '.join(details)})."
            if caller.is_role and not evaluation.via:
                reason = f"The key policy neither delegates to IAM nor names the vendor ({'; '.join(details)})."
            return of_key(
                self._assignment, key, CheckResult.BLOCKED, reason, fix="Add to the key policy:",
                statement=self._statements(key, by_policy), evidence=evaluation.via or None, since=key.policy_since,
            )  # fmt: skip
        if caller.unknown:  # the role does not exist
            return of_key(
                self._assignment,
                key,
                CheckResult.BLOCKED,
                caller.unknown,
                fix="Create the role as the profile requires.",
            )
        operations = join_list(evaluation.operations)
        reason = (
            f"The key policy delegates to IAM, and the policies of {_caller_name(caller)} do not allow {operations}."
        )
        return of_key(
            self._assignment, key, CheckResult.BLOCKED, f"{reason}{f' ({evaluation.reason})' if evaluation.via else ''}",
            fix="Set this policy on the role:", statement=self._roles.policy([key.key_arn]), evidence=evaluation.via or None,
        )  # fmt: skip

    def _undetermined(self, key: KeyRow, undetermined: Sequence[EvaluatedNeed]) -> Check:
        _, caller, evaluation = undetermined[0]
        through = f"statement {evaluation.via}" if evaluation.via else "the key policy"
        if evaluation.outcome is Outcome.CONDITIONAL:
            condition = f"{through[0].upper()}{through[1:]} allows {_caller_name(caller)} only requests with {evaluation.reason}"
            reason = f"{condition}: whether the vendor's requests have this is unknown."
            return self._unknown(key, reason, "Ask the vendor, or remove the condition.")
        operations = join_list(evaluation.operations)
        reason = f"Whether {_caller_name(caller)} can call {operations} could not be determined: {evaluation.reason}."
        return self._unknown(key, reason, "Enable crawl.iam in the settings." if caller.unknown else "")

    def _excess(self, key: KeyRow, policy: Policy, result: Result) -> Check | None:
        by_caller: dict[str, list[tuple[Need, Caller]]] = {}
        for need, caller, _ in result.needs:
            if need.iam or not caller.is_role:  # access of other roles is not checked
                by_caller.setdefault(caller.principal, []).append((need, caller))
        for needs in by_caller.values():
            excess, caller_name = self._needs.excess(key, policy, needs), _caller_name(needs[0][1])
            if excess.outcome is Outcome.MET:
                continue
            operations = join_list(excess.operations)
            reason = f"{caller_name} has more access than the profile requires: {operations}, through statement {excess.via}."
            if excess.outcome is Outcome.CONDITIONAL:
                condition = f"without the condition that {excess.reason}"
                reason = f"{caller_name} can call {operations} {condition} (statement {excess.via})."
            statement = self._statements(key, [(need, caller, excess) for need, caller in needs])
            if needs[0][1].is_role and self._roles.role is not None:
                statement = self._roles.policy([key.key_arn]) or statement
            return of_key(
                self._assignment, key, CheckResult.OVER_SHARED, reason,
                fix="Restrict the vendor to this statement:", statement=statement, evidence=excess.via, since=key.policy_since,
            )  # fmt: skip
        if not self._assignment.profile.keys.dedicated:
            return None
        external = self._needs.external_access(key, policy, {caller.account for _, caller, _ in result.needs})
        if not external:
            return None
        return of_key(
            self._assignment, key, CheckResult.OVER_SHARED,
            f"External parties other than the vendor can use the key. {' '.join(external[:3])}",
            fix="Give the vendor a key of its own, or remove the other parties.", since=key.policy_since,
        )  # fmt: skip

    def _shared_until(self, key: KeyRow) -> dt.datetime | None:
        """The start of the run that first saw the vendor's access removed; None if no earlier policy allowed it."""
        for version in self._facts.earlier_policies(key.key_arn):
            result = self._needs.result(key, self._facts.policy(version.policy_hash), version.policy_hash)
            if not result.of(Outcome.DENIED) and not result.of(Outcome.UNKNOWN):
                return version.ended_at
        return None

    def _statements(self, key: KeyRow, needs: Sequence[EvaluatedNeed]) -> str:
        statements = []
        for need, caller, _ in needs:
            is_cross_account = caller.account != key.account_id and need.statement_across is not None
            values = {
                "key_account": key.account_id,
                "key_arn": key.key_arn,
                "key_region": key.region,
                "role_arn": caller.principal,
            }
            template = need.statement_across if is_cross_account else need.statement
            statements.append(self._assignment.json(template, {**values, "partition": key.key_arn.split(":")[1]}))
        return ",\n".join(dict.fromkeys(statements))

    def _unknown(self, key: KeyRow, reason: str, fix: str = "") -> Check:
        return of_key(self._assignment, key, CheckResult.UNKNOWN, reason, fix=fix)


def _caller_name(caller: Caller) -> str:
    return (
        f"role {caller.principal.rpartition('/')[2]} of account {caller.account}"
        if caller.is_role
        else f"account {caller.account}"
    )


def _missing_access(caller: Caller, evaluation: Evaluation) -> str:
    denial = f", which statement {evaluation.via} denies" if evaluation.via else ""
    return f"{_caller_name(caller)} lacks {join_list(evaluation.operations)}{denial}"


def _matches(value: str, mode: TagMode) -> bool:
    return value == mode.value or (mode.letter_case == "ignored" and value.casefold() == mode.value.casefold())


def _data_loss_date(since: dt.datetime | None, scenario: Scenario) -> dt.datetime | None:
    return since + dt.timedelta(days=scenario.days) if since and scenario.days else None
