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
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS messages
  FROM internal.key_access
  WHERE path = 'policy' AND access = 'organization' AND principal_account IS NULL
    AND NOT regexp_matches(conditions, 'only (as|from organization path|principals with the tag) ')
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN v.key_arn IS NOT NULL THEN 'fail' WHEN d.everyone_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(v.messages, 'Could not determine whether the whole organization can use the key: ' || d.everyone_unknown_reason || '.',
    'The policy does not allow every account of the organization.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
