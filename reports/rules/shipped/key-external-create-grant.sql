-- id: key-external-create-grant
-- title: External principals cannot pass on access to a key
-- severity: high
-- family: access
-- why: >-
--   A principal that may call CreateGrant can give access to anyone, including other accounts, without any trace in the
--   key policy. External principals should only be able to create grants through AWS services for resources such as
--   volumes, which the condition kms:GrantIsForAWSResource enforces.
-- fix: >-
--   A statement allows CreateGrant to an external principal without that condition. Move kms:CreateGrant (and
--   ListGrants, RevokeGrant) into a separate statement with Bool kms:GrantIsForAWSResource true; vendors that attach
--   encrypted volumes or copy snapshots need no more. Then review the grants they have created so far.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; add
--   the condition.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), add condition { test = "Bool", variable =
--   "kms:GrantIsForAWSResource", values = ["true"] } to the statement with kms:CreateGrant.
WITH violation AS (
  SELECT key_arn, internal.first_messages(message) AS messages
  FROM internal.key_access
  JOIN (
    SELECT key_arn, statement_index FROM key_policy_problems WHERE code = 'grant_power_without_aws_resource'
  ) p USING (key_arn, statement_index)
  WHERE path = 'policy' AND access IN ('external', 'vendor', 'public', 'public_via_service')
    AND list_contains(operations, 'kms:CreateGrant')
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail('kms:CreateGrant is not limited to the resources of AWS services. ' || v.messages)
    WHEN d.external_unknown_reason IS NULL THEN pass('External principals cannot create grants, except through AWS services.')
    ELSE unknown('Could not determine whether external principals can create grants: ' || d.external_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
