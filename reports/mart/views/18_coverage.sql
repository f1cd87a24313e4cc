-- What the run read, and what it could not read and why: a row per account-region, and a row per open gap.
--! stored
--: run_id | The run.
--: account_id | The account.
--: account_name | Its name.
--: region | The region; global for services without regions, * for an account that was not crawled at all.
--: service | The service that was called; NULL in the row of an account-region.
--: operation | The operation that was called; NULL in the row of an account-region.
--: action | The IAM action that the operation requires.
--: subject | The ARN or name in the request; empty if a whole listing is missing.
--: key_arn | The subject, if it is a key.
--: outcome | complete, partial, failed, excluded, suspended, left, disabled or not_in_run (never read); gap in the row of an open gap.
--: cause | The cause, as a code.
--: cause_text | The cause in words.
--: code | The error code from AWS.
--: message | The error message from AWS.
--: since_run | The first run of the current uninterrupted streak.
--: since | When that run began.
--: consecutive_runs | The number of runs in the streak; runs that were limited to others are not counted.
--: read_run_id | The run that the outcome is from: an earlier one if this run was limited to others; NULL in the row of a gap.
WITH past AS (
  SELECT account_id, region, run_id, outcome FROM internal.scope_coverage WHERE run_id <= as_of_run
), latest AS (
  SELECT * FROM internal.scope_coverage WHERE run_id = as_of_run
), broken AS (
  SELECT l.account_id, l.region, max(p.run_id) AS run_id
  FROM latest l JOIN past p ON p.account_id = l.account_id AND p.region = l.region AND p.outcome <> l.outcome
  GROUP BY l.account_id, l.region
), steady AS (
  SELECT l.account_id, l.region, min(p.run_id) AS since_run
  FROM latest l
  JOIN past p USING (account_id, region)
  LEFT JOIN broken b USING (account_id, region)
  WHERE p.run_id > coalesce(b.run_id, 0)
  GROUP BY l.account_id, l.region
), carried AS (
  SELECT account_id, region, list(run_id) AS runs
  FROM internal.scope_coverage
  WHERE run_id <= as_of_run AND read_run_id IS NOT NULL
  GROUP BY account_id, region
), opened AS (
  SELECT DISTINCT account_id FROM latest WHERE region <> '*'
), every AS (
  SELECT l.account_id, l.region, NULL AS service, NULL AS operation, NULL AS action, NULL AS subject, l.outcome,
    NULL AS cause, l.reason AS cause_text, NULL AS code, NULL AS message, s.since_run, coalesce(l.read_run_id, l.run_id) AS read_run_id
  FROM latest l LEFT JOIN steady s USING (account_id, region)
  UNION ALL
  SELECT n.account_id, n.region, NULL, NULL, NULL, NULL, n.selection, NULL,
    CASE n.selection WHEN 'excluded' THEN 'excluded by the configuration' ELSE 'the region is not enabled in the account' END,
    NULL, NULL, n.valid_from, as_of_run
  FROM internal.account_region n
  JOIN opened o ON o.account_id = n.account_id
  LEFT JOIN latest l ON l.account_id = n.account_id AND l.region = n.region
  WHERE internal.known(n.valid_from, n.valid_to, as_of_run) AND n.selection <> 'crawled' AND l.region IS NULL
  UNION ALL
  SELECT g.account_id, g.region, g.service, g.operation, g.action, g.subject, 'gap', g.cause, z.text, g.code,
    g.message, g.valid_from, NULL
  FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
  UNION ALL
  SELECT split_part(u.key_arn, ':', 5), split_part(u.key_arn, ':', 4), 'kms', 'GetKeyLastUsage', u.action, u.key_arn, 'gap',
    u.cause, z.text, u.code, u.message, u.valid_from, NULL
  FROM internal.key_last_use_gap u LEFT JOIN internal.gap_cause z ON z.cause = u.cause
  WHERE internal.known(u.valid_from, u.valid_to, as_of_run)
), counted AS (
  SELECT run_id, started_at, row_number() OVER (ORDER BY run_id) AS nth FROM internal.run
)
SELECT CAST(as_of_run AS INTEGER) AS run_id, e.account_id, c.name AS account_name, e.region, e.service, e.operation, e.action, e.subject,
  CASE WHEN e.service = 'kms' AND e.subject LIKE 'arn:%:key/%' THEN e.subject END AS key_arn,
  e.outcome, e.cause, e.cause_text, e.code, e.message, e.since_run, r.started_at AS since,
  now_run.nth - r.nth + 1 - coalesce(len(list_filter(k.runs, lambda run: run >= e.since_run)), 0) AS consecutive_runs,
  CAST(e.read_run_id AS INTEGER) AS read_run_id
FROM every e
LEFT JOIN internal.account c ON c.account_id = e.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN carried k ON k.account_id = e.account_id AND k.region = e.region
LEFT JOIN counted r ON r.run_id = e.since_run
LEFT JOIN counted now_run ON now_run.run_id = as_of_run
