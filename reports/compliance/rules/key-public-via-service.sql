-- id: key-public-via-service
-- title: No key policy lets everyone in through an AWS service
-- severity: high
-- family: access
-- why: >-
--   kms:ViaService says by which road a call comes, not who sends it. A statement for everyone with that condition
--   alone lets principals of any account use the key, as long as they go through the named service; other scanners
--   often pass it.
-- fix: >-
--   A statement for "*" has kms:ViaService and nothing that names the caller. Add kms:CallerAccount with your account
--   id (or aws:PrincipalOrgID with your organization) to the same statement: AWS managed keys are written that way.
--   Calls of your own accounts go on unchanged.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; add
--   the condition kms:CallerAccount beside kms:ViaService.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): add condition { test = "StringEquals",
--   variable = "kms:CallerAccount", values = ["ACCOUNT"] } to the statement.
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
  WHERE path = 'policy' AND access = 'public_via_service'
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
    WHEN u.key_arn IS NOT NULL THEN 'It is not known whether everyone can use the key through a service: ' || u.reason
      || '.'
    WHEN NOT k.policy_known
      THEN 'It is not known whether everyone can use the key through a service: the policy was not read.'
    ELSE 'No statement of the policy lets everyone in through a service.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
