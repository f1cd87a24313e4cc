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
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM key_policy_problems
  WHERE code = 'deleted_principal'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.statements_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known whether the policy names deleted identities: ' || d.statements_unknown_reason || '.',
    'The policy names no deleted identity.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
