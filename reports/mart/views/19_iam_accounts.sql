-- How far the IAM of accounts is known.
--: account_id | The account.
--: account_name | Its name.
--: known | yes; last known: the run could not read it again, or is set not to; in part: it was never read whole; or no.
--: reason | Why it is not known, in words.
--: users | How many users it has; empty when nothing is known.
--: roles | How many roles it has.
--: groups | How many groups it has.
WITH confirmed AS (
  SELECT account_id, region FROM ledger.scope_run
  WHERE run_id = as_of_run AND outcome IN ('complete', 'partial') AND region = 'global'
), missing AS (
  SELECT account_id, region, reason, outcome FROM ledger.scope_run
  WHERE run_id = as_of_run AND outcome NOT IN ('complete', 'partial') AND region IN ('global', '*')
), refused AS (
  SELECT g.account_id, coalesce(z.text, g.cause) AS reason
  FROM ledger.gap g LEFT JOIN ledger.cause z ON z.cause = g.cause
  WHERE ledger.known(g.valid_from, g.valid_to, as_of_run) AND g.service = 'iam'
    AND g.operation = 'GetAccountAuthorizationDetails'
), listing AS (
  SELECT account_id, max(ledger.known(valid_from, valid_to, as_of_run)) AS kept_up
  FROM ledger.iam_listing
  WHERE valid_from <= as_of_run
  GROUP BY account_id
), principals AS (
  SELECT account_id, count(*) FILTER (type = 'user') AS users, count(*) FILTER (type = 'role') AS roles
  FROM ledger.iam_principal p
  WHERE ledger.known(p.valid_from, p.valid_to, as_of_run)
  GROUP BY account_id
), groups AS (
  SELECT account_id, count(*) AS groups
  FROM ledger.iam_group g
  WHERE ledger.known(g.valid_from, g.valid_to, as_of_run)
  GROUP BY account_id
), judged AS (
  SELECT a.account_id, a.name, p.users, p.roles, g.groups,
    CASE
      WHEN l.kept_up AND c.account_id IS NOT NULL AND r.account_id IS NULL THEN 'yes'
      WHEN l.account_id IS NOT NULL THEN 'last known'
      WHEN p.account_id IS NOT NULL OR g.account_id IS NOT NULL THEN 'in part'
      ELSE 'no'
    END AS known,
    CASE
      WHEN r.reason IS NOT NULL THEN r.reason
      WHEN m.outcome IS NOT NULL THEN coalesce(m.reason, 'the account is ' || m.outcome)
      WHEN l.kept_up AND c.account_id IS NULL THEN 'it was not asked in this run'
      WHEN l.kept_up THEN NULL
      ELSE 'the configuration leaves it out (crawl.iam)'
    END AS reason
  FROM ledger.account a
  LEFT JOIN listing l ON l.account_id = a.account_id
  LEFT JOIN confirmed c ON c.account_id = a.account_id
  LEFT JOIN (SELECT account_id, any_value(reason) AS reason FROM refused GROUP BY account_id) r ON r.account_id = a.account_id
  LEFT JOIN (SELECT account_id, any_value(reason) AS reason, any_value(outcome) AS outcome FROM missing GROUP BY account_id) m
    ON m.account_id = a.account_id
  LEFT JOIN principals p ON p.account_id = a.account_id
  LEFT JOIN groups g ON g.account_id = a.account_id
  WHERE ledger.known(a.valid_from, a.valid_to, as_of_run)
)
SELECT account_id, name AS account_name, known, CASE WHEN known <> 'yes' THEN reason END AS reason,
  CASE WHEN known <> 'no' THEN coalesce(users, 0) END AS users,
  CASE WHEN known <> 'no' THEN coalesce(roles, 0) END AS roles,
  CASE WHEN known <> 'no' THEN coalesce(groups, 0) END AS groups
FROM judged
