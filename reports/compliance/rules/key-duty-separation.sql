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
WITH found AS (
  SELECT a.key_arn, d.*
  FROM (
    SELECT key_arn, min(analysis_id) AS analysis_id FROM access_paths WHERE path = 'policy' GROUP BY key_arn
  ) a
  JOIN (
    SELECT analysis_id, array_to_string(list_sort(list(DISTINCT who))[1:3], ', ')
      || CASE WHEN count(DISTINCT who) > 3 THEN ' and ' || (count(DISTINCT who) - 3) || ' more' ELSE '' END AS names,
      count(DISTINCT who) AS holders
    FROM (
      SELECT analysis_id, CASE WHEN principal = '*' THEN 'every principal of the account' ELSE principal END AS who
      FROM access_verdicts
      WHERE path = 'policy' AND access = 'owner_direct'
      GROUP BY analysis_id, principal
      HAVING bool_or(list_has_any(operations, ['kms:PutKeyPolicy', 'kms:ScheduleKeyDeletion', 'kms:DisableKey',
        'kms:DeleteImportedKeyMaterial']))
        AND bool_or(list_has_any(operations, ['kms:Decrypt', 'kms:Encrypt', 'kms:GenerateDataKey',
          'kms:GenerateDataKeyWithoutPlaintext', 'kms:ReEncryptFrom', 'kms:Sign', 'kms:GenerateMac',
          'kms:DeriveSharedSecret']))
    ) AS doubled
    GROUP BY analysis_id
  ) d ON d.analysis_id = a.analysis_id
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM access_paths
  WHERE path = 'policy' AND access = 'unknown'
    AND (analysis_id IS NULL OR principal = '*' OR coalesce(principal_account, regexp_extract(principal,
      '^arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):', 1)) = split_part(key_arn, ':', 5))
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN f.key_arn IS NULL AND (u.key_arn IS NOT NULL OR NOT k.policy_known) THEN 'unknown'
    WHEN f.key_arn IS NOT NULL AND k.key_usage IS NULL THEN 'unknown'
    WHEN f.key_arn IS NOT NULL THEN 'fail'
    WHEN f.key_arn IS NULL AND u.key_arn IS NULL AND k.policy_known THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN f.key_arn IS NOT NULL AND k.key_usage IS NULL
      THEN 'It is not known what the key is for, and so whether it is used by ' || f.names || '.'
    WHEN f.key_arn IS NOT NULL THEN f.names || CASE WHEN f.holders = 1 THEN ' both administers and uses the key.'
      ELSE ' both administer and use the key.' END
    WHEN u.key_arn IS NOT NULL THEN 'It is not known who administers and who uses the key: ' || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known who administers and who uses the key: the policy was not read.'
    ELSE 'Nobody whom the policy names both administers and uses the key.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
