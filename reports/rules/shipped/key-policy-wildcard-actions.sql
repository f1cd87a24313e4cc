-- id: key-policy-wildcard-actions
-- title: Only the account itself has all actions on a key
-- severity: medium
-- family: access
-- why: >-
--   kms:* for a role, user, service or another account combines use and administration: the principal can decrypt,
--   change the policy, pass on access with grants and schedule the deletion of the key. For the root principal of the
--   owning account it is normal, since it only delegates the decision to IAM.
-- fix: >-
--   A statement gives kms:* or * to a principal other than the account. List the required actions: Encrypt, Decrypt,
--   ReEncrypt*, GenerateDataKey* and DescribeKey for users; the administrative actions without these for
--   administrators. For other accounts only use of the key has an effect, so allow only that.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; replace
--   kms:* with the actions of "Key users" or "Key administrators".
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), list the actions of each statement.
WITH wildcard_statement AS (
  SELECT key_arn, sid, statement_index, list_sort(list_filter(principals, lambda principal: principal <> account_id
    AND NOT ends_with(principal, ':iam::' || account_id || ':root')
    AND NOT regexp_full_match(principal, 'A(ID|RO|GP|IP|NP|3T)A[A-Z0-9]{12,}'))) AS allowed_principals
  FROM key_policy_statements
  WHERE effect = 'Allow' AND has_resource AND principal_kind = 'Principal' AND NOT not_actions
    AND len(list_filter(actions, lambda action: lower(action) IN ('kms:*', '*'))) > 0
    AND NOT (len(principals) = 1 AND (principals[1] = account_id
      OR ends_with(principals[1], ':iam::' || account_id || ':root')))
), violation AS (
  SELECT key_arn, internal.first_messages('Statement ' || coalesce(sid, '#' || statement_index) || ' gives '
    || internal.first_of(allowed_principals, 3) || ' all actions.') AS messages
  FROM wildcard_statement
  WHERE len(allowed_principals) > 0
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.statements_unknown_reason IS NULL THEN pass('No principal other than the account itself has all actions.')
    ELSE unknown('Could not determine who has all actions: ' || d.statements_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
