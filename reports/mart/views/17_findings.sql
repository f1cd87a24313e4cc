-- What the rules say of each resource that they consider. For the run that the mart was judged for these are all verdicts.
-- As of an earlier run (and in a mart that was built without judging) they are what the ledger keeps: every failure, every
-- unknown and every waived one of that night, and of passes and what does not apply only what had been a problem before.
-- How many passed then is in rule_results. Names of rules, owners and waivers' dates are those of today's settings.
--: rule_id | The rule.
--: title | What it demands.
--: severity | critical, high, medium, low or info.
--: family | What the rule is about: state, rotation, access ...
--: status | pass, fail, unknown, not_applicable, or waived: it fails, and a waiver accepts that.
--: unwaived_status | The rule's own word: what status would be without waivers.
--: resource_arn | The resource: its ARN, or account/region.
--: resource_type | CloudFormation's type name; account-region for an account in a region.
--: resource_name | Its name.
--: account_id | Its account.
--: account_name | The account's name.
--: ou_path | The organizational unit of the account: names from the root down.
--: region | Its region.
--: key_arn | The key that decided.
--: reason | Why, as one sentence; of a waiver its reason before the rule's.
--: owner | Who owns the resource, else the key, else the account (see the settings, owners).
--: first_failed | When the run began that first saw it fail; nights that could not tell do not count as passed.
--: last_seen | When the last run began that saw it fail.
--: resolved_at | When the run began that saw it resolved; empty while it fails, and for what never failed.
--: reopened | How often it failed again after it was resolved.
--: age_days | Whole days since first_failed, until it was resolved or until the run.
--: since | The run that reached this status first, however its reason was worded since; empty for what never was a problem.
--: waiver | The waiver that applies (see waivers).
--: waived_until | The last day on which that waiver holds.
SELECT f.rule_id, f.title, f.severity, f.family, f.status, f.unwaived_status, f.resource_arn, f.resource_type, f.resource_name,
  f.account_id, f.account_name, f.ou_path, f.region, f.key_arn, f.reason, f.owner, l.first_failed, l.last_seen, l.resolved_at,
  coalesce(l.reopened, 0) AS reopened,
  date_diff('day', l.first_failed, coalesce(l.resolved_at, r.started_at)) AS age_days, l.since, f.waiver, f.waived_until
FROM internal.findings_without_history_as_of(as_of_run) f
LEFT JOIN finding_lifecycle_as_of(as_of_run) l ON l.rule_id = f.rule_id
  AND l.resource_arn = CASE WHEN f.was_problem THEN f.resource_arn END
LEFT JOIN internal.run r ON r.run_id = as_of_run
