-- id: secret-cross-account-managed-key
-- title: Secrets that are shared with other accounts have a key that can be shared
-- severity: medium
-- family: secrets
-- why: >-
--   The AWS managed key of Secrets Manager cannot be used from another account, and its policy cannot be changed. A
--   secret that is shared while it is under that key looks shared, but every read from the other account is refused.
-- fix: >-
--   Create a customer managed key whose policy lets the other account use kms:Decrypt, put the secret under it, and
--   give the readers in the other account both secretsmanager:GetSecretValue and kms:Decrypt. If nobody noticed that it
--   does not work, take the sharing out of the policy instead.
-- console: >-
--   In Secrets Manager open the secret, choose "Actions", "Edit encryption key", and choose the customer managed key by
--   its ARN.
-- cli: >-
--   aws secretsmanager update-secret --secret-id SECRET_ARN --kms-key-id KEY_ARN
-- terraform: >-
--   In the resource aws_secretsmanager_secret set kms_key_id = aws_kms_key.NAME.arn, with a policy in the aws_kms_key
--   that names the other account.
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
), used AS (
  SELECT * FROM key_usage
  WHERE resource_type = 'AWS::SecretsManager::Secret'
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT
  s.resource_arn, s.account_id, s.region, u.key_arn AS key_arn,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN 'not_applicable'
    WHEN s.policy_known IS NULL THEN 'unknown'
    WHEN s.policy_known = 'no' THEN 'unknown'
    WHEN s.has_policy AND s.readable IS NOT TRUE THEN 'unknown'
    WHEN NOT (s.everyone OR s.some OR s.unclear OR s.ours OR s.parties OR s.outside) THEN 'not_applicable'
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled') THEN 'unknown'
    WHEN u.key_class = 'aws_managed' AND NOT (s.everyone OR s.ours OR s.parties OR s.outside) THEN 'unknown'
    WHEN u.key_class = 'aws_managed' THEN 'fail'
    WHEN u.key_class = 'dangling' THEN 'fail'
    WHEN u.key_class = 'customer' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN 'The secret is about to be deleted: nobody can read it.'
    WHEN s.policy_known IS NULL THEN 'Its resource policy was not read.'
    WHEN s.policy_known = 'no'
      THEN 'Its resource policy could not be read' || coalesce(': ' || s.policy_reason, '') || '.'
    WHEN s.has_policy AND s.readable IS NOT TRUE THEN 'Its resource policy has parts that could not be understood.'
    WHEN NOT (s.everyone OR s.some OR s.unclear OR s.ours OR s.parties OR s.outside)
      THEN 'It is not shared with another account.'
    WHEN u.key_class IS NULL OR u.key_class IN ('unknown', 'not_crawled')
      THEN 'It is shared, and its key is not known: ' || coalesce(u.reason, 'the crawl has no answer for it') || '.'
    WHEN u.key_class = 'aws_managed' AND NOT (s.everyone OR s.ours OR s.parties OR s.outside)
      THEN 'It is under an AWS managed key, and it is not known whether it is shared with another account.'
    WHEN u.key_class = 'aws_managed' THEN 'It is shared (' || concat_ws(', ', CASE WHEN s.everyone
      THEN 'everyone' END, s.our_names, s.party_names, s.outside_names)
      || '), but the AWS managed key ' || coalesce(u.key_alias, u.raw, 'of the service')
        || ' encrypts it: no other account can read it.'
    WHEN u.key_class = 'dangling'
      THEN 'It is shared, but its key ' || coalesce(u.key_alias, u.key_arn, u.raw, '') || ' no longer exists.'
    WHEN u.key_class = 'customer'
      THEN 'It is shared, and the customer managed key ' || coalesce(u.key_alias, u.key_arn, '') || ' encrypts it.'
    ELSE 'Its key is of class ' || u.key_class || ', which this rule does not know.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM secret s
LEFT JOIN used u ON u.resource_arn = s.resource_arn
WHERE s.resource_type IN ('AWS::SecretsManager::Secret')
