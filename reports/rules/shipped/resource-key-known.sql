-- id: resource-key-known
-- title: Every key that a resource refers to exists
-- severity: high
-- family: use
-- why: >-
--   A resource that refers to a missing key or alias is already broken or will be at its next restart: data encrypted
--   with that key cannot be read. Often a cleanup checked the keys but not the resources that use them.
-- fix: >-
--   If the alias is missing, create it again for the original key. If the key is deleted, its data is lost: restore the
--   resource from a copy encrypted with another key, and configure that key. If the resource uses the key only for new
--   data, configure another key.
-- console: >-
--   Open the resource in the console of its service and compare its encryption key with the keys of its account and
--   region in KMS.
-- cli: |-
--   aws kms describe-key --key-id KEY_ARN
--   aws kms create-alias --alias-name ALIAS --target-key-id KEY_ID
-- terraform: >-
--   Refer to keys by aws_kms_key.NAME.arn, so that Terraform knows which resources use a key before it deletes it.
WITH key_counts AS (
  SELECT resource_arn,
    count(*) FILTER (key_class = 'dangling') AS missing,
    count(*) FILTER (key_class IN ('unknown', 'not_crawled')) AS undetermined,
    count(*) FILTER (key_class IN ('customer', 'aws_managed')) AS existing,
    coalesce(min(key_arn) FILTER (key_class = 'dangling'), min(key_arn)) AS key_arn
  FROM resource_keys
  GROUP BY resource_arn
), key_problems AS (
  SELECT resource_arn,
    array_to_string(list_sort(list(role || ': ' || coalesce(raw_value, key_alias, key_arn, 'the key') || ' does not exist'
      || coalesce(' (' || reason || ')', '')) FILTER (key_class = 'dangling')), '; ') AS problems,
    array_to_string(list_sort(list(CASE WHEN role = 'unknown' THEN 'its key' ELSE role END || ' could not be determined'
      || coalesce(': ' || reason, '')) FILTER (key_class <> 'dangling')), '; ') AS unknown_reasons
  FROM resource_keys
  WHERE key_class IN ('dangling', 'unknown', 'not_crawled')
  GROUP BY resource_arn
)
SELECT s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN u.missing + u.undetermined + u.existing = 0 THEN not_applicable('It refers to no KMS key.')
    WHEN u.resource_arn IS NULL THEN unknown('Its key could not be determined: the crawl returned no data for it.')
    WHEN u.missing > 0 THEN fail('It refers to a missing key: ' || t.problems || '.')
    WHEN u.undetermined > 0 THEN unknown('Could not determine whether its keys exist: ' || t.unknown_reasons || '.')
    WHEN u.existing > 0 THEN pass(internal.counted(u.existing, 'key that it refers to exists.', 'keys that it refers to exist.'))
  END AS verdict,
  CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' END AS note
FROM resources s
LEFT JOIN key_counts u ON u.resource_arn = s.resource_arn
LEFT JOIN key_problems t ON t.resource_arn = s.resource_arn
