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
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT sentence))[1:3], ' ')
      || CASE WHEN count(DISTINCT sentence) > 3 THEN ' And ' || (count(DISTINCT sentence) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_policy_problems
  WHERE code IN ('service_without_source', 'if_exists_scopes_nothing')
    AND (code = 'service_without_source' OR contains(sentence, 'tests aws:Source'))
  GROUP BY key_arn
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM access_paths
  WHERE path = 'policy' AND access = 'unknown'
    AND (analysis_id IS NULL OR principal = '*' OR regexp_matches(principal,
      '^[a-z0-9.-]+[.](amazonaws|aws|amazon)[.]'))
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
    WHEN u.key_arn IS NOT NULL THEN 'It is not known for whom services use the key: ' || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known for whom services use the key: the policy was not read.'
    ELSE 'No statement lets an AWS service act for other customers.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
