-- id: key-deleted-principals
-- title: Key policies contain no deleted principals
-- severity: low
-- family: access
-- why: >-
--   AWS shows a deleted user or role by its unique ID (AIDA..., AROA...). The entry gives no access, and a new role
--   with the same name does not get it back: a re-created application is locked out, and reviewers cannot see the
--   purpose of the statement.
-- fix: >-
--   The policy contains IDs of identities that no longer exist. If a role was re-created under its old name, put its
--   ARN into the statement again; otherwise remove the ID. Remove statements without any other principal.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; replace
--   or remove the IDs.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   Apply the policy argument of aws_kms_key (or aws_kms_key_policy) again, so that the ARN of the new role replaces
--   the ID.
WITH violation AS (
  SELECT key_arn, internal.first_messages(message) AS messages
  FROM key_policy_problems
  WHERE code = 'deleted_principal'
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.key_arn IS NOT NULL THEN fail(v.messages)
    WHEN d.statements_unknown_reason IS NULL THEN pass('The policy contains no deleted principals.')
    ELSE unknown('Could not determine whether the policy contains deleted principals: ' || d.statements_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.key_arn = d.key_arn
