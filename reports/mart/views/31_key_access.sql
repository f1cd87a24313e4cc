-- Who can use which key, through what: one row for each key, principal and way. What could not be judged is a row, too.
--! internal
--: key_arn | The key.
--: key_alias | Its first alias.
--: account_id | The key's account.
--: account_name | That account's name.
--: region | The key's region.
--: key_state | Enabled, Disabled, PendingDeletion ...
--: access | owner_direct (needs no IAM policy), owner_delegated (IAM policies of the key's account decide), organization, vendor (a known party), external (nobody we know), public, public_via_service (anyone, through an AWS service), aws_service, deleted (nobody is left to use it) or unknown. Service and resource control policies are not looked at: they can take away more.
--: principal | Who: as the policy or grant writes it; * for everyone that its conditions let in.
--: principal_account | The account of who.
--: party | The name of a known party, or of an account of ours.
--: operations | What has an effect: kms:Decrypt ...
--: path | policy, or grant.
--: source_id | The statement's Sid or # and its position (from 0), or the grant's id; empty when it is not known.
--: statement_index | The statement's position in the policy, from 0.
--: conditions | What narrows it, in English; empty when nothing does.
--: needs_iam | Whether IAM policies of the principal's own account have to allow it as well.
--: reason | Why it is unknown; empty when it is known.
--: message | The row as a sentence.
--: witness | One concrete call that gets through, as JSON: caller, account, operation, context.
--: alternative_paths | Other ways (via) by which the same principal can do some of the same, those of its whole account included: what remains when this way is closed. At most 8 of a kind.
--: since_run | The run since which this principal has had access, through any version of the policy and any grant.
--: since | When that run began.
--: freshness | yes, or last known: something of the key could not be read in the run.
WITH path AS (
  SELECT p.*, v.operations, v.message, v.witness,
    CASE WHEN v.conditions = '{conditions}' THEN internal.grant_conditions(p.constraints) ELSE coalesce(v.conditions, '') END AS conditions
  FROM internal.access_paths_as_of(as_of_run) p
  LEFT JOIN internal.access_verdict v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
)
SELECT p.key_arn, k.alias AS key_alias, k.account_id, k.account_name, k.region, k.state AS key_state, p.access, p.principal,
  p.principal_account, p.party, coalesce(CAST(CAST(p.operations AS JSON) AS VARCHAR[]), CAST([] AS VARCHAR[])) AS operations,
  p.path, p.source_id, p.statement_index, p.conditions,
  p.access IN ('owner_delegated', 'organization', 'vendor', 'external', 'public', 'public_via_service') AS needs_iam,
  p.reason,
  CASE
    WHEN p.message IS NULL THEN 'It is not known who can use the key through its '
      || CASE WHEN p.path = 'policy' THEN 'policy' WHEN p.source_id = '' THEN 'grants' ELSE 'grant ' || p.source_id END || ': '
      || p.reason || '.'
    ELSE replace(replace(replace(replace(replace(p.message, '{conditions}', p.conditions), '{grantee}', p.principal),
      '{retiring}', p.principal), ' ({party})', coalesce(' (' || p.party || ')', '')), '{grant}', p.source_id)
  END AS message,
  p.witness, p.alternative_paths, p.since_run, r.started_at AS since, k.freshness
FROM path p
JOIN keys_as_of(as_of_run) k ON k.key_arn = p.key_arn
LEFT JOIN internal.run r ON r.run_id = p.since_run
