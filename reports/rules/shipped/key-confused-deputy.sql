-- id: key-confused-deputy
-- title: AWS services use keys only for our own resources
-- severity: medium
-- family: access
-- why: >-
--   A service principal acts for every customer of AWS. Without a condition on the resource or account it acts for,
--   somebody else's topic, trail or bucket could make the service use your key for him: the confused deputy.
-- fix: >-
--   A statement lets an AWS service in without aws:SourceAccount, aws:SourceArn or aws:SourceOrgID. Add
--   aws:SourceAccount with your account ids, or aws:SourceOrgID with your organization, in StringEquals (not
--   ...IfExists, which also holds when the key is absent). Check in the service's documentation that it sends the
--   condition key: a service that does not would be locked out.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; add
--   the condition to the statement.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): add condition { test = "StringEquals",
--   variable = "aws:SourceAccount", values = ["ACCOUNT"] } to the statement of the service.
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_policy_problems
  WHERE code = 'service_without_source'
    OR (code = 'if_exists_scopes_nothing' AND contains(message, 'tests aws:Source'))
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.services_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known for whom services use the key: ' || d.services_unknown_reason || '.',
    'No statement lets an AWS service act for other customers.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
