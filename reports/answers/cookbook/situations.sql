-- title: What needs attention, by root cause
-- topic: findings
-- question: >-
--   Which situations need attention, most urgent first, and what do they affect?
-- answer: >-
--   One row per situation, in the order of the report: the nearest deadline first, then by severity and by the number of
--   affected resources. situation_findings has the findings behind each.
SELECT CAST(deadline AS DATE) AS deadline, severity, kind, coalesce(key_alias, key_arn, cause) AS cause, key_state, affected, names,
  parties, rule_id, account_ids, account_name, region, owners, failed, unknown, situation_id
FROM situations
ORDER BY situations.deadline NULLS LAST, internal.severity_rank(severity), affected DESC, situation_id
