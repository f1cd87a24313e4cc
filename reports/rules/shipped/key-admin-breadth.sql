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
  SELECT analysis_id, count(DISTINCT principal) AS holders, bool_or(principal = '*') AS everyone_unknown_reason,
    array_to_string(list_sort(list(DISTINCT principal))[1:3], ', ') AS names
  FROM internal.access_verdicts
  WHERE path = 'policy' AND access = 'owner_direct' AND list_has_any(operations, ['kms:PutKeyPolicy',
    'kms:ScheduleKeyDeletion', 'kms:DisableKey', 'kms:DeleteImportedKeyMaterial'])
  GROUP BY analysis_id
  HAVING bool_or(principal = '*') OR count(DISTINCT principal) > CAST($most AS INTEGER)
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.analysis_id IS NOT NULL THEN 'fail' WHEN d.own_account_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  CASE
    WHEN f.everyone_unknown_reason THEN 'Every principal of the account can delete, disable or open the key.'
    WHEN f.analysis_id IS NOT NULL
      THEN f.holders || ' principals of the policy can delete, disable or open the key, more than ' || $most || ': '
        || f.names || ' ...'
    WHEN d.own_account_unknown_reason IS NOT NULL
      THEN 'It is not known who can delete, disable or open the key: ' || d.own_account_unknown_reason || '.'
    ELSE 'At most ' || $most || ' principals of the policy can delete, disable or open the key.'
  END || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.analysis_id = d.analysis_id
