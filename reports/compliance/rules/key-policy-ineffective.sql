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
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT sentence))[1:3], ' ')
      || CASE WHEN count(DISTINCT sentence) > 3 THEN ' And ' || (count(DISTINCT sentence) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_policy_problems
  WHERE code IN ('no_effect', 'wildcard_principal')
    AND sentence NOT LIKE '%NotPrincipal lists.'
  GROUP BY key_arn
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM (
    SELECT key_arn, reason FROM access_paths WHERE path = 'policy' AND access = 'unknown' AND analysis_id IS NULL
    UNION ALL
    SELECT key_arn, 'a part of the policy cannot be read' FROM key_policies WHERE NOT readable
    UNION ALL
    SELECT key_arn, rtrim(sentence, '.') FROM key_policy_problems WHERE code = 'unknown_action'
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
    WHEN u.key_arn IS NOT NULL THEN 'It is not known whether all statements have an effect: ' || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known whether all statements have an effect: the policy was not read.'
    ELSE 'All statements of the policy have an effect.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
