-- id: key-deleted-principals
-- title: Key policies name nobody who was deleted
-- severity: low
-- family: access
-- why: >-
--   AWS shows a deleted user or role by its unique id (AIDA..., AROA...). The entry gives nobody access, and a new
--   role of the same name does not get it back; so an application that was re-created is locked out, and reviewers
--   cannot tell what the statement is for.
-- fix: >-
--   The policy holds ids of identities that no longer exist. If a role was made again under its old name, write its
--   ARN into the statement again; otherwise take the id out. Statements that name nobody else can go altogether.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   replace or remove the ids.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): apply the configuration again, so that
--   the ARN of the new role is written in place of the id.
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT sentence))[1:3], ' ')
      || CASE WHEN count(DISTINCT sentence) > 3 THEN ' And ' || (count(DISTINCT sentence) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_policy_problems
  WHERE code IN ('deleted_principal')
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
    WHEN u.key_arn IS NOT NULL THEN 'It is not known whether the policy names deleted identities: ' || u.reason || '.'
    WHEN NOT k.policy_known
      THEN 'It is not known whether the policy names deleted identities: the policy was not read.'
    ELSE 'The policy names no deleted identity.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
