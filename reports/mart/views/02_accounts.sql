-- The accounts of the organization, crawled or not.
--! stored
--: account_id | The account ID: 12 digits, as text.
--: name | Its name in the organization or the settings.
--: email | The email address of its root user.
--: state | The state in AWS Organizations: ACTIVE, SUSPENDED ...; LEFT if it is no longer in the organization.
--: ou_path | Names of its organizational units, from the root down.
--: ou_ids | Their IDs.
--: joined_at | When it joined the organization.
--: is_management | Whether it is the management account.
--: selection | crawled, or the reason why it is not crawled.
--: coverage | The result of the run: complete, partial, failed, excluded, suspended, left or not_crawled.
--: since | When this version of its facts was first seen.
WITH outcome AS (
  SELECT account_id, bool_or(outcome IN ('complete', 'partial')) AS seen, bool_or(outcome = 'failed') AS failed,
    bool_or(outcome = 'partial') AS partial, bool_or(outcome = 'complete') AS complete,
    bool_or(outcome = 'suspended') AS suspended, bool_or(outcome = 'left') AS gone, bool_or(outcome = 'excluded') AS excluded
  FROM internal.scope_coverage
  WHERE run_id = as_of_run
  GROUP BY account_id
)
SELECT a.account_id, a.name, a.email, a.state, a.ou_path, a.ou_ids, a.joined_at, a.is_management, a.selection,
  CASE
    WHEN o.account_id IS NULL THEN CASE WHEN a.selection IN ('excluded', 'suspended', 'left') THEN a.selection
      ELSE 'not_crawled' END
    WHEN o.failed THEN CASE WHEN o.seen THEN 'partial' ELSE 'failed' END
    WHEN o.partial THEN 'partial'
    WHEN o.complete THEN 'complete'
    WHEN o.suspended THEN 'suspended'
    WHEN o.gone THEN 'left'
    WHEN o.excluded THEN 'excluded'
    ELSE 'not_crawled'
  END AS coverage,
  r.started_at AS since
FROM internal.account a
LEFT JOIN outcome o USING (account_id)
LEFT JOIN internal.run r ON r.run_id = a.valid_from
WHERE internal.known(a.valid_from, a.valid_to, as_of_run)
