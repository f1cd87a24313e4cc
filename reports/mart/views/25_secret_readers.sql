-- The external readers that the policy of each secret allows: other accounts, or everyone. Readers in its own account depend on IAM policies.
--! internal
--! stored
--: resource_arn | The secret.
--: account_id | Its account.
--: region | Its region.
--: name | Its name.
--: deletion_at | When its deletion was requested or is due; nobody can read it then.
--: has_policy | Whether it has a policy; NULL if unknown.
--: unevaluated_reason | Why the readers could not be determined, as a sentence; NULL if they are known.
--: denies | Whether the policy also denies reading to somebody; denied readers are not subtracted here.
--: is_public | Whether it allows everyone to read, without a condition.
--: possibly_public | Whether it allows everyone to read, under conditions.
--: organization | The names of the other accounts of the organization that may read it; NULL if there is an unevaluated_reason.
--: parties | The known parties that may read it.
--: external | The accounts outside the organization that may read it.
--: unknown | The readers whose party is unknown.
--: freshness | current, or stale: the run could not read the secret or its policy again.
WITH reading AS (
  SELECT resource_arn, effect, party, coalesce(party_name, principal_account, principal) AS who,
    len(condition_keys) > 0 AS narrowed
  FROM resource_principals_as_of(as_of_run)
  WHERE not_actions <> (len(list_filter(actions,
    lambda action: 'secretsmanager:getsecretvalue' GLOB lower(action))) > 0)
), readers AS (
  SELECT resource_arn,
    bool_or(effect = 'Deny') AS denies,
    bool_or(effect = 'Allow' AND party = 'public' AND NOT narrowed) AS is_public,
    bool_or(effect = 'Allow' AND party = 'public' AND narrowed) AS possibly_public,
    list_sort(list(DISTINCT who) FILTER (effect = 'Allow' AND party = 'own_organization')) AS organization,
    list_sort(list(DISTINCT who) FILTER (effect = 'Allow' AND party = 'known_party')) AS parties,
    list_sort(list(DISTINCT who) FILTER (effect = 'Allow' AND party = 'external_account')) AS external,
    list_sort(list(DISTINCT who) FILTER (effect = 'Allow' AND party = 'unknown')) AS unknown
  FROM reading
  GROUP BY resource_arn
), secret AS (
  SELECT s.resource_arn, s.account_id, s.region, s.name, s.deletion_at,
    CASE WHEN s.freshness = 'stale' OR p.freshness = 'stale' THEN 'stale' ELSE 'current' END AS freshness, p.has_policy,
    CASE
      WHEN p.freshness IS NULL THEN 'Its resource policy was not read.'
      WHEN p.freshness = 'none' THEN 'Its resource policy could not be read' || coalesce(': ' || p.reason, '') || '.'
      WHEN p.has_policy AND p.readable IS NOT TRUE THEN 'Its resource policy has parts that could not be understood.'
    END AS unevaluated_reason
  FROM resources_as_of(as_of_run) s
  LEFT JOIN resource_policies_as_of(as_of_run) p ON p.resource_arn = s.resource_arn
  WHERE s.resource_type = 'AWS::SecretsManager::Secret'
)
SELECT s.resource_arn, s.account_id, s.region, s.name, s.deletion_at, s.has_policy, s.unevaluated_reason,
  CASE WHEN s.unevaluated_reason IS NULL THEN coalesce(r.denies, false) END AS denies,
  CASE WHEN s.unevaluated_reason IS NULL THEN coalesce(r.is_public, false) END AS is_public,
  CASE WHEN s.unevaluated_reason IS NULL THEN coalesce(r.possibly_public, false) END AS possibly_public,
  CASE WHEN s.unevaluated_reason IS NULL THEN coalesce(r.organization, CAST([] AS VARCHAR[])) END AS organization,
  CASE WHEN s.unevaluated_reason IS NULL THEN coalesce(r.parties, CAST([] AS VARCHAR[])) END AS parties,
  CASE WHEN s.unevaluated_reason IS NULL THEN coalesce(r.external, CAST([] AS VARCHAR[])) END AS external,
  CASE WHEN s.unevaluated_reason IS NULL THEN coalesce(r.unknown, CAST([] AS VARCHAR[])) END AS unknown,
  s.freshness
FROM secret s
LEFT JOIN readers r ON r.resource_arn = s.resource_arn
