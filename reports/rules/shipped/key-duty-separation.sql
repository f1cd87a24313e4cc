-- id: key-duty-separation
-- title: Nobody both administers and uses a key
-- severity: medium
-- family: access
-- why: >-
--   Whoever may change the policy or delete a key should not be the one who reads the data under it: a stolen
--   credential of that principal gives both the data and the means to lock the owner out. Separation of duties is
--   asked for by most standards on key management.
-- fix: >-
--   The policy gives the same user or role administrative actions (PutKeyPolicy, ScheduleKeyDeletion, DisableKey,
--   DeleteImportedKeyMaterial) and use of the key (Decrypt, Encrypt, GenerateDataKey, Sign ...). Give each to a role
--   of its own. What IAM policies add where the key policy leaves the decision to them is not looked at here.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy": take the role out of "Key administrators" or out
--   of "Key users".
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): one statement for administrators and one
--   for users, with different roles.
WITH doubled AS (
  SELECT analysis_id, CASE WHEN principal = '*' THEN 'every principal of the account' ELSE principal END AS who
  FROM internal.access_verdicts
  WHERE path = 'policy' AND access = 'owner_direct'
  GROUP BY analysis_id, principal
  HAVING bool_or(list_has_any(operations, ['kms:PutKeyPolicy', 'kms:ScheduleKeyDeletion', 'kms:DisableKey',
      'kms:DeleteImportedKeyMaterial']))
    AND bool_or(list_has_any(operations, ['kms:Decrypt', 'kms:Encrypt', 'kms:GenerateDataKey',
      'kms:GenerateDataKeyWithoutPlaintext', 'kms:ReEncryptFrom', 'kms:Sign', 'kms:GenerateMac',
      'kms:DeriveSharedSecret']))
), found AS (
  SELECT analysis_id, count(DISTINCT who) AS holders, array_to_string(list_sort(list(DISTINCT who))[1:3], ', ')
      || CASE WHEN count(DISTINCT who) > 3 THEN ' and ' || (count(DISTINCT who) - 3) || ' more' ELSE '' END AS names
  FROM doubled
  GROUP BY analysis_id
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE
    WHEN f.analysis_id IS NOT NULL AND k.key_usage IS NULL THEN 'unknown'
    WHEN f.analysis_id IS NOT NULL THEN 'fail'
    WHEN d.own_account_unknown_reason IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN f.analysis_id IS NOT NULL AND k.key_usage IS NULL
      THEN 'It is not known what the key is for, and so whether it is used by ' || f.names || '.'
    WHEN f.holders = 1 THEN f.names || ' both administers and uses the key.'
    WHEN f.holders > 1 THEN f.names || ' both administer and use the key.'
    WHEN d.own_account_unknown_reason IS NOT NULL THEN 'It is not known who administers and who uses the key: ' || d.own_account_unknown_reason || '.'
    ELSE 'Nobody whom the policy names both administers and uses the key.'
  END || d.stale_note AS reason
FROM internal.key_policy_unknowns d
JOIN keys k ON k.key_arn = d.key_arn
LEFT JOIN found f ON f.analysis_id = d.analysis_id
