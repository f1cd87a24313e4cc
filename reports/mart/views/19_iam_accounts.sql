-- How complete and current the IAM data of each account is.
--! stored
--: account_id | The account.
--: account_name | Its name.
--: freshness | current; stale: the run could not read it again, or the settings exclude it; partial: it was never read completely; none.
--: reason | Why it is not current, in words.
--: users | The number of users; NULL if nothing is known.
--: roles | The number of roles; NULL if nothing is known.
--: groups | The number of groups; NULL if nothing is known.
WITH confirmed AS (
  SELECT account_id, region FROM internal.scope_coverage
  WHERE run_id = as_of_run AND outcome IN ('complete', 'partial') AND region = 'global'
), missing AS (
  SELECT account_id, region, reason, outcome FROM internal.scope_coverage
  WHERE run_id = as_of_run AND outcome NOT IN ('complete', 'partial') AND region IN ('global', '*')
), denied AS (
  SELECT g.account_id, coalesce(z.text, g.cause) AS reason
  FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND g.service = 'iam'
    AND g.operation = 'GetAccountAuthorizationDetails'
), listing AS (
  SELECT account_id, max(internal.known(valid_from, valid_to, as_of_run)) AS kept_up
  FROM internal.iam_scan
  WHERE valid_from <= as_of_run
  GROUP BY account_id
), principals AS (
  SELECT account_id, count(*) FILTER (type = 'user') AS users, count(*) FILTER (type = 'role') AS roles
  FROM internal.iam_principal p
  WHERE internal.known(p.valid_from, p.valid_to, as_of_run)
  GROUP BY account_id
), groups AS (
  SELECT account_id, count(*) AS groups
  FROM internal.iam_group g
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
  GROUP BY account_id
), evaluated AS (
  SELECT a.account_id, a.name, p.users, p.roles, g.groups,
    CASE
      WHEN l.kept_up AND c.account_id IS NOT NULL AND r.account_id IS NULL THEN 'current'
      WHEN l.account_id IS NOT NULL THEN 'stale'
      WHEN p.account_id IS NOT NULL OR g.account_id IS NOT NULL THEN 'partial'
      ELSE 'none'
    END AS freshness,
    CASE
      WHEN r.reason IS NOT NULL THEN r.reason
      WHEN m.outcome IS NOT NULL THEN coalesce(m.reason, 'the account is ' || m.outcome)
      WHEN l.kept_up AND c.account_id IS NULL THEN 'IAM was not requested in this run'
      WHEN l.kept_up THEN NULL
      ELSE 'the configuration leaves it out (crawl.iam)'
    END AS reason
  FROM internal.account a
  LEFT JOIN listing l ON l.account_id = a.account_id
  LEFT JOIN confirmed c ON c.account_id = a.account_id
  LEFT JOIN (SELECT account_id, min(reason) AS reason FROM denied GROUP BY account_id) r ON r.account_id = a.account_id
  LEFT JOIN (SELECT account_id, min(reason) AS reason, min(outcome) AS outcome FROM missing GROUP BY account_id) m
    ON m.account_id = a.account_id
  LEFT JOIN principals p ON p.account_id = a.account_id
  LEFT JOIN groups g ON g.account_id = a.account_id
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run)
)
SELECT account_id, name AS account_name, freshness, CASE WHEN freshness <> 'current' THEN reason END AS reason,
  CASE WHEN freshness <> 'none' THEN coalesce(users, 0) END AS users,
  CASE WHEN freshness <> 'none' THEN coalesce(roles, 0) END AS roles,
  CASE WHEN freshness <> 'none' THEN coalesce(groups, 0) END AS groups
FROM evaluated
