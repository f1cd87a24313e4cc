-- id: key-policy-not-principal
-- title: Key policies allow named principals and actions, not all but some
-- severity: medium
-- family: access
-- why: >-
--   Allow with NotPrincipal lets in everyone in the world but those it lists, and Allow with NotAction allows
--   everything but what it lists, the change of the policy and the actions that AWS adds later included. Such
--   statements rarely mean what they do.
-- fix: >-
--   An Allow statement has NotPrincipal or NotAction. Write who may (Principal) and what (Action). To keep somebody
--   out, leave him out of the Allow, or add a Deny with Principal * and a condition on aws:PrincipalArn. In Deny
--   statements both forms are left alone by this rule.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; turn
--   NotPrincipal into Principal and NotAction into Action.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): use principals and actions in place of
--   not_principals and not_actions in aws_iam_policy_document.
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM (
    SELECT key_arn, 'Statement ' || coalesce(sid, '#' || statement_index) || ' allows '
      || CASE WHEN principal_kind = 'NotPrincipal' THEN 'everyone but those in NotPrincipal'
        ELSE 'everything but what is in NotAction' END || '.' AS message
    FROM key_policy_statements
    WHERE effect = 'Allow' AND has_resource AND (principal_kind = 'NotPrincipal' OR not_actions)
  ) AS not_resource
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.statements_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known what the policy allows: ' || d.statements_unknown_reason || '.',
    'The policy allows nothing by NotPrincipal or NotAction.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
