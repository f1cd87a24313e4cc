-- id: key-confused-deputy
-- title: AWS services use keys only on behalf of our own resources
-- severity: medium
-- family: access
-- why: >-
--   A service principal acts on behalf of every AWS customer. Without a condition on the source account or resource,
--   another customer's topic, trail or bucket could make the service use your key: the confused deputy problem.
-- fix: >-
--   A statement allows an AWS service without aws:SourceAccount, aws:SourceArn or aws:SourceOrgID. Add
--   aws:SourceAccount with your account IDs, or aws:SourceOrgID with your organization, in StringEquals (not
--   ...IfExists, which also matches if the condition key is absent). Check the documentation of the service first: a
--   service that does not send the condition key would lose access.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; add
--   the condition to the statement.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), add condition { test = "StringEquals", variable =
--   "aws:SourceAccount", values = ["ACCOUNT"] } to the statement of the service.
WITH violation AS (
  SELECT key_arn, internal.first_messages(message) AS messages
  FROM key_policy_problems
  WHERE code = 'service_without_source'
    OR (code = 'if_exists_scopes_nothing' AND contains(message, 'tests aws:Source'))
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.services_unknown_reason IS NULL
      THEN pass('No statement allows an AWS service to act on behalf of other customers.')
    ELSE unknown('Could not determine on whose behalf services use the key: ' || d.services_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
