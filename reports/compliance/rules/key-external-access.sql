-- id: key-external-access
-- title: Key policies let in no account that nobody knows
-- severity: high
-- family: access
-- why: >-
--   An account that is neither in the organization nor a known party can use the key. Nobody here can say who works
--   in it, and only its own administrators decide which of its users and roles get the access.
-- fix: >-
--   The policy names an account, or someone of an account, outside the organization. If it is a vendor or partner,
--   enter it in the settings under parties: the finding then ends, and the access is listed under its name. If nobody
--   claims it, take it out of the statement. What the outsider encrypted or copied before stays readable to him only
--   while he can still use the key.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; or
--   under "Other AWS accounts" remove the account.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): remove the foreign account from
--   principals and from the values of conditions.
WITH ours AS (
  -- Statements that name accounts of ours only: whatever is not known of them, they let nobody else in.
  SELECT hash(n.key_arn, s.position) AS place
  FROM key_principals n
  JOIN key_policy_statements s ON s.key_arn = n.key_arn AND coalesce(s.sid, '#' || s.position) = n.source_id
  JOIN key_policies p ON p.key_arn = n.key_arn AND p.readable
  WHERE n.source = 'policy'
    AND n.key_arn IN (SELECT key_arn FROM access_paths WHERE path = 'policy' AND access = 'unknown')
  GROUP BY n.key_arn, s.position
  HAVING bool_and(n.party IN ('own account', 'own organization', 'aws service', 'deleted principal')
    AND n.principal <> '*')
), found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT sentence))[1:3], ' ')
      || CASE WHEN count(DISTINCT sentence) > 3 THEN ' And ' || (count(DISTINCT sentence) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_access
  WHERE path = 'policy' AND access = 'external'
  GROUP BY key_arn
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM access_paths
  WHERE path = 'policy' AND access = 'unknown'
    AND (analysis_id IS NULL OR (principal = '*' AND (position IS NULL OR hash(key_arn,
      position) NOT IN (SELECT place FROM ours)))
      OR (principal <> '*' AND coalesce(principal_account, regexp_extract(principal,
        '^arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):', 1))
        NOT IN (SELECT account_id FROM accounts WHERE state IS DISTINCT FROM 'LEFT')))
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
    WHEN u.key_arn IS NOT NULL THEN 'It is not known whether an account outside can use the key: ' || u.reason || '.'
    WHEN NOT k.policy_known
      THEN 'It is not known whether an account outside can use the key: the policy was not read.'
    ELSE 'The policy lets in no account that nobody knows.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
