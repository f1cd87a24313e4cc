-- id: key-duty-separation
-- title: No principal both administers and uses a key
-- severity: medium
-- family: access
-- why: >-
--   A principal that may change the policy or delete a key should not read the data under it: stolen credentials of
--   such a principal give access to the data and the means to lock out the owner. Most key management standards require
--   separation of duties.
-- fix: >-
--   The policy gives the same user or role administrative actions (PutKeyPolicy, ScheduleKeyDeletion, DisableKey,
--   DeleteImportedKeyMaterial) and use of the key (Decrypt, Encrypt, GenerateDataKey, Sign ...). Use a separate role
--   for each. Permissions that IAM policies add, if the key policy delegates the decision to IAM, are not evaluated
--   here.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", and remove the role from "Key administrators" or
--   from "Key users".
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), write one statement for administrators and one
--   for users, with different roles.
WITH combined_duties AS (
  SELECT analysis_id, CASE WHEN principal = '*' THEN 'every principal of the account' ELSE principal END AS principal_name
  FROM internal.access_verdicts
  WHERE path = 'policy' AND access = 'owner_direct'
  GROUP BY analysis_id, principal
  HAVING bool_or(list_has_any(operations, ['kms:PutKeyPolicy', 'kms:ScheduleKeyDeletion', 'kms:DisableKey',
      'kms:DeleteImportedKeyMaterial']))
    AND bool_or(list_has_any(operations, ['kms:Decrypt', 'kms:Encrypt', 'kms:GenerateDataKey',
      'kms:GenerateDataKeyWithoutPlaintext', 'kms:ReEncryptFrom', 'kms:Sign', 'kms:GenerateMac',
      'kms:DeriveSharedSecret']))
), violation AS (
  SELECT analysis_id, count(DISTINCT principal_name) AS principals, internal.first_names(principal_name) AS names
  FROM combined_duties
  GROUP BY analysis_id
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.analysis_id IS NOT NULL AND k.key_usage IS NULL
      THEN unknown('Could not determine the key usage, and therefore whether the key is used by ' || v.names || '.')
    WHEN v.principals = 1 THEN fail(v.names || ' both administers and uses the key.')
    WHEN v.principals > 1 THEN fail(v.names || ' both administer and use the key.')
    WHEN d.own_account_unknown_reason IS NULL THEN pass('No principal of the policy both administers and uses the key.')
    ELSE unknown('Could not determine who administers and who uses the key: ' || d.own_account_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
JOIN keys k ON k.key_arn = d.key_arn
LEFT JOIN violation v ON v.analysis_id = d.analysis_id
