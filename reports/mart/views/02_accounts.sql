-- The accounts of the organization, crawled or not.
--! stored
--: account_id | 12 digits, as text.
--: name | Its name in the organization or the settings.
--: email | Its root user's mail address.
--: state | AWS's state: ACTIVE, SUSPENDED ...; LEFT when it is no longer in the organization.
--: ou_path | Names of the organizational units from the root down.
--: ou_ids | Their ids.
--: joined_at | When it joined the organization.
--: is_management | Whether it is the management account.
--: selection | crawled, or why it is not.
--: coverage | What the run achieved: complete, partial, failed, excluded, suspended, left or not crawled.
--: since | When this version of its facts was first seen.
WITH outcome AS (
  SELECT account_id, list_distinct(list(outcome)) AS outcomes, bool_or(outcome IN ('complete', 'partial')) AS seen
  FROM ledger.scope_run
  WHERE run_id = as_of_run
  GROUP BY account_id
)
SELECT a.account_id, a.name, a.email, a.state, a.ou_path, a.ou_ids, a.joined_at, a.is_management, a.selection,
  CASE
    WHEN o.account_id IS NULL THEN CASE WHEN a.selection IN ('excluded', 'suspended', 'left') THEN a.selection
      ELSE 'not crawled' END
    WHEN list_contains(o.outcomes, 'failed') THEN CASE WHEN o.seen THEN 'partial' ELSE 'failed' END
    WHEN list_contains(o.outcomes, 'partial') THEN 'partial'
    WHEN list_contains(o.outcomes, 'complete') THEN 'complete'
    WHEN list_contains(o.outcomes, 'suspended') THEN 'suspended'
    WHEN list_contains(o.outcomes, 'left') THEN 'left'
    WHEN list_contains(o.outcomes, 'excluded') THEN 'excluded'
    ELSE 'not crawled'
  END AS coverage,
  r.started_at AS since
FROM ledger.account a
LEFT JOIN outcome o USING (account_id)
LEFT JOIN ledger.run r ON r.run_id = a.valid_from
WHERE ledger.known(a.valid_from, a.valid_to, as_of_run)
