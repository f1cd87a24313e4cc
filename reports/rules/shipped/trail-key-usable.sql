-- id: trail-key-usable
-- title: The key of every trail is usable
-- severity: high
-- family: logging
-- why: >-
--   If CloudTrail cannot use the key of a trail, it stops delivering log files, and existing files cannot be read.
--   Disabling that key is the least visible way to stop logging.
-- fix: >-
--   Enable the key or cancel its deletion, and make sure that its policy allows cloudtrail.amazonaws.com to use
--   kms:GenerateDataKey*. Find out who disabled it, and whether that was intended. Events from the time in between
--   remain available in the event history of each region for 90 days.
-- console: >-
--   In KMS, open the key and choose "Key actions", "Cancel key deletion" or "Enable"; in CloudTrail, check under
--   "General details" that the last delivery succeeded.
-- cli: |-
--   aws kms enable-key --key-id KEY_ARN
--   aws cloudtrail get-trail-status --name TRAIL_ARN --region HOME_REGION
-- terraform: >-
--   Set is_enabled = true in aws_kms_key, with a policy that allows cloudtrail.amazonaws.com.
WITH trail_key AS (
  SELECT * FROM resource_keys
  WHERE resource_type = 'AWS::CloudTrail::Trail'
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY role = 'unknown', position) = 1
), trail AS (
  SELECT t.*, u.key_class, u.key_state, u.reason AS key_reason, coalesce(u.key_alias, t.kms_key_arn,
    t.kms_key) AS key_name,
    k.deletion_date, a.account_id IS NOT NULL AS in_organization, t.delivery_error ILIKE '%kms%' AS key_denied
  FROM trails t
  LEFT JOIN trail_key u ON u.resource_arn = t.trail_arn
  LEFT JOIN keys k ON k.key_arn = u.key_arn
  LEFT JOIN accounts a ON a.account_id = t.account_id AND a.state IS DISTINCT FROM 'LEFT'
)
SELECT
  t.trail_arn AS resource_arn, t.account_id, t.home_region AS region, t.kms_key_arn AS key_arn,
  CASE
    WHEN NOT t.in_organization OR t.kms_key IS NULL THEN 'not_applicable'
    WHEN t.key_denied IS NOT TRUE AND (t.key_class IS NULL OR t.key_class IN ('unknown', 'not_crawled')
      OR (t.key_class = 'customer' AND t.key_state IS NULL)) THEN 'unknown'
    WHEN t.key_denied OR t.key_class = 'dangling' OR t.key_state NOT IN ('Enabled', 'Creating', 'Updating') THEN 'fail'
    WHEN t.logging IS NULL THEN 'unknown'
    WHEN t.key_class IN ('customer', 'aws_managed') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN NOT t.in_organization THEN 'The trail belongs to account ' || t.account_id || ', which is outside the organization.'
    WHEN t.kms_key IS NULL THEN 'It has no KMS key.'
    WHEN t.key_class = 'dangling' THEN 'Its key ' || t.key_name || ' no longer exists.'
    WHEN t.deletion_date IS NOT NULL
      THEN 'Its key ' || t.key_name || ' will be deleted on ' || strftime(t.deletion_date, '%Y-%m-%d') || '.'
    WHEN t.key_state NOT IN ('Enabled', 'Creating', 'Updating')
      THEN 'Its key ' || t.key_name || ' is in state ' || t.key_state || '.'
    WHEN t.key_denied THEN 'CloudTrail could not use its key ' || t.key_name || ' for the last delivery.'
    WHEN t.key_class IS NULL
      THEN 'Could not determine whether its key ' || t.key_name || ' is usable: the crawl returned no data for it.'
    WHEN t.key_class = 'not_crawled'
      THEN 'Its key ' || t.key_name || ' is in an account or region that was not crawled.'
    WHEN t.key_class = 'unknown' THEN 'Its key could not be determined: ' || coalesce(t.key_reason, 'no reason reported') || '.'
    WHEN t.key_state IS NULL THEN 'Its key ' || t.key_name || ' could not be described.'
    WHEN t.logging IS NULL THEN 'Its key ' || t.key_name || ' is in state ' || coalesce(t.key_state, 'unknown')
      || ', but whether CloudTrail can use it could not be determined.'
    ELSE 'Its key ' || t.key_name || ' is usable.'
  END
    || CASE WHEN t.key_denied AND t.key_state IN ('Enabled', 'Creating', 'Updating')
      THEN ' The error was: ' || t.delivery_error || '.' ELSE '' END
    || CASE WHEN t.freshness = 'stale' THEN ' This is the last known state.' ELSE '' END AS reason
FROM trail t
