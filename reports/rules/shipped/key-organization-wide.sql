-- id: key-organization-wide
-- title: No key policy lets in every account of the organization
-- severity: low
-- family: access
-- why: >-
--   With the organization as the only condition, every account that joins it, sandboxes and acquired ones included,
--   can use the key as soon as somebody in it is given kms permissions. One careless account is then enough to reach
--   the data.
-- fix: >-
--   A statement for everyone is narrowed by aws:PrincipalOrgID only. Name the accounts that need the key, narrow by
--   organizational unit (aws:PrincipalOrgPaths), or by role (aws:PrincipalArn). If the key is meant for all, such as
--   one for shared images, waive the finding with that reason.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; name
--   the accounts, or add aws:PrincipalOrgPaths or aws:PrincipalArn to the condition.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): add a condition on aws:PrincipalOrgPaths
--   or aws:PrincipalArn beside aws:PrincipalOrgID.
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM internal.key_access
  WHERE path = 'policy' AND access = 'organization' AND principal_account IS NULL
    AND NOT regexp_matches(conditions, 'only (as|from organization path|principals with the tag) ')
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.everyone_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known whether the whole organization can use the key: ' || d.everyone_unknown_reason || '.',
    'The policy does not let in every account of the organization.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
