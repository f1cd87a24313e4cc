-- Whom the policy of each secret lets read it, from other accounts or everywhere; who in its own account reads it is for IAM to say.
--! internal
--: resource_arn | The secret.
--: account_id | Its account.
--: region | Its region.
--: name | Its name.
--: deletion_at | When its deletion was asked for or is due: nobody can read it then.
--: has_policy | Whether it has a policy; empty when that is not known.
--: unevaluated_reason | Why it is not known whom its policy lets read it, as a sentence; empty when that is known.
--: denies | Whether the policy also denies reading to somebody, which is not taken off here.
--: is_public | Whether it lets everyone read, without a condition.
--: possibly_public | Whether it lets everyone read, under conditions.
--: organization | The other accounts of the organization that it lets read: their names; empty (NULL) with unjudged.
--: parties | The known parties that it lets read.
--: external | The accounts outside the organization that it lets read.
--: unknown | Those that it lets read and of whom it is not known whose they are.
--: freshness | yes, or last known: the run could not see the secret again.
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
  SELECT s.resource_arn, s.account_id, s.region, s.name, s.deletion_at, s.freshness, p.has_policy,
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
