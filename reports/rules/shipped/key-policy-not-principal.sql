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
  SELECT key_arn, internal.first_messages('Statement ' || coalesce(sid, '#' || statement_index) || ' allows '
    || CASE WHEN principal_kind = 'NotPrincipal' THEN 'everyone except the principals in NotPrincipal'
      ELSE 'everything except the actions in NotAction' END || '.') AS messages
  FROM key_policy_statements
  WHERE effect = 'Allow' AND has_resource AND (principal_kind = 'NotPrincipal' OR not_actions)
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.statements_unknown_reason IS NULL THEN pass('No statement allows access by NotPrincipal or NotAction.')
    ELSE unknown('Could not determine what the policy allows: ' || d.statements_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
