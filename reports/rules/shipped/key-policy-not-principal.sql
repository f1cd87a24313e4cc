-- id: key-policy-not-principal
-- title: Key policies allow specific principals and actions, not all except some
-- severity: medium
-- family: access
-- why: >-
--   Allow with NotPrincipal allows everyone in the world except the listed principals. Allow with NotAction allows
--   everything except the listed actions, including policy changes and actions that AWS adds later. Such statements
--   rarely do what was intended.
-- fix: >-
--   An Allow statement has NotPrincipal or NotAction. Specify the allowed principals (Principal) and actions (Action).
--   To exclude a principal, leave it out of the Allow, or add a Deny with Principal * and a condition on
--   aws:PrincipalArn. This rule ignores both forms in Deny statements.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; replace
--   NotPrincipal with Principal and NotAction with Action.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), use principals and actions instead of
--   not_principals and not_actions in aws_iam_policy_document.
WITH violation AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS messages
  FROM (
    SELECT key_arn, 'Statement ' || coalesce(sid, '#' || statement_index) || ' allows '
      || CASE WHEN principal_kind = 'NotPrincipal' THEN 'everyone except the principals in NotPrincipal'
        ELSE 'everything except the actions in NotAction' END || '.' AS message
    FROM key_policy_statements
    WHERE effect = 'Allow' AND has_resource AND (principal_kind = 'NotPrincipal' OR not_actions)
  ) AS negated
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN v.key_arn IS NOT NULL THEN 'fail' WHEN d.statements_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(v.messages, 'Could not determine what the policy allows: ' || d.statements_unknown_reason || '.',
    'No statement allows access by NotPrincipal or NotAction.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
