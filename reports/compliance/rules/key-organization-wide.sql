-- id: key-organization-wide
-- title: No key policy lets in every account of the organization
-- severity: low
-- family: access
-- why: >-
--   With the organization as the only condition, every account that joins it, sandboxes and acquired ones included,
--   can use the key as soon as somebody in it is given kms permissions. One careless account is then enough to reach
--   the data.
-- fix: >-
--   A statement for everyone is narrowed by aws:PrincipalOrgID only. Name the accounts that need the key, narrow by
--   organizational unit (aws:PrincipalOrgPaths), or by role (aws:PrincipalArn). If the key is meant for all, such as
--   one for shared images, waive the finding with that reason.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; name
--   the accounts, or add aws:PrincipalOrgPaths or aws:PrincipalArn to the condition.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): add a condition on aws:PrincipalOrgPaths
--   or aws:PrincipalArn beside aws:PrincipalOrgID.
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
  WHERE path = 'policy' AND access = 'organization' AND principal_account IS NULL
    AND NOT regexp_matches(scope, 'only (as|from organization path|principals with the tag) ')
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
    WHEN u.key_arn IS NOT NULL THEN 'It is not known whether the whole organization can use the key: ' || u.reason
      || '.'
    WHEN NOT k.policy_known
      THEN 'It is not known whether the whole organization can use the key: the policy was not read.'
    ELSE 'The policy does not let in every account of the organization.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
