-- id: key-policy-ineffective
-- title: Every statement of a key policy has an effect
-- severity: low
-- family: access
-- why: >-
--   A statement that has no Resource or Action, that refers to another key, or that has a wildcard inside a principal
--   silently does nothing. A Deny of that kind protects nothing; an Allow of that kind breaks an application. Since
--   August 2025, AWS rejects policies with a statement without Resource or Action, so the next policy change fails as
--   well.
-- fix: >-
--   Add "Resource": "*" (in a key policy, it means this key) and the actions, specify principals in full, or remove the
--   statement. First find out its purpose: once a forgotten Allow takes effect, it may allow more than intended.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; fix or
--   remove the statement.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), give each statement resources = ["*"] and
--   actions.
WITH violation AS (
  SELECT key_arn, internal.first_messages(message) AS messages
  FROM key_policy_problems
  WHERE code IN ('no_effect', 'wildcard_principal') AND message NOT LIKE '%NotPrincipal lists.'
  GROUP BY key_arn
), unknown_action AS (
  SELECT key_arn, rtrim(min(message), '.') AS reason
  FROM key_policy_problems
  WHERE code = 'unknown_action'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.statements_unknown_reason IS NULL AND u.key_arn IS NULL THEN pass('All statements of the policy have an effect.')
    ELSE unknown('Could not determine whether all statements have an effect: '
      || least(d.statements_unknown_reason, u.reason) || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
LEFT JOIN unknown_action u ON u.key_arn = d.key_arn
