-- id: key-public-via-service
-- title: No key policy allows everyone through an AWS service
-- severity: high
-- family: access
-- why: >-
--   kms:ViaService restricts the service that forwards a call, not the caller. A statement for everyone with only that
--   condition lets principals of any account use the key, as long as they go through the named service. Other scanners
--   often miss this.
-- fix: >-
--   A statement for "*" has kms:ViaService but no condition that restricts the caller. Add kms:CallerAccount with your
--   account ID (or aws:PrincipalOrgID with your organization) to the same statement, as AWS managed keys do. Calls from
--   your own accounts are not affected.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; add the
--   condition kms:CallerAccount next to kms:ViaService.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), add condition { test = "StringEquals", variable =
--   "kms:CallerAccount", values = ["ACCOUNT"] } to the statement.
WITH violation AS (
  SELECT key_arn, internal.first_messages(message) AS messages
  FROM internal.key_access
  WHERE path = 'policy' AND access = 'public_via_service'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.everyone_unknown_reason IS NULL THEN pass('No statement of the policy allows everyone through a service.')
    ELSE unknown('Could not determine whether everyone can use the key through a service: ' || d.everyone_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
