-- id: key-policy-public
-- title: No key policy lets everyone in
-- severity: critical
-- family: access
-- why: >-
--   A statement for everyone that nothing narrows lets any AWS account in the world use the key: the outsider's own
--   IAM is the only other gate. Whoever gets hold of a copy of your ciphertext, a shared snapshot or a replicated
--   object can then decrypt it.
-- fix: >-
--   A statement allows "Principal": "*" without a condition that names who may call. Name the accounts or roles
--   instead, or add the condition kms:CallerAccount or aws:PrincipalOrgID with your own value. Encryption context,
--   tags of the caller and aws:ResourceAccount narrow nothing, since callers choose them or they are always yours.
--   Look in CloudTrail for who relies on it before you close it.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   replace the star in Principal, or add the condition.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): name accounts or roles as identifiers of
--   principals in place of "*".
WITH named AS (
  -- Statements that name single principals only: whatever is not known of them, they let nobody else in.
  SELECT hash(s.key_arn, s.position) AS place
  FROM key_policy_statements s
  JOIN key_policies p ON p.key_arn = s.key_arn
  WHERE p.readable AND s.principal_kind = 'Principal' AND NOT list_contains(s.principals, '*')
    AND s.key_arn IN (SELECT key_arn FROM access_paths WHERE path = 'policy' AND access = 'unknown')
), found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT sentence))[1:3], ' ')
      || CASE WHEN count(DISTINCT sentence) > 3 THEN ' And ' || (count(DISTINCT sentence) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_access
  WHERE path = 'policy' AND access = 'public'
  GROUP BY key_arn
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM access_paths
  WHERE path = 'policy' AND access = 'unknown'
    AND (analysis_id IS NULL OR (principal = '*'
      AND (position IS NULL OR hash(key_arn, position) NOT IN (SELECT place FROM named))))
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN f.key_arn IS NULL AND (u.key_arn IS NOT NULL OR NOT k.policy_known) THEN 'unknown'
    WHEN f.key_arn IS NOT NULL THEN 'fail'
    WHEN f.key_arn IS NULL AND u.key_arn IS NULL AND k.policy_known THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN f.key_arn IS NOT NULL THEN f.sentences
    WHEN u.key_arn IS NOT NULL THEN 'It is not known whether everyone can use the key: ' || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known whether everyone can use the key: the policy was not read.'
    ELSE 'No statement of the policy lets everyone in.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
