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
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM internal.key_access
  JOIN (
    SELECT key_arn, statement_index FROM key_policy_problems WHERE code = 'grant_power_without_aws_resource'
  ) p USING (key_arn, statement_index)
  WHERE path = 'policy' AND access IN ('external', 'vendor', 'public', 'public_via_service')
    AND list_contains(operations, 'kms:CreateGrant')
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.external_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known whether somebody outside can create grants: ' || d.external_unknown_reason || '.',
    'Nobody outside can create grants but through AWS services.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
