-- Whom the policy of each secret lets read it, from other accounts or everywhere; who in its own account reads it is for IAM to say.
--: resource_arn | The secret.
--: account_id | Its account.
--: region | Its region.
--: name | Its name.
--: deletion_at | When its deletion was asked for or is due: nobody can read it then.
--: has_policy | Whether it has a policy; empty when that is not known.
--: unjudged | Why it is not known whom its policy lets read it, as a sentence; empty when that is known.
--: denies | Whether the policy also denies reading to somebody, which is not taken off here.
--: everyone | Whether it lets everyone read, without a condition.
--: perhaps_everyone | Whether it lets everyone read, under conditions.
--: organization | The other accounts of the organization that it lets read: their names; empty (NULL) with unjudged.
--: parties | The known parties that it lets read.
--: outside | The accounts outside the organization that it lets read.
--: unclear | Those that it lets read and of whom it is not known whose they are.
--: known | yes, or last known: the run could not see the secret again.
WITH reading AS (
  SELECT resource_arn, effect, party, coalesce(party_name, principal_account, principal) AS who,
    len(condition_keys) > 0 AS narrowed
  FROM resource_principals_as_of(as_of_run)
  WHERE not_actions <> (len(list_filter(actions,
    lambda action: 'secretsmanager:getsecretvalue' GLOB lower(action))) > 0)
), readers AS (
  SELECT resource_arn,
    bool_or(effect = 'Deny') AS denies,
    bool_or(effect = 'Allow' AND party = 'public' AND NOT narrowed) AS everyone,
    bool_or(effect = 'Allow' AND party = 'public' AND narrowed) AS perhaps_everyone,
    list_sort(list(DISTINCT who) FILTER (effect = 'Allow' AND party = 'own organization')) AS organization,
    list_sort(list(DISTINCT who) FILTER (effect = 'Allow' AND party = 'known party')) AS parties,
    list_sort(list(DISTINCT who) FILTER (effect = 'Allow' AND party = 'outside account')) AS outside,
    list_sort(list(DISTINCT who) FILTER (effect = 'Allow' AND party = 'unknown')) AS unclear
  FROM reading
  GROUP BY resource_arn
), secret AS (
  SELECT s.resource_arn, s.account_id, s.region, s.name, s.deletion_at, s.known, p.has_policy,
    CASE
      WHEN p.known IS NULL THEN 'Its resource policy was not read.'
      WHEN p.known = 'no' THEN 'Its resource policy could not be read' || coalesce(': ' || p.reason, '') || '.'
      WHEN p.has_policy AND p.readable IS NOT TRUE THEN 'Its resource policy has parts that could not be understood.'
    END AS unjudged
  FROM resources_as_of(as_of_run) s
  LEFT JOIN resource_policies_as_of(as_of_run) p ON p.resource_arn = s.resource_arn
  WHERE s.resource_type = 'AWS::SecretsManager::Secret'
)
SELECT s.resource_arn, s.account_id, s.region, s.name, s.deletion_at, s.has_policy, s.unjudged,
  CASE WHEN s.unjudged IS NULL THEN coalesce(r.denies, false) END AS denies,
  CASE WHEN s.unjudged IS NULL THEN coalesce(r.everyone, false) END AS everyone,
  CASE WHEN s.unjudged IS NULL THEN coalesce(r.perhaps_everyone, false) END AS perhaps_everyone,
  CASE WHEN s.unjudged IS NULL THEN coalesce(r.organization, CAST([] AS VARCHAR[])) END AS organization,
  CASE WHEN s.unjudged IS NULL THEN coalesce(r.parties, CAST([] AS VARCHAR[])) END AS parties,
  CASE WHEN s.unjudged IS NULL THEN coalesce(r.outside, CAST([] AS VARCHAR[])) END AS outside,
  CASE WHEN s.unjudged IS NULL THEN coalesce(r.unclear, CAST([] AS VARCHAR[])) END AS unclear,
  s.known
FROM secret s
LEFT JOIN readers r ON r.resource_arn = s.resource_arn
