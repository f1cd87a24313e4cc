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
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT 'Statement ' || coalesce(sid, '#' || position) || ' allows '
    || CASE WHEN principal_kind = 'NotPrincipal' THEN 'everyone but those in NotPrincipal'
    ELSE 'everything but what is in NotAction' END || '.'))[1:3], ' ')
      || CASE WHEN count(DISTINCT 'Statement ' || coalesce(sid, '#' || position) || ' allows '
        || CASE WHEN principal_kind = 'NotPrincipal' THEN 'everyone but those in NotPrincipal'
        ELSE 'everything but what is in NotAction' END || '.') > 3 THEN ' And ' || (count(DISTINCT 'Statement '
        || coalesce(sid, '#' || position) || ' allows ' || CASE WHEN principal_kind = 'NotPrincipal'
        THEN 'everyone but those in NotPrincipal' ELSE 'everything but what is in NotAction' END || '.') - 3)
        || ' more.' ELSE '' END AS sentences
  FROM key_policy_statements
  WHERE effect = 'Allow' AND has_resource AND (principal_kind = 'NotPrincipal' OR not_actions)
  GROUP BY key_arn
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM (
    SELECT key_arn, reason FROM access_paths WHERE path = 'policy' AND access = 'unknown' AND analysis_id IS NULL
    UNION ALL
    SELECT key_arn, 'a part of the policy cannot be read' FROM key_policies WHERE NOT readable
  ) AS every
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
    WHEN u.key_arn IS NOT NULL THEN 'It is not known what the policy allows: ' || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known what the policy allows: the policy was not read.'
    ELSE 'The policy allows nothing by NotPrincipal or NotAction.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
