-- id: vendor-profile
-- title: Keys and roles of vendors match their profiles
-- severity: medium
-- family: vendors
-- why: >-
--   Besides access, the documentation of a vendor specifies the type of key, its regions and replicas, and the
--   configuration of the role that the vendor assumes. Deviations may go unnoticed until something fails, or may allow
--   principals other than the vendor.
-- fix: >-
--   The reason describes the differences; each check names its own remedy, with the policy or statement to set. A
--   deviation from a mere recommendation of the vendor is not a failure here. External IDs are covered by
--   vendor-external-id.
-- console: Run `kmsledger vendors check` for the steps; keys are in KMS, roles in IAM.
-- cli: kmsledger vendors check
-- terraform: >-
--   Set the properties of aws_kms_key, aws_kms_replica_key or aws_iam_role that the reason names.

WITH profile_check AS (
  SELECT coalesce(key_arn, CASE WHEN starts_with(subject, 'arn:') THEN subject END, account_id || '/' || region,
    account_id, profile) AS subject_arn,
    account_id, region, key_arn, profile, reason, severity,
    subject_type = 'finding' AND result = 'wrong' AND NOT starts_with(check_name, 'external_id_') AS is_wrong,
    subject_type = 'finding' AND result = 'unknown' AND check_name <> 'logging' AS is_unknown,
    subject_type = 'key' AND result NOT IN ('denied_by_tag', 'not_selected') AS is_relevant, subject_type = 'key' AS is_key
  FROM vendor_checks
  WHERE subject_type IN ('key', 'finding')
), evaluated AS (
  SELECT subject_arn, min(account_id) AS account_id, min(region) AS region, min(key_arn) AS key_arn,
    bool_or(is_wrong) AS is_wrong, bool_or(is_unknown) AS is_unknown, bool_or(is_key) AS is_key,
    bool_or(is_relevant OR is_wrong OR is_unknown) AS is_relevant,
    array_to_string(list_sort(list(DISTINCT profile || ': ' || reason) FILTER (is_wrong))[1:3], ' ') AS messages,
    min(profile || ': ' || reason) FILTER (is_unknown) AS unknown_reason,
    coalesce(internal.highest(CASE WHEN is_wrong THEN severity END), internal.highest(CASE WHEN is_unknown THEN severity END))
      AS severity,
    array_to_string(list_sort(list(DISTINCT profile)), ', ') AS profiles
  FROM profile_check
  GROUP BY subject_arn
)
SELECT subject_arn AS resource_arn, account_id, coalesce(region, 'global') AS region, key_arn, severity,
  CASE
    WHEN NOT is_relevant THEN not_applicable('The vendor does not use this key (' || profiles || ').')
    WHEN is_wrong THEN fail(messages)
    WHEN is_unknown THEN unknown(unknown_reason)
    WHEN is_relevant THEN pass('Everything matches the profile (' || profiles || ').')
  END AS verdict
FROM evaluated
WHERE is_relevant OR is_key
UNION ALL
SELECT key_arn, account_id, region, key_arn, severity, unknown(unknown_reason)
FROM internal.vendor_keys
WHERE profiles IS NULL
