"""Checks one key against a profile: result, reason, fix, deadline and start."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from functools import partial

from models.aws_types import service_label
from reports.vendors.access_check import AccessCheck, Caller, EvaluatedNeed, Outcome, with_outcome
from reports.vendors.profile import Need, TagMode
from reports.vendors.queries import KeyRow
from reports.vendors.result import Check, CheckResult, date_text, join_list, of_key

_USABLE = frozenset({"Enabled", "Updating"})
_PENDING_DELETION = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
_INACCESSIBLE = "inaccessible-encryption-credentials"


class KeyCheck:
    """The check of one key of a profile assignment."""

    def __init__(self, access: AccessCheck, key: KeyRow) -> None:
        self._access = access
        self._key = key
        self._assignment, self._facts, self._roles = access.assignment, access.facts, access.roles
        self._profile = access.assignment.profile
        self._check = partial(of_key, access.assignment, key)
        self._unknown = partial(self._check, CheckResult.UNKNOWN)

    def result(self) -> Check:
        """The result for the key. Tags come first: a key excluded by tag cannot fail."""
        key = self._key
        mode_name, mode = self._mode()
        if self._profile.tags is not None:
            if mode is None:
                return self._unknown(mode_name, "Set parameters.mode of this profile, or enable crawl.iam.")
            if (by_tag := self._by_tag(mode_name, mode)) is not None:
                return by_tag
        if key.state is None:
            return self._unread("Its state is unknown", "kms:DescribeKey")
        if key.state not in _USABLE:
            return self._unusable(key.state)
        if key.policy_hash is None:
            return self._unread("Its policy is unknown", "kms:GetKeyPolicy")
        return self._by_policy(key.policy_hash, mode)

    def _unread(self, what: str, action: str) -> Check:
        return self._unknown(f"{what}: {self._facts.gap_reason(self._key.key_arn, action)}.")

    # -- by tag

    def _mode(self) -> tuple[str, TagMode | None]:
        """The name of the mode and the mode, from the settings or the role's policy; or the reason and None."""
        tags = self._profile.tags
        if tags is None:
            return "", None
        if chosen := self._assignment.values.get(tags.chosen_by, ""):
            return chosen, tags.modes.get(chosen)
        account = self._roles.account or self._key.account_id
        for role in self._roles.named(account):
            if mode := self._roles.mode(role):
                return mode, tags.modes[mode]
        known, why = self._facts.iam(account)
        reason = f"the role's policy in account {account} could not be read: {why}"
        if known:
            reason = f"no role {self._roles.name} in account {account} has a policy that implements a mode"
        return f"The mode is not set, and {reason}.", None

    def _by_tag(self, mode_name: str, mode: TagMode) -> Check | None:
        tags = self._key.tags
        if tags is None:
            return self._unread("Its tags are unknown", "kms:ListResourceTags")
        value = tags.get(mode.key)
        # With the same letters in another case: to the vendor it is another tag, to IAM the same.
        similar = [name for name in tags if name.casefold() == mode.key.casefold() and _matches(tags[name], mode)]
        differs, change = "", f"Change the tag key to {mode.key}."
        if variant := next((name for name in similar if name != mode.key), None):
            differs = f"Its tag {variant}={tags[variant]} differs from {mode.key} in letter case: "
            differs += "according to the vendor it does not"
        ignored = "but IAM ignores the case of tag keys"
        if mode.means == "denied":
            if mode.key in similar:
                reason = f"Its tag {mode.key}={value} excludes the vendor ({mode_name})."
                return self._excluded(CheckResult.DENIED_BY_TAG, reason)
            return self._unknown(f"{differs} exclude the vendor, {ignored}.", change) if differs else None
        if mode.key in similar:
            return None
        if differs:
            reason = f"{differs} select the key ({mode_name}), {ignored}, so the role may have access."
            return self._check(CheckResult.NOT_SELECTED, reason, change)
        reason = f"It has no tag {mode.key}={mode.value} ({mode_name})."
        if value is not None:
            reason = f"Its tag {mode.key}={value} is not {mode.value} ({mode_name})."
        tag = f"aws kms tag-resource --key-id {self._key.key_arn} --tags TagKey={mode.key},TagValue={mode.value}"
        return self._excluded(CheckResult.NOT_SELECTED, reason, f"To allow the vendor to use it: {tag}")

    def _excluded(self, result: CheckResult, reason: str, fix: str = "") -> Check:
        """The result for a key excluded by tag: over-shared if the policies allow the vendor anyway."""
        key = self._key
        if key.policy_hash is not None and key.state in _USABLE:
            for need, caller, evaluation in self._access.evaluate(key, key.policy_hash):
                if need.iam and evaluation.outcome is Outcome.MET:
                    reason += f" However, statement {evaluation.via} of the key policy allows {caller} to use it: "
                    reason += f"{join_list(evaluation.operations)}."
                    fix = f"Remove statement {evaluation.via} from the key policy, or make it conditional on the tag."
                    return self._check(
                        CheckResult.OVER_SHARED, reason, fix, evidence=evaluation.via, since=key.policy_since
                    )
        return self._check(result, reason, fix)

    # -- by state

    def _unusable(self, state: str) -> Check:
        row = next(self._facts.rows("state_since", key_arn=self._key.key_arn, state=state))
        since: dt.datetime | None = row["since"]
        start = f"since {date_text(since)}" + ("" if row["seen_before"] else " or earlier, the first crawl of the key")
        scenarios, deadline = self._profile.scenarios, None
        if state in _PENDING_DELETION:
            scenario, deadline = scenarios.pending_deletion, self._key.deletion_date
            reason = f"The key is scheduled for deletion ({start}); it will be deleted on {date_text(deadline)}."
        elif state == "Disabled":
            scenario, reason = scenarios.disabled, f"The key is disabled, {start}."
        else:
            scenario, reason = scenarios.unusable, f"The key cannot be used: its state is {state}, {start}."
        if since and scenario.days:
            data_loss = since + dt.timedelta(days=scenario.days)
            deadline = min(data_loss, deadline) if deadline else data_loss
            reason += f" Databases without access to it are lost after {scenario.days} days: "
            reason += f"by this estimate on {date_text(data_loss)}."
        reason += f"{self._dependents_text()} {scenario.effect}"
        evidence = f"state {state}"
        return self._check(CheckResult.BROKEN, reason, scenario.fix, deadline=deadline, since=since, evidence=evidence)

    def _dependents_text(self) -> str:
        """A text about the dependents of the key in the organization, and databases without access to it."""
        dependents = list(self._facts.rows("dependents", key_arn=self._key.key_arn))
        services = Counter(row["service"] for row in dependents)
        counts = [f"{count} {service_label(name)}" for name, count in services.items()]
        text = f" In this organization it protects {join_list(counts)}." if counts else ""
        inaccessible = [
            f"{row['name']} is {row['status']}" for row in dependents if str(row["status"]).startswith(_INACCESSIBLE)
        ]
        return f"{text} {join_list(inaccessible)}." if inaccessible else text

    # -- by policy

    def _by_policy(self, policy_hash: str, mode: TagMode | None) -> Check:
        needs = self._access.evaluate(self._key, policy_hash)
        if denied := with_outcome(needs, Outcome.DENIED):
            return self._denied(denied, with_outcome(needs, Outcome.DENIED, Outcome.NOT_ALLOWED)[0])
        if not_allowed := with_outcome(needs, Outcome.NOT_ALLOWED):
            return self._not_allowed(not_allowed[0])
        if undetermined := with_outcome(needs, Outcome.UNKNOWN, Outcome.CONDITIONAL):
            return self._undetermined(undetermined[0])
        # Access of other roles is checked neither for excess nor for trust.
        own = [(need, caller, evaluation) for need, caller, evaluation in needs if need.iam or not caller.is_role]
        check = self._untrusted(own) or self._excess(policy_hash, own)
        if check is None and self._profile.keys.dedicated:
            check = self._other_parties(policy_hash, {caller.account for _, caller, _ in needs})
        if check is not None:
            return check
        statements = join_list(dict.fromkeys(f"“{evaluation.via}”" for *_, evaluation in needs if evaluation.via))
        callers = join_list(dict.fromkeys(str(caller) for _, caller, _ in own))
        chosen = f", and no tag {mode.key}={mode.value} excludes it" if mode and mode.means == "denied" else ""
        reason = f"{callers} can use it as the profile requires, through {statements or 'the key policy'}{chosen}."
        return self._check(CheckResult.ACCESSIBLE, reason, evidence=statements or None, since=self._key.policy_since)

    def _denied(self, denied: Sequence[EvaluatedNeed], first: EvaluatedNeed) -> Check:
        """The result for a key whose policy does not allow the vendor; ``first`` is the first need that is not met."""
        statement = self._statements([(need, caller) for need, caller, _ in denied])
        if (since := self._shared_until()) is not None:
            scenario = self._profile.scenarios.unshared
            operations = join_list(dict.fromkeys(name for *_, denial in denied for name in denial.operations))
            reason = (
                f"The key stopped being shared with {denied[0][1]}: until {date_text(since)} the key policy "
                f"allowed {operations}, and now it does not.{self._dependents_text()} {scenario.effect}"
            )
            evidence = denied[0][2].via or None
            return self._check(
                CheckResult.BROKEN, reason, scenario.fix, statement=statement, since=since, evidence=evidence
            )
        _, caller, evaluation = first
        names_vendor = evaluation.via or not caller.is_role
        blocked = "does not allow" if names_vendor else "neither delegates to IAM nor names"
        details = "; ".join(
            f"{need.title}: {principal} lacks {join_list(denial.operations)}"
            + (f", which statement {denial.via} denies" if denial.via else "")
            for need, principal, denial in denied
        )
        return self._check(
            CheckResult.BLOCKED, f"The key policy {blocked} the vendor ({details}).", "Add to the key policy:",
            statement=statement, evidence=evaluation.via or None, since=self._key.policy_since,
        )  # fmt: skip

    def _not_allowed(self, not_allowed: EvaluatedNeed) -> Check:
        _, caller, evaluation = not_allowed
        if caller.unknown:  # the role does not exist
            return self._check(CheckResult.BLOCKED, caller.unknown, "Create the role as the profile requires.")
        reason = (
            f"The key policy delegates to IAM, and the policies of {caller} do not allow "
            f"{join_list(evaluation.operations)}.{f' ({evaluation.reason})' if evaluation.via else ''}"
        )
        return self._check(
            CheckResult.BLOCKED, reason, "Set this policy on the role:",
            statement=self._roles.policy([self._key.key_arn]), evidence=evaluation.via or None,
        )  # fmt: skip

    def _undetermined(self, undetermined: EvaluatedNeed) -> Check:
        _, caller, evaluation = undetermined
        if evaluation.outcome is Outcome.CONDITIONAL:
            through = f"Statement {evaluation.via}" if evaluation.via else "The key policy"
            reason = f"{through} allows {caller} only requests with {evaluation.reason}"
            reason += ": whether the vendor's requests have this is unknown."
            return self._unknown(reason, "Ask the vendor, or remove the condition.")
        operations = join_list(evaluation.operations)
        reason = f"Whether {caller} can call {operations} could not be determined: {evaluation.reason}."
        return self._unknown(reason, "Enable crawl.iam in the settings." if caller.unknown else "")

    def _untrusted(self, needs: Sequence[EvaluatedNeed]) -> Check | None:
        """The result for a key that a role can use, if the vendor cannot assume the role."""
        for need, caller, _ in needs:
            role = self._access.role_of(caller) if need.iam else None
            assumable = role is None or self._roles.assumable(role)
            if role is None or assumable:
                continue
            if assumable is None:
                return self._unknown(f"Whether the vendor can assume role {role.name} could not be determined.")
            reason = f"Role {role.name} can use the key, but its trust policy does not allow the vendor to assume it."
            return self._check(CheckResult.BLOCKED, reason, "Set the trust policy from the finding about the role.")
        return None

    def _excess(self, policy_hash: str, evaluated: Sequence[EvaluatedNeed]) -> Check | None:
        by_caller: dict[str, tuple[Caller, list[Need]]] = {}
        for need, caller, _ in evaluated:
            by_caller.setdefault(caller.principal, (caller, []))[1].append(need)
        for caller, needs in by_caller.values():
            excess = self._access.excess(self._key, policy_hash, needs, caller)
            if excess.outcome is Outcome.MET:
                continue
            operations = join_list(excess.operations)
            reason = (
                f"{caller} has more access than the profile requires: {operations}, through statement {excess.via}."
            )
            if excess.outcome is Outcome.CONDITIONAL:
                condition = f"without the condition that {excess.reason}"
                reason = f"{caller} can call {operations} {condition} (statement {excess.via})."
            policy = self._roles.policy([self._key.key_arn]) if caller.is_role else None
            return self._check(
                CheckResult.OVER_SHARED, reason, "Restrict the vendor to this statement:",
                statement=policy or self._statements([(need, caller) for need in needs]),
                evidence=excess.via, since=self._key.policy_since,
            )  # fmt: skip
        return None

    def _other_parties(self, policy_hash: str, vendors: set[str]) -> Check | None:
        external = self._access.external_access(self._key, policy_hash, vendors)
        if not external:
            return None
        reason = f"External parties other than the vendor can use the key. {' '.join(external[:3])}"
        fix = "Give the vendor a key of its own, or remove the other parties."
        return self._check(CheckResult.OVER_SHARED, reason, fix, since=self._key.policy_since)

    def _shared_until(self) -> dt.datetime | None:
        """The start of the run that first saw the vendor's access removed; None if no earlier policy allowed it."""
        for version in self._facts.rows("earlier_policies", key_arn=self._key.key_arn):
            needs = self._access.evaluate(self._key, version["policy_hash"])
            if not with_outcome(needs, Outcome.DENIED, Outcome.UNKNOWN):
                ended_at: dt.datetime | None = version["ended_at"]
                return ended_at
        return None

    def _statements(self, needs: Sequence[tuple[Need, Caller]]) -> str:
        key = self._key
        values = {"key_account": key.account_id, "key_arn": key.key_arn, "key_region": key.region}
        statements = []
        for need, caller in needs:
            across = caller.account != key.account_id and need.statement_across is not None
            more = {**values, "role_arn": caller.principal, "partition": key.partition}
            statements.append(self._assignment.json(need.statement_across if across else need.statement, more))
        return ",\n".join(dict.fromkeys(statements))


def _matches(value: str, mode: TagMode) -> bool:
    return value == mode.value or (mode.letter_case == "ignored" and value.casefold() == mode.value.casefold())
