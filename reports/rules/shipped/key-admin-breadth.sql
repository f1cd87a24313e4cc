-- id: key-admin-breadth
-- title: Few principals can delete, disable or open a key
-- severity: low
-- family: access
-- why: >-
--   Every principal with PutKeyPolicy, ScheduleKeyDeletion or DisableKey can make all data under the key unreadable or
--   open it to others. The more such principals there are, the more likely are stolen credentials and mistakes.
-- fix: >-
--   The policy names more principals with these permissions than the limit allows. Keep one role for administration and
--   one for emergencies, and let people assume them. If the policy delegates the decision to IAM, IAM policies can add
--   more principals; see the view effective_access.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", section "Key administrators", and remove
--   principals that do not need the permissions.
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), shorten the identifiers of the administrators'
--   statement.
-- parameters:
--   most: {default: "5", about: "Maximum number of principals in a key policy that may delete, disable or open the key."}
WITH violation AS (
  SELECT analysis_id, count(DISTINCT principal) AS principals, bool_or(principal = '*') AS everyone,
    array_to_string(list_sort(list(DISTINCT principal))[1:3], ', ') AS names
  FROM internal.access_verdicts
  WHERE path = 'policy' AND access = 'owner_direct' AND list_has_any(operations, ['kms:PutKeyPolicy',
    'kms:ScheduleKeyDeletion', 'kms:DisableKey', 'kms:DeleteImportedKeyMaterial'])
  GROUP BY analysis_id
  HAVING everyone OR principals > CAST($most AS INTEGER)
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN v.everyone THEN fail('Every principal of the account can delete, disable or open the key.')
    WHEN v.analysis_id IS NOT NULL THEN fail(v.principals
      || ' principals of the policy can delete, disable or open the key, more than ' || $most || ': ' || v.names || ' ...')
    WHEN d.own_account_unknown_reason IS NULL
      THEN pass('At most ' || $most || ' principals of the policy can delete, disable or open the key.')
    ELSE unknown('Could not determine who can delete, disable or open the key: ' || d.own_account_unknown_reason || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN violation v ON v.analysis_id = d.analysis_id
