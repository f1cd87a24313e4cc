-- id: secret-public
-- title: No secret can be read by everyone
-- severity: critical
-- family: secrets
-- why: >-
--   A resource policy that allows everyone to read a secret hands it to any AWS account in the world. What still stands
--   in the way then is only the KMS key, and not even that if its policy is as open.
-- fix: >-
--   Replace the principal by the accounts or roles that need the secret, or narrow the statement with
--   aws:PrincipalOrgID. Treat the value as known: rotate it, and look in CloudTrail for GetSecretValue by other
--   accounts.
-- console: >-
--   In Secrets Manager open the secret, under "Resource permissions" choose "Edit permissions", name the principals and
--   leave "Block public access" ticked.
-- cli: |-
--   aws secretsmanager put-resource-policy --secret-id SECRET_ARN --resource-policy file://POLICY.json \
--     --block-public-policy
-- terraform: >-
--   In aws_secretsmanager_secret_policy name the principals in policy and set block_public_policy = true.
WITH reading AS (
  SELECT resource_arn, effect, party, coalesce(party_name, principal_account, principal) AS who,
    len(condition_keys) > 0 AS narrowed
  FROM resource_principals
  WHERE not_actions <> (len(list_filter(actions,
    lambda action: 'secretsmanager:getsecretvalue' GLOB lower(action))) > 0)
), summed AS (
  SELECT resource_arn,
    bool_or(effect = 'Deny') AS denies,
    bool_or(effect = 'Allow' AND party = 'public' AND NOT narrowed) AS everyone,
    bool_or(effect = 'Allow' AND party = 'public' AND narrowed) AS some,
    bool_or(effect = 'Allow' AND party = 'unknown') AS unclear,
    bool_or(effect = 'Allow' AND party = 'own organization') AS ours,
    bool_or(effect = 'Allow' AND party = 'known party') AS parties,
    bool_or(effect = 'Allow' AND party = 'outside account') AS outside,
    array_to_string(list_sort(list(DISTINCT who) FILTER (effect = 'Allow'
      AND party = 'own organization')), ', ') AS our_names,
    array_to_string(list_sort(list(DISTINCT who) FILTER (effect = 'Allow'
      AND party = 'known party')), ', ') AS party_names,
    array_to_string(list_sort(list(DISTINCT who) FILTER (effect = 'Allow'
      AND party = 'outside account')), ', ') AS outside_names,
    array_to_string(list_sort(list(DISTINCT who) FILTER (effect = 'Allow'
      AND party = 'unknown')), ', ') AS unclear_names
  FROM reading
  GROUP BY resource_arn
), secret AS (
  SELECT r.*, p.known AS policy_known, p.reason AS policy_reason, p.has_policy, p.readable,
    coalesce(n.denies, false) AS denies, coalesce(n.everyone, false) AS everyone, coalesce(n.some, false) AS some,
    coalesce(n.unclear, false) AS unclear, coalesce(n.ours, false) AS ours, coalesce(n.parties, false) AS parties,
    coalesce(n.outside, false) AS outside, n.our_names, n.party_names, n.outside_names, n.unclear_names
  FROM resources r
  LEFT JOIN resource_policies p ON p.resource_arn = r.resource_arn
  LEFT JOIN summed n ON n.resource_arn = r.resource_arn
  WHERE r.resource_type = 'AWS::SecretsManager::Secret'
)
SELECT
  s.resource_arn, s.account_id, s.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN 'not_applicable'
    WHEN s.policy_known IS NULL THEN 'unknown'
    WHEN s.policy_known = 'no' THEN 'unknown'
    WHEN s.has_policy AND s.readable IS NOT TRUE THEN 'unknown'
    WHEN s.everyone AND s.denies THEN 'unknown'
    WHEN NOT s.everyone AND s.some THEN 'unknown'
    WHEN s.everyone THEN 'fail'
    WHEN NOT s.has_policy THEN 'pass'
    WHEN NOT s.everyone AND NOT s.some THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN 'The secret is about to be deleted: nobody can read it.'
    WHEN s.policy_known IS NULL THEN 'Its resource policy was not read.'
    WHEN s.policy_known = 'no'
      THEN 'Its resource policy could not be read' || coalesce(': ' || s.policy_reason, '') || '.'
    WHEN s.has_policy AND s.readable IS NOT TRUE THEN 'Its resource policy has parts that could not be understood.'
    WHEN s.everyone AND s.denies
      THEN 'Its policy allows everyone to read it; a Deny in it takes some of that away, which is not judged here.'
    WHEN NOT s.everyone AND s.some
      THEN 'Its policy allows everyone to read it under conditions that are not judged here.'
    WHEN s.everyone THEN 'Its policy allows everyone to read it.'
    WHEN NOT s.has_policy THEN 'It has no resource policy.'
    WHEN NOT s.everyone AND NOT s.some THEN 'Its policy does not allow everyone to read it.'
    ELSE 'What its policy says is not known to this rule.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM secret s
WHERE s.resource_type IN ('AWS::SecretsManager::Secret')
