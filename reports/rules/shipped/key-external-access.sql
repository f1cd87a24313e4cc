-- id: key-external-access
-- title: Key policies do not allow unknown accounts
-- severity: high
-- family: access
-- why: >-
--   An account that is neither in the organization nor a known party can use the key. You cannot tell who works in that
--   account, and only its administrators decide which of its users and roles get access.
-- fix: >-
--   The policy names an account, or a principal in an account, outside the organization. If it belongs to a vendor or
--   partner, add it to known_external_parties in the settings: the finding is then resolved, and the access is listed
--   under that name. If the account is unknown, remove it from the statement. Data that the account encrypted or copied
--   remains readable to it only while it can use the key.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; or
--   remove the account under "Other AWS accounts".
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), remove the external account from principals and
--   condition values.
WITH violation AS (
  SELECT key_arn, internal.first_messages(message) AS messages
  FROM internal.key_access
  WHERE path = 'policy' AND access = 'external'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.external_unknown_reason IS NULL THEN pass('The policy allows no unknown account.')
    ELSE unknown('Could not determine whether an unknown account can use the key: ' || d.external_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
