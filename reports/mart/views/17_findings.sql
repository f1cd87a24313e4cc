-- The status of each problem under each rule: every failed, unknown and waived result of the run; pass and not_applicable only for
-- former problems. rule_results has the number of passes, and `kmsledger rules run RULE` lists every result of a rule.
-- Rule titles, owners and waiver dates come from the current settings.
--! columns of findings_without_history
--: first_failed | When the failure was first seen (start of the run); runs with an unknown status do not count as passes.
--: last_seen | When the failure was last seen (start of the run).
--: resolved_at | When it was first seen resolved (start of the run); NULL while it fails, and if it never failed.
--: reopened | How often it failed again after it was resolved.
--: age_days | Whole days from first_failed until it was resolved, or until the run.
--: since | When the current status was first seen, even if the reason was reworded later; NULL if it never was a problem.
SELECT f.rule_id, f.title, f.severity, f.family, f.status, f.unwaived_status, f.resource_arn, f.resource_type, f.resource_name,
  f.account_id, f.account_name, f.ou_path, f.region, f.key_arn, f.reason, f.owner, l.first_failed, l.last_seen, l.resolved_at, l.reopened,
  date_diff('day', l.first_failed, coalesce(l.resolved_at, r.started_at)) AS age_days, l.since, f.waiver, f.waived_until
FROM internal.findings_without_history_as_of(as_of_run) f
LEFT JOIN finding_lifecycle_as_of(as_of_run) l ON l.rule_id = f.rule_id
  AND l.resource_arn = f.resource_arn
LEFT JOIN internal.run r ON r.run_id = as_of_run
