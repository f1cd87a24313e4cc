-- id: key-external-access
-- title: Key policies let in no account that nobody knows
-- severity: high
-- family: access
-- why: >-
--   An account that is neither in the organization nor a known party can use the key. Nobody here can say who works
--   in it, and only its own administrators decide which of its users and roles get the access.
-- fix: >-
--   The policy names an account, or someone of an account, outside the organization. If it is a vendor or partner,
--   enter it in the settings under known_external_parties: the finding then ends, and the access is listed under its name. If nobody
--   claims it, take it out of the statement. What the outsider encrypted or copied before stays readable to him only
--   while he can still use the key.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; or
--   under "Other AWS accounts" remove the account.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): remove the foreign account from
--   principals and from the values of conditions.
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT sentence))[1:3], ' ')
      || CASE WHEN count(DISTINCT sentence) > 3 THEN ' And ' || (count(DISTINCT sentence) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_access
  WHERE path = 'policy' AND access = 'external'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.outsiders IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known whether an account outside can use the key: ' || d.outsiders || '.',
    'The policy lets in no account that nobody knows.') || d.stale AS reason
FROM key_policy_doubts d
LEFT JOIN found f ON f.key_arn = d.key_arn
