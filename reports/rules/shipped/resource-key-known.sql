-- id: resource-key-known
-- title: Every key that a resource names exists
-- severity: high
-- family: use
-- why: >-
--   A resource that names a key or an alias which leads nowhere is already broken or will be at its next restart:
--   whatever it encrypted cannot be read. Often it is the trace of a cleanup that looked at keys, not at who uses them.
-- fix: >-
--   If the alias is missing, create it again and point it at the key that it had. If the key is gone, its data is lost:
--   restore the resource from a copy under another key and name that key. If the resource only names the key for new
--   data, name another one.
-- console: >-
--   Open the resource in the console of its service and compare its encryption key with the keys of its account and
--   region in KMS.
-- cli: |-
--   aws kms describe-key --key-id KEY_ARN
--   aws kms create-alias --alias-name ALIAS --target-key-id KEY_ID
-- terraform: >-
--   Refer to keys by aws_kms_key.NAME.arn, so that Terraform knows who uses a key before it removes it.
WITH summed AS (
  SELECT resource_arn,
    count(*) FILTER (key_class = 'dangling') AS gone,
    count(*) FILTER (key_class IN ('unknown', 'not_crawled')) AS open,
    count(*) FILTER (key_class IN ('customer', 'aws_managed')) AS found,
    coalesce(min(key_arn) FILTER (key_class = 'dangling'), min(key_arn)) AS key_arn
  FROM resource_keys
  GROUP BY resource_arn
), reported AS (
  SELECT resource_arn,
    array_to_string(list_sort(list(role || ': ' || coalesce(raw_value, key_alias, key_arn, 'the key') || ' does not exist'
      || coalesce(' (' || reason || ')', '')) FILTER (key_class = 'dangling')), '; ') AS problems,
    array_to_string(list_sort(list(CASE WHEN role = 'unknown' THEN 'its key' ELSE role END || ' is not known'
      || coalesce(': ' || reason, '')) FILTER (key_class <> 'dangling')), '; ') AS doubts
  FROM resource_keys
  WHERE key_class IN ('dangling', 'unknown', 'not_crawled')
  GROUP BY resource_arn
)
SELECT
  s.resource_arn, s.account_id, s.region, u.key_arn,
  CASE
    WHEN u.gone + u.open + u.found = 0 THEN 'not_applicable'
    WHEN u.resource_arn IS NULL OR (u.gone = 0 AND u.open > 0) THEN 'unknown'
    WHEN u.gone > 0 THEN 'fail'
    WHEN u.found > 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN u.gone + u.open + u.found = 0 THEN 'It names no key of an account.'
    WHEN u.resource_arn IS NULL THEN 'Its key could not be determined: the crawl returned no data for it.'
    WHEN u.gone > 0 THEN 'A key that it names leads nowhere: ' || t.problems || '.'
    WHEN u.open > 0 THEN 'It cannot be told where its keys lead: ' || t.doubts || '.'
    ELSE u.found || ' key(s) that it names exist.'
  END || CASE WHEN s.freshness <> 'current' THEN ' This is the last known state.' ELSE '' END AS reason
FROM resources s
LEFT JOIN summed u ON u.resource_arn = s.resource_arn
LEFT JOIN reported t ON t.resource_arn = s.resource_arn
