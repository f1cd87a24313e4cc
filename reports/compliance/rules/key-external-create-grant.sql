-- id: key-external-create-grant
-- title: Nobody outside can pass access to a key on
-- severity: high
-- family: access
-- why: >-
--   Who may call CreateGrant can hand the key to anyone, his own and other accounts included, and that does not show
--   in the key policy. From outside the organization it should only be possible through AWS services, for resources
--   such as volumes, which the condition kms:GrantIsForAWSResource demands.
-- fix: >-
--   A statement allows CreateGrant to somebody outside without that condition. Move kms:CreateGrant (and ListGrants,
--   RevokeGrant) into a statement of its own with Bool kms:GrantIsForAWSResource true; vendors that attach encrypted
--   volumes or copy snapshots need no more. Then look through the grants that they have made so far.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; add
--   the condition.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): add condition { test = "Bool", variable
--   = "kms:GrantIsForAWSResource", values = ["true"] } to the statement with kms:CreateGrant.
WITH ours AS (
  -- Statements that name accounts of ours only: whatever is not known of them, they let nobody else in.
  SELECT hash(n.key_arn, s.position) AS place
  FROM key_principals n
  JOIN key_policy_statements s ON s.key_arn = n.key_arn AND coalesce(s.sid, '#' || s.position) = n.source_id
  JOIN key_policies p ON p.key_arn = n.key_arn AND p.readable
  WHERE n.source = 'policy'
    AND n.key_arn IN (SELECT key_arn FROM access_paths WHERE path = 'policy' AND access = 'unknown')
  GROUP BY n.key_arn, s.position
  HAVING bool_and(n.party IN ('own account', 'own organization', 'aws service', 'deleted principal')
    AND n.principal <> '*')
), found AS (
  SELECT a.key_arn, array_to_string(list_sort(list(DISTINCT a.sentence))[1:3], ' ')
      || CASE WHEN count(DISTINCT a.sentence) > 3 THEN ' And ' || (count(DISTINCT a.sentence) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_access a
  JOIN key_policy_problems p ON p.key_arn = a.key_arn AND p.position = a.position
    AND p.code = 'grant_power_without_aws_resource'
  WHERE a.path = 'policy' AND a.access IN ('external', 'vendor', 'public', 'public_via_service')
    AND list_contains(a.operations, 'kms:CreateGrant')
  GROUP BY a.key_arn
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM access_paths
  WHERE path = 'policy' AND access = 'unknown'
    AND (analysis_id IS NULL OR (principal = '*' AND (position IS NULL OR hash(key_arn,
      position) NOT IN (SELECT place FROM ours)))
      OR (principal <> '*' AND coalesce(principal_account, regexp_extract(principal,
        '^arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):', 1))
        NOT IN (SELECT account_id FROM accounts WHERE state IS DISTINCT FROM 'LEFT')))
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
    WHEN u.key_arn IS NOT NULL THEN 'It is not known whether somebody outside can create grants: ' || u.reason || '.'
    WHEN NOT k.policy_known
      THEN 'It is not known whether somebody outside can create grants: the policy was not read.'
    ELSE 'Nobody outside can create grants but through AWS services.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
