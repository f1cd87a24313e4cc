"""One key against a profile: its verdict, why, what to do, by when, since when."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from models.aws_types import service_label
from reports.access.engine.policy_parser import Policy
from reports.vendors.access_check import Answer, Caller, Outcome
from reports.vendors.assignments import Use
from reports.vendors.profile import Need, Scenario, TagMode
from reports.vendors.queries import Facts, KeyRow
from reports.vendors.requirements import Answered, Needs, Result
from reports.vendors.result import Check, Verdict, day, listed, of_key
from reports.vendors.role_check import Roles

_USABLE = frozenset({"Enabled", "Updating"})
_GOING = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
_STRANDED = "inaccessible-encryption-credentials"


@dataclass(slots=True)
class KeyJudge:
    """Judges the keys of one use."""

    _use: Use
    _facts: Facts
    _roles: Roles
    _needs: Needs

    def check(self, key: KeyRow) -> Check:
        """The verdict on a key, tags first: what nobody is meant to reach is not broken."""
        mode_name, mode = self._mode(key)
        if self._use.profile.tags is not None:
            if mode is None:
                return self._unknown(
                    key, mode_name, "Set parameters.mode of this profile, or let the crawl read IAM (crawl.iam)."
                )
            if (by_tag := self._by_tag(key, mode_name, mode)) is not None:
                return by_tag
        if key.state is None:
            return self._unknown(key, f"Its state is not known: {self._facts.gap(key.key_arn, 'kms:DescribeKey')}.")
        if key.state not in _USABLE:
            return self._unusable(key)
        if key.policy_hash is None:
            return self._unknown(key, f"Its policy is not known: {self._facts.gap(key.key_arn, 'kms:GetKeyPolicy')}.")
        return self._by_policy(key, self._facts.policy(key.policy_hash), mode)

    # -- by tag

    def _mode(self, key: KeyRow) -> tuple[str, TagMode | None]:
        """The mode by name, from the settings or the role's policy; or why there is none."""
        tags = self._use.profile.tags
        if tags is None:
            return "", None
        chosen = self._use.values.get(tags.chosen_by, "")
        if chosen:
            return chosen, tags.modes.get(chosen)
        account = self._use.text(self._roles.role.account) if self._roles.role else ""
        account = account or key.account_id
        name = self._use.text(self._roles.role.name) if self._roles.role else ""
        found = self._roles.of(name, account)
        modes = [mode for role in found if (mode := self._roles.mode(role))]
        if modes:
            return modes[0], tags.modes[modes[0]]
        known, why = self._facts.iam(account)
        if known:
            return f"The mode is not set, and no role {name} in account {account} has a policy that tells it.", None
        return f"The mode is not set, and the role's policy in account {account} is not known: {why}.", None

    def _by_tag(self, key: KeyRow, mode_name: str, mode: TagMode) -> Check | None:
        if key.tags is None:
            return self._unknown(
                key, f"Its tags are not known: {self._facts.gap(key.key_arn, 'kms:ListResourceTags')}."
            )
        value = key.tags.get(mode.key)
        fits = value is not None and _same(value, mode)
        near = [
            (name, one) for name, one in key.tags.items() if name != mode.key and name.casefold() == mode.key.casefold()
        ]
        alike = next((f"{name}={one}" for name, one in near if _same(one, mode)), "")
        if mode.means == "denied":
            if fits:
                return self._excluded(
                    key, Verdict.DENIED_BY_TAG, f"Its tag {mode.key}={value} keeps the vendor out ({mode_name}).", ""
                )
            if alike:
                reason = (
                    f"Its tag {alike} differs from {mode.key} in letter case: by the vendor's guide it does not keep the vendor "
                    "out, while IAM does not tell such names apart."
                )
                return self._unknown(key, reason, f"Write the tag's key as {mode.key}.")
            return None
        if fits:
            return None
        tag = f"aws kms tag-resource --key-id {key.key_arn} --tags TagKey={mode.key},TagValue={mode.value}"
        if alike:
            reason = (
                f"Its tag {alike} differs from {mode.key} in letter case: by the vendor's guide it selects nothing "
                f"({mode_name}). "
                "IAM does not tell such names apart, so the role may be let in all the same."
            )
            return of_key(self._use, key, Verdict.NOT_SELECTED, reason, fix=f"Write the tag's key as {mode.key}.")
        if value is not None:
            reason = f"Its tag {mode.key}={value} is not {mode.value} ({mode_name})."
        else:
            reason = f"It has no tag {mode.key}={mode.value} ({mode_name})."
        return self._excluded(key, Verdict.NOT_SELECTED, reason, f"To let the vendor use it: {tag}")

    def _excluded(self, key: KeyRow, verdict: Verdict, reason: str, fix: str) -> Check:
        """A key that the tag leaves out, unless the key policy or the role's own lets the vendor in all the same."""
        if key.policy_hash is not None and key.state in _USABLE:
            result = self._needs.result(key, self._facts.policy(key.policy_hash))
            for _, caller, answer in (one for one in result.of(Outcome.MET) if one[0].iam):
                through = f"statement {answer.via} of the key policy lets {_who(caller)}"
                fix = f"Take statement {answer.via} out of the key policy, or condition it on the tag as well."
                return of_key(
                    self._use, key, Verdict.OVER_SHARED, f"{reason} Yet {through} use it: {listed(answer.operations)}.",
                    fix=fix, evidence=answer.via, since=key.policy_since,
                )  # fmt: skip
        return of_key(self._use, key, verdict, reason, fix=fix)

    # -- by state

    def _unusable(self, key: KeyRow) -> Check:
        state = key.state or ""
        since, seen_before = self._facts.state_since(key.key_arn, state)
        scenarios = self._use.profile.scenarios
        first = f"since {day(since)}" if seen_before else f"since {day(since)} or earlier, when the ledger first saw it"
        if state in _GOING:
            scenario, deadline = scenarios.pending_deletion, key.deletion_date
            reason = f"The key is scheduled for deletion ({first}); it will be gone on {day(deadline)}."
        elif state == "Disabled":
            scenario, deadline = scenarios.disabled, None
            reason = f"The key is disabled, {first}."
        else:
            scenario, deadline = scenarios.unusable, None
            reason = f"The key cannot be used: its state is {state}, {first}."
        lost = _lost(since, scenario)
        if lost is not None:
            deadline = min(lost, deadline) if deadline else lost
            reason += (
                f" Databases that lost it are given up after {scenario.days} days: by what was seen, on {day(lost)}."
            )
        return of_key(
            self._use, key, Verdict.BROKEN,
            f"{reason}{self._here(key)} {scenario.effect}",
            fix=scenario.fix, deadline=deadline, since=since, evidence=f"state {state}",
        )  # fmt: skip

    def _here(self, key: KeyRow) -> str:
        """What depends on the key in our accounts, and which databases have lost it."""
        found = self._facts.dependents(key.key_arn)
        counts = [f"{count} {service_label(name)}" for name, count in Counter(row["service"] for row in found).items()]
        text = f" Here it protects {listed(counts)}." if counts else ""
        stranded = [f"{row['name']} is {row['status']}" for row in found if str(row["status"]).startswith(_STRANDED)]
        return f"{text} {listed(stranded)}." if stranded else text

    # -- by policy

    def _by_policy(self, key: KeyRow, policy: Policy, mode: TagMode | None) -> Check:
        result = self._needs.result(key, policy)
        if refused := result.of(Outcome.REFUSED, Outcome.NOT_GIVEN):
            return self._blocked(key, refused)
        if unsure := result.of(Outcome.UNKNOWN, Outcome.NARROWED):
            return self._unsure(key, unsure)
        for need, caller, _ in result.answers:
            if (
                need.iam
                and (role := self._needs.role_of(caller)) is not None
                and self._roles.assumable(role) is not True
            ):
                if self._roles.assumable(role) is None:
                    return self._unknown(key, f"Whether the vendor can assume role {role.name} is not known.")
                reason = f"Role {role.name} can use the key, but its trust policy does not let the vendor assume it."
                return of_key(
                    self._use, key, Verdict.BLOCKED, reason, fix="Set the trust policy of the finding on the role."
                )
        if (over := self._over(key, policy, result)) is not None:
            return over
        vias = listed(dict.fromkeys(f"“{answer.via}”" for _, _, answer in result.answers if answer.via))
        who = listed(
            dict.fromkeys(_who(caller) for need, caller, _ in result.answers if need.iam or not caller.is_role)
        )
        chosen = f", and no tag {mode.key}={mode.value} keeps it out" if mode and mode.means == "denied" else ""
        reason = f"{who} can use it as the profile asks, through {vias or 'the key policy'}{chosen}."
        return of_key(self._use, key, Verdict.ACCESSIBLE, reason, evidence=vias or None, since=key.policy_since)

    def _blocked(self, key: KeyRow, refused: Sequence[Answered]) -> Check:
        _, caller, answer = refused[0]
        by_policy = [one for one in refused if one[2].outcome is Outcome.REFUSED]
        if by_policy and (since := self._shared_until(key)) is not None:
            scenario = self._use.profile.scenarios.unshared
            what = listed(dict.fromkeys(name for _, _, one in by_policy for name in one.operations))
            reason = (
                f"The key stopped being shared with {_who(by_policy[0][1])}: until {day(since)} the key policy allowed "
                f"{what}, now it does not.{self._here(key)} {scenario.effect}"
            )
            return of_key(
                self._use, key, Verdict.BROKEN, reason, fix=scenario.fix, statement=self._statements(key, by_policy),
                since=since, evidence=by_policy[0][2].via or None,
            )  # fmt: skip
        if by_policy:
            parts = [f"{one.title}: {_cause(who, found)}" for one, who, found in by_policy]
            reason = f"The key policy does not let the vendor in ({'; '.join(parts)})."
            if caller.is_role and not answer.via:
                reason = f"The key policy neither leaves the decision to IAM nor names the vendor ({'; '.join(parts)})."
            return of_key(
                self._use, key, Verdict.BLOCKED, reason, fix="Add to the key policy:",
                statement=self._statements(key, by_policy), evidence=answer.via or None, since=key.policy_since,
            )  # fmt: skip
        if caller.unknown:  # there is no role
            return of_key(self._use, key, Verdict.BLOCKED, caller.unknown, fix="Create the role as the profile asks.")
        reason = f"The key policy leaves it to IAM, and the policies of {_who(caller)} do not allow {listed(answer.operations)}."
        return of_key(
            self._use, key, Verdict.BLOCKED, f"{reason}{f' ({answer.reason})' if answer.via else ''}",
            fix="Set this policy of the role:", statement=self._roles.policy([key.key_arn]), evidence=answer.via or None,
        )  # fmt: skip

    def _unsure(self, key: KeyRow, unsure: Sequence[Answered]) -> Check:
        _, caller, answer = unsure[0]
        through = f"statement {answer.via}" if answer.via else "the key policy"
        if answer.outcome is Outcome.NARROWED:
            only = f"{through[0].upper()}{through[1:]} lets {_who(caller)} in only for calls with {answer.reason}"
            reason = f"{only}: whether the vendor's calls carry that is not known."
            return self._unknown(key, reason, "Ask the vendor, or take the condition out.")
        reason = f"Whether {_who(caller)} can do {listed(answer.operations)} is not known: {answer.reason}."
        return self._unknown(key, reason, "Let the crawl read IAM (crawl.iam: true)." if caller.unknown else "")

    def _over(self, key: KeyRow, policy: Policy, result: Result) -> Check | None:
        by_caller: dict[str, list[tuple[Need, Caller]]] = {}
        for need, caller, _ in result.answers:
            if need.iam or not caller.is_role:  # what other roles may do is not judged
                by_caller.setdefault(caller.principal, []).append((need, caller))
        for needs in by_caller.values():
            more, who = self._needs.more(key, policy, needs), _who(needs[0][1])
            if more.outcome is Outcome.MET:
                continue
            extra = listed(more.operations)
            reason = f"{who} can do more than the profile asks: {extra}, through statement {more.via}."
            if more.outcome is Outcome.NARROWED:
                reason = f"{who} can do {extra} also where it is not so that {more.reason} (statement {more.via})."
            statement = self._statements(key, [(need, caller, more) for need, caller in needs])
            if needs[0][1].is_role and self._roles.role is not None:
                statement = self._roles.policy([key.key_arn]) or statement
            return of_key(
                self._use, key, Verdict.OVER_SHARED, reason, fix="Leave the vendor only this:", statement=statement,
                evidence=more.via, since=key.policy_since,
            )  # fmt: skip
        if not self._use.profile.keys.dedicated:
            return None
        others = self._needs.outsiders(key, policy, {caller.account for _, caller, _ in result.answers})
        if not others:
            return None
        return of_key(
            self._use, key, Verdict.OVER_SHARED, f"Others than the vendor can use the key. {' '.join(others[:3])}",
            fix="Give the vendor a key of its own, or take the others out.", since=key.policy_since,
        )  # fmt: skip

    def _shared_until(self, key: KeyRow) -> dt.datetime | None:
        """When the run began that saw the policy change away from one under which all was allowed."""
        for version in self._facts.earlier_policies(key.key_arn):
            result = self._needs.result(key, self._facts.policy(version.policy_hash), version.policy_hash)
            if not result.of(Outcome.REFUSED) and not result.of(Outcome.UNKNOWN):
                return version.ended_at
        return None

    def _statements(self, key: KeyRow, needs: Sequence[Answered]) -> str:
        parts = []
        for need, caller, _ in needs:
            across = caller.account != key.account_id and need.statement_across is not None
            more = {
                "key_account": key.account_id,
                "key_arn": key.key_arn,
                "key_region": key.region,
                "role_arn": caller.principal,
            }
            written = need.statement_across if across else need.statement
            parts.append(self._use.json(written, {**more, "partition": key.key_arn.split(":")[1]}))
        return ",\n".join(dict.fromkeys(parts))

    def _unknown(self, key: KeyRow, reason: str, fix: str = "") -> Check:
        return of_key(self._use, key, Verdict.UNKNOWN, reason, fix=fix)


def _who(caller: Caller) -> str:
    return (
        f"role {caller.principal.rpartition('/')[2]} of account {caller.account}"
        if caller.is_role
        else f"account {caller.account}"
    )


def _cause(caller: Caller, answer: Answer) -> str:
    stopped = f", which statement {answer.via} denies" if answer.via else ""
    return f"{_who(caller)} lacks {listed(answer.operations)}{stopped}"


def _same(value: str, mode: TagMode) -> bool:
    return value == mode.value or (mode.letter_case == "ignored" and value.casefold() == mode.value.casefold())


def _lost(since: dt.datetime | None, scenario: Scenario) -> dt.datetime | None:
    return since + dt.timedelta(days=scenario.days) if since and scenario.days else None
