-- id: key-admin-breadth
-- title: Few can delete, disable or open a key
-- severity: low
-- family: access
-- why: >-
--   Each principal with PutKeyPolicy, ScheduleKeyDeletion or DisableKey can make all data under the key unreadable,
--   or open it to others. The more there are, the more likely is one stolen credential or one mistake.
-- fix: >-
--   The policy names more principals with these rights than the limit. Keep one role for administration and one for
--   emergencies, and let people assume them. Where the policy leaves the decision to IAM of the account, the IAM
--   policies decide about further ones; see the view key_access_iam.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", section "Key administrators": remove those who
--   do not need it.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): shorten the identifiers of the
--   administrators' statement.
-- parameters:
--   most: {default: "5", about: "how many principals named in a key policy may delete, disable or open the key (a number)"}
WITH found AS (
  SELECT a.key_arn, d.*
  FROM (
    SELECT key_arn, min(analysis_id) AS analysis_id FROM access_paths WHERE path = 'policy' GROUP BY key_arn
  ) a
  JOIN (
    SELECT analysis_id, count(DISTINCT principal) AS holders, bool_or(principal = '*') AS everyone,
      array_to_string(list_sort(list(DISTINCT principal))[1:3], ', ') AS names
    FROM access_verdicts
    WHERE path = 'policy' AND access = 'owner_direct' AND list_has_any(operations, ['kms:PutKeyPolicy',
      'kms:ScheduleKeyDeletion', 'kms:DisableKey', 'kms:DeleteImportedKeyMaterial'])
    GROUP BY analysis_id
    HAVING bool_or(principal = '*') OR count(DISTINCT principal) > CAST($most AS INTEGER)
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
    WHEN f.key_arn IS NOT NULL THEN 'fail'
    WHEN f.key_arn IS NULL AND u.key_arn IS NULL AND k.policy_known THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN f.key_arn IS NOT NULL THEN CASE WHEN f.everyone
      THEN 'Every principal of the account can delete, disable or open the key.'
      ELSE f.holders || ' principals of the policy can delete, disable or open the key, more than ' || $most || ': '
        || f.names || ' ...' END
    WHEN u.key_arn IS NOT NULL THEN 'It is not known who can delete, disable or open the key: ' || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known who can delete, disable or open the key: the policy was not read.'
    ELSE 'At most ' || $most || ' principals of the policy can delete, disable or open the key.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
