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
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM internal.key_access
  WHERE path = 'policy' AND access = 'public_via_service'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.everyone_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known whether everyone can use the key through a service: ' || d.everyone_unknown_reason || '.',
    'No statement of the policy lets everyone in through a service.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
