-- The account-regions that the run did not read completely: what is unknown, why, and for how many runs.
--: account_id | The account.
--: account_name | Its name.
--: region | The region; global for services without regions, * for an account that could not be entered.
--: outcome | failed (nothing was read), partial, or complete if only the last use of keys is unknown.
--: gaps | The calls without an answer.
--: actions | Their IAM actions.
--: causes | Their causes in words, or the reason why nothing was read.
--: since_run | The first of the runs in a row that did not read it completely.
--: since | When that run began.
--: consecutive_runs | The number of these runs; runs that did not reach the account-region are not counted.
--: read_run_id | The run that failed to read it: an earlier one if this run was limited to others.
WITH gap AS (
  SELECT account_id, region, count(*) AS gaps, list_sort(list(DISTINCT action)) AS actions,
    list_sort(list(DISTINCT coalesce(cause_text, cause))) AS causes, min(since_run) AS since_run, max(consecutive_runs) AS runs
  FROM coverage_as_of(as_of_run)
  WHERE outcome = 'gap'
  GROUP BY account_id, region
), incomplete AS (
  SELECT c.account_id, c.account_name, c.region, c.outcome, c.cause_text, coalesce(g.gaps, 0) AS gaps,
    coalesce(g.actions, []) AS actions, g.causes, g.since_run, g.runs, c.read_run_id
  FROM coverage_as_of(as_of_run) c
  LEFT JOIN gap g USING (account_id, region)
  WHERE internal.in_scope(c.outcome) AND (c.outcome <> 'complete' OR g.gaps > 0)
), past AS (
  SELECT account_id, region, run_id, outcome
  FROM internal.scope_coverage SEMI JOIN incomplete USING (account_id)
  WHERE run_id <= as_of_run AND read_run_id IS NULL AND internal.in_scope(outcome)
), intact AS (
  -- The last run that did better. An account was entered if any of its regions was read.
  SELECT account_id, region, max(run_id) AS run_id FROM past WHERE outcome = 'complete' AND region <> '*' GROUP BY account_id, region
  UNION ALL
  SELECT account_id, '*', max(run_id) FROM past WHERE outcome <> 'failed' AND region <> '*' GROUP BY account_id
), worse AS (
  SELECT account_id, region, run_id FROM past WHERE outcome <> 'complete'
  UNION
  SELECT i.account_id, i.region, p.run_id FROM incomplete i JOIN past p ON p.account_id = i.account_id AND p.region = '*'
), streak AS (
  SELECT account_id, region, min(w.run_id) AS since_run, count(*) AS runs
  FROM incomplete i
  JOIN worse w USING (account_id, region)
  LEFT JOIN intact t USING (account_id, region)
  -- The organization has coverage only if it has gaps, and an unknown last use does not make an account-region partial: the
  -- age of their gaps is the answer.
  WHERE i.outcome <> 'complete' AND region <> 'organization' AND w.run_id > coalesce(t.run_id, 0)
  GROUP BY account_id, region
)
SELECT i.account_id, i.account_name, i.region, i.outcome, i.gaps, i.actions,
  coalesce(i.causes, [coalesce(i.cause_text, 'no reason recorded')]) AS causes,
  coalesce(s.since_run, i.since_run) AS since_run, r.started_at AS since,
  coalesce(s.runs, i.runs) AS consecutive_runs, i.read_run_id
FROM incomplete i
LEFT JOIN streak s USING (account_id, region)
LEFT JOIN internal.run r ON r.run_id = coalesce(s.since_run, i.since_run)
