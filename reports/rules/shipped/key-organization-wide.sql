-- id: key-organization-wide
-- title: No key policy allows every account of the organization
-- severity: low
-- family: access
-- why: >-
--   If the organization is the only condition, every account that joins it, including sandboxes and acquired companies,
--   can use the key as soon as one of its principals gets KMS permissions. One careless account is then enough to
--   expose the data.
-- fix: >-
--   A statement for everyone is restricted by aws:PrincipalOrgID only. Name the accounts that need the key, or restrict
--   by organizational unit (aws:PrincipalOrgPaths) or role (aws:PrincipalArn). If the key is meant for all accounts,
--   such as a key for shared images, waive the finding with that reason.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; name
--   the accounts, or add aws:PrincipalOrgPaths or aws:PrincipalArn to the condition.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), add a condition on aws:PrincipalOrgPaths or
--   aws:PrincipalArn next to aws:PrincipalOrgID.
WITH violation AS (
  SELECT key_arn, internal.first_messages(message) AS messages
  FROM internal.key_access
  WHERE path = 'policy' AND access = 'organization' AND principal_account IS NULL
    AND NOT regexp_matches(conditions, 'only (as|from organization path|principals with the tag) ')
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.everyone_unknown_reason IS NULL THEN pass('The policy does not allow every account of the organization.')
    ELSE unknown('Could not determine whether the whole organization can use the key: ' || d.everyone_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
