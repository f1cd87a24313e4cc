-- id: vendor-profile
-- title: Keys and roles for vendors are as their profiles ask
-- severity: medium
-- family: vendors
-- why: >-
--   Beside the access itself a vendor's document asks for the kind of key, its regions and replicas, and for the
--   shape of the role that it assumes. What differs works until the day on which it does not, or lets others than the
--   vendor in.
-- fix: >-
--   See the reason for what differs; each check names its own remedy, with the policy or statement to set. What a
--   vendor only recommends is no failure here. External ids have a rule of their own.
-- console: Run `kmsledger vendors` for the steps; keys are in KMS, roles in IAM.
-- cli: kmsledger vendors
-- terraform: Set the properties of aws_kms_key, aws_kms_replica_key or aws_iam_role that the reason names.

-- The profiles of vendors and what they ask are those of the settings (vendors.profiles); a key that several profiles
-- are about has one row. A row is a key, a role, or the account where something is missing.
WITH checked AS (
  SELECT coalesce(key_arn, CASE WHEN starts_with(subject, 'arn:') THEN subject END, account_id || '/' || region,
    account_id, profile) AS about_arn,
    account_id, region, key_arn, profile, reason,
    subject_type = 'finding' AND result = 'wrong' AND NOT starts_with(check_name, 'external_id_') AS wrong,
    subject_type = 'finding' AND result = 'unknown' AND check_name <> 'logging' AS unsure,
    subject_type = 'key' AND result NOT IN ('denied_by_tag', 'not_selected') AS considered, subject_type = 'key' AS is_key
  FROM vendor_checks
  WHERE subject_type IN ('key', 'finding')
), evaluated AS (
  SELECT about_arn, any_value(account_id) AS account_id, any_value(region) AS region, any_value(key_arn) AS key_arn,
    bool_or(wrong) AS wrong, bool_or(unsure) AS unsure, bool_or(considered OR wrong OR unsure) AS considered,
      bool_or(is_key) AS is_key,
    array_to_string(list_sort(list(DISTINCT profile || ': ' || reason) FILTER (wrong))[1:3], ' ') AS wrongs,
    min(profile || ': ' || reason) FILTER (unsure) AS unknown_reason, array_to_string(list_sort(list(DISTINCT profile)),
      ', ') AS profiles
  FROM checked
  GROUP BY about_arn
)
SELECT about_arn AS resource_arn, account_id, coalesce(region, 'global') AS region, key_arn,
  CASE
    WHEN NOT considered THEN 'not_applicable'
    WHEN NOT wrong AND unsure THEN 'unknown'
    WHEN wrong THEN 'fail'
    WHEN NOT wrong AND NOT unsure THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN NOT considered THEN 'The vendor does not use this key (' || profiles || ').'
    WHEN wrong THEN wrongs
    WHEN unsure THEN unknown_reason
    ELSE 'All is as the profile asks (' || profiles || ').'
  END AS reason
FROM evaluated
WHERE considered OR is_key
UNION ALL
SELECT key_arn, account_id, region, key_arn, 'unknown', unknown_reason
FROM internal.vendor_keys
WHERE profiles IS NULL
