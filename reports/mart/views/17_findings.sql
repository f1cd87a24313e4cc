-- The status of each problem under each rule: every failed, unknown and waived result of the run; pass and not_applicable only for
-- former problems. rule_results has the number of passes, and `kmsledger rules run RULE` lists every result of a rule.
-- Rule titles, owners and waiver dates come from the current settings.
--: rule_id | The rule.
--: title | What the rule requires.
--: severity | critical, high, medium, low or info.
--: family | The topic of the rule: state, rotation, access ...
--: status | pass, fail, unknown, not_applicable, or waived: it fails, and a waiver accepts that.
--: unwaived_status | The status without waivers.
--: resource_arn | The ARN of the resource, or account/region.
--: resource_type | The CloudFormation type name; account-region for an account in a region.
--: resource_name | Its name.
--: account_id | Its account.
--: account_name | The account's name.
--: ou_path | The organizational unit of the account: names from the root down.
--: region | Its region.
--: key_arn | The key that decides.
--: reason | The reason, as one sentence; for a waived finding, the reason of the waiver comes first.
--: owner | The owner of the resource, else of the key, else of the account (settings: owners).
--: first_failed | When the failure was first seen (start of the run); runs with an unknown status do not count as passes.
--: last_seen | When the failure was last seen (start of the run).
--: resolved_at | When it was first seen resolved (start of the run); NULL while it fails, and if it never failed.
--: reopened | How often it failed again after it was resolved.
--: age_days | Whole days from first_failed until it was resolved, or until the run.
--: since | When the current status was first seen, even if the reason was reworded later; NULL if it never was a problem.
--: waiver | The waiver that applies (see waivers).
--: waived_until | The last day on which the waiver is valid.
SELECT f.rule_id, f.title, f.severity, f.family, f.status, f.unwaived_status, f.resource_arn, f.resource_type, f.resource_name,
  f.account_id, f.account_name, f.ou_path, f.region, f.key_arn, f.reason, f.owner, l.first_failed, l.last_seen, l.resolved_at, l.reopened,
  date_diff('day', l.first_failed, coalesce(l.resolved_at, r.started_at)) AS age_days, l.since, f.waiver, f.waived_until
FROM internal.findings_without_history_as_of(as_of_run) f
LEFT JOIN finding_lifecycle_as_of(as_of_run) l ON l.rule_id = f.rule_id
  AND l.resource_arn = f.resource_arn
LEFT JOIN internal.run r ON r.run_id = as_of_run
