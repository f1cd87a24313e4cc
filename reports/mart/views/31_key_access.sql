-- The principals that can use each key through its key policy and grants: one row per key, principal and path. Paths that could not be evaluated are rows too.
--! internal
--: key_arn | The key.
--: key_alias | The first alias of the key.
--: account_id | The key's account.
--: account_name | That account's name.
--: region | The key's region.
--: key_state | Enabled, Disabled, PendingDeletion ...
--: access | owner_direct (needs no IAM policy), owner_delegated (IAM policies of the key's account decide), organization, vendor (a known party), external (an unknown party), public, public_via_service (anyone, through an AWS service), aws_service, deleted (the principal no longer exists) or unknown. Service and resource control policies are not evaluated; they can restrict access further.
--: principal | The principal, as the policy or grant names it; * for everyone who meets its conditions.
--: principal_account | The account of the principal.
--: party | The name of the known party, or of the account in the organization.
--: operations | The operations the principal can perform: kms:Decrypt ...
--: path | policy or grant.
--: source_id | The statement's Sid, or # and its index (from 0); or the grant ID; empty if unknown.
--: statement_index | The index of the statement in the policy, from 0.
--: conditions | The conditions in English; empty if there are none.
--: needs_iam | Whether IAM policies of the principal's own account must allow it too; not for an AWS service that acts for that account.
--: reason | Why access is unknown; empty or NULL if it is known.
--: message | The row as a sentence.
--: witness | An example of a request that is allowed, as JSON: caller, account, operation, context.
--: alternative_paths | Other paths (source_id) through which the same principal, or its whole account, has some of the same access: what remains when this path is removed. At most 8 of a kind.
--: since_run | The run since which this principal has had access, through any policy version or grant.
--: since | When that run began.
--: freshness | current, or stale: the run could not read the policy or the grants again. Unknown access is current.
WITH path AS (
  SELECT p.*, v.operations, v.message, v.witness,
    CASE WHEN starts_with(v.conditions, '{conditions}') THEN internal.grant_conditions(p.constraints) ELSE '' END AS constraints_text,
    replace(coalesce(v.conditions, ''), '{conditions}', constraints_text) AS conditions
  FROM internal.access_paths_as_of(as_of_run) p
  LEFT JOIN internal.access_verdict v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
)
SELECT p.key_arn, k.alias AS key_alias, k.account_id, k.account_name, k.region, k.state AS key_state, p.access, p.principal,
  p.principal_account, p.party, coalesce(CAST(CAST(p.operations AS JSON) AS VARCHAR[]), CAST([] AS VARCHAR[])) AS operations,
  p.path, p.source_id, p.statement_index, p.conditions,
  p.access IN ('owner_delegated', 'public', 'public_via_service') OR (p.access IN ('organization', 'vendor', 'external')
    -- A service that acts for resources of the account needs none.
    AND NOT (contains(p.principal, '.') AND NOT starts_with(p.principal, 'arn:'))
    AND NOT starts_with(p.conditions, 'through an AWS service')) AS needs_iam,
  p.reason,
  CASE
    WHEN p.message IS NULL THEN 'It is not known who can use the key through its '
      || CASE WHEN p.path = 'policy' THEN 'policy' WHEN p.source_id = '' THEN 'grants' ELSE 'grant ' || p.source_id END || ': '
      || p.reason || '.'
    ELSE replace(replace(replace(replace(replace(p.message, '{conditions}', p.constraints_text), '{grantee}', p.principal),
      '{retiring}', p.principal), ' ({party})', coalesce(' (' || p.party || ')', '')), '{grant}', p.source_id)
  END AS message,
  p.witness, p.alternative_paths, p.since_run, r.started_at AS since,
  CASE WHEN p.message IS NOT NULL AND (k.last_seen_run IS DISTINCT FROM coalesce(v.read_run_id, as_of_run)
      OR list_contains(k.denied_actions, CASE WHEN p.path = 'policy' THEN 'kms:GetKeyPolicy' ELSE 'kms:ListGrants' END))
    THEN 'stale' ELSE 'current' END AS freshness
FROM path p
JOIN keys_as_of(as_of_run) k ON k.key_arn = p.key_arn
LEFT JOIN internal.scope_coverage v ON v.run_id = as_of_run AND v.account_id = k.account_id AND v.region = k.region
LEFT JOIN internal.run r ON r.run_id = p.since_run
