-- id: key-policy-ineffective
-- title: Every statement of a key policy has an effect
-- severity: low
-- family: access
-- why: >-
--   A statement without Resource or Action, about another key, or with a wildcard inside a principal does nothing,
--   silently. A Deny of that kind protects nothing; an Allow lets an application fail. Since August 2025 AWS refuses
--   to write a policy with a statement without Resource or Action, so the next change of the policy fails as well.
-- fix: >-
--   Add "Resource": "*" (in a key policy it means this key) and the actions, name principals in full, or take the
--   statement out. Find out first what it was meant to do: once a forgotten Allow takes effect it may let in more
--   than anyone remembers.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; mend
--   or remove the statement.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): give each statement resources = ["*"]
--   and actions.
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_policy_problems
  WHERE code IN ('no_effect', 'wildcard_principal') AND message NOT LIKE '%NotPrincipal lists.'
  GROUP BY key_arn
), not_reported AS (
  SELECT key_arn, rtrim(min(message), '.') AS reason
  FROM key_policy_problems
  WHERE code = 'unknown_action'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.statements_unknown_reason IS NULL AND u.key_arn IS NULL THEN 'pass'
    ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known whether all statements have an effect: ' || least(d.statements_unknown_reason, u.reason) || '.',
    'All statements of the policy have an effect.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
LEFT JOIN not_reported u ON u.key_arn = d.key_arn
