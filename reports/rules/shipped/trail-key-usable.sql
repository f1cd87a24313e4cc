-- id: trail-key-usable
-- title: The key of every trail can be used
-- severity: high
-- family: logging
-- why: >-
--   If CloudTrail cannot use the key of a trail, it delivers no log files from then on, and those that are there cannot
--   be read. To disable that key is the quietest way to switch the recording off.
-- fix: >-
--   Enable the key or cancel its deletion, and make sure that its policy lets cloudtrail.amazonaws.com use
--   kms:GenerateDataKey*. Find out who switched it off, and whether that was meant. Events from the time in between can
--   be looked up in the event history of each region for 90 days.
-- console: >-
--   In KMS open the key and choose "Key actions", "Cancel key deletion" or "Enable"; in CloudTrail check under "General
--   details" that the last delivery worked.
-- cli: |-
--   aws kms enable-key --key-id KEY_ARN
--   aws cloudtrail get-trail-status --name TRAIL_ARN --region HOME_REGION
-- terraform: >-
--   Set is_enabled = true in the resource aws_kms_key, with a policy that names cloudtrail.amazonaws.com.
WITH used AS (
  SELECT * FROM resource_keys
  WHERE resource_type = 'AWS::CloudTrail::Trail'
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY role = 'unknown', position) = 1
), trail AS (
  SELECT t.*, u.key_class, u.key_state, u.reason AS key_reason, coalesce(u.key_alias, t.kms_key_arn,
    t.kms_key) AS key_name,
    k.deletion_date, a.account_id IS NOT NULL AS ours, t.delivery_error ILIKE '%kms%' AS key_denied
  FROM trails t
  LEFT JOIN used u ON u.resource_arn = t.trail_arn
  LEFT JOIN keys k ON k.key_arn = u.key_arn
  LEFT JOIN accounts a ON a.account_id = t.account_id AND a.state IS DISTINCT FROM 'LEFT'
)
SELECT
  t.trail_arn AS resource_arn, t.account_id, t.home_region AS region, t.kms_key_arn AS key_arn,
  CASE
    WHEN NOT t.ours OR t.kms_key IS NULL THEN 'not_applicable'
    WHEN t.key_denied IS NOT TRUE AND (t.key_class IS NULL OR t.key_class IN ('unknown', 'not_crawled')
      OR (t.key_class = 'customer' AND t.key_state IS NULL)) THEN 'unknown'
    WHEN t.key_denied OR t.key_class = 'dangling' OR t.key_state NOT IN ('Enabled', 'Creating', 'Updating') THEN 'fail'
    WHEN t.logging IS NULL THEN 'unknown'
    WHEN t.key_class IN ('customer', 'aws_managed') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN NOT t.ours THEN 'The trail belongs to account ' || t.account_id || ', which is not of this ledger.'
    WHEN t.kms_key IS NULL THEN 'It has no KMS key.'
    WHEN t.key_class = 'dangling' THEN 'Its key ' || t.key_name || ' no longer exists.'
    WHEN t.deletion_date IS NOT NULL
      THEN 'Its key ' || t.key_name || ' will be deleted on ' || strftime(t.deletion_date, '%Y-%m-%d') || '.'
    WHEN t.key_state NOT IN ('Enabled', 'Creating', 'Updating')
      THEN 'Its key ' || t.key_name || ' is in state ' || t.key_state || '.'
    WHEN t.key_denied THEN 'CloudTrail could not use its key ' || t.key_name || ' for the last delivery.'
    WHEN t.key_class IS NULL
      THEN 'Whether its key ' || t.key_name || ' can be used is not known: the crawl returned no data for it.'
    WHEN t.key_class = 'not_crawled'
      THEN 'Its key ' || t.key_name || ' is in an account or region that was not crawled.'
    WHEN t.key_class = 'unknown' THEN 'Its key could not be determined: ' || coalesce(t.key_reason, 'no reason reported') || '.'
    WHEN t.key_state IS NULL THEN 'Its key ' || t.key_name || ' could not be described.'
    WHEN t.logging IS NULL THEN 'Its key ' || t.key_name || ' is in state ' || coalesce(t.key_state, 'not known')
      || ', but whether CloudTrail can use it is not known.'
    ELSE 'Its key ' || t.key_name || ' can be used.'
  END
    || CASE WHEN t.key_denied AND t.key_state IN ('Enabled', 'Creating', 'Updating')
      THEN ' The error was: ' || t.delivery_error || '.' ELSE '' END
    || CASE WHEN t.freshness = 'stale' THEN ' This is the last known state.' ELSE '' END AS reason
FROM trail t
