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
  SELECT t.*, u.key_class, u.key_state, u.reason AS key_reason, k.deletion_date, t.delivery_error ILIKE '%kms%' AS key_denied,
    coalesce(u.key_alias, t.kms_key_arn, t.kms_key) AS key_name, a.account_id IS NOT NULL AS in_organization
  FROM trails t
  LEFT JOIN trail_key u ON u.resource_arn = t.trail_arn
  LEFT JOIN keys k ON k.key_arn = u.key_arn
  LEFT JOIN accounts a ON a.account_id = t.account_id AND a.state IS DISTINCT FROM 'LEFT'
)
SELECT trail_arn AS resource_arn, account_id, home_region AS region, kms_key_arn AS key_arn,
  CASE
    WHEN NOT in_organization
      THEN not_applicable('The trail belongs to account ' || account_id || ', which is outside the organization.')
    WHEN kms_key IS NULL THEN not_applicable('It has no KMS key.')
    WHEN key_class = 'dangling' THEN fail('Its key ' || key_name || ' no longer exists.')
    WHEN deletion_date IS NOT NULL
      THEN fail('Its key ' || key_name || ' will be deleted on ' || strftime(deletion_date, '%Y-%m-%d') || '.')
    WHEN key_state NOT IN ('Enabled', 'Creating', 'Updating')
      THEN fail('Its key ' || key_name || ' is in state ' || key_state || '.')
    WHEN key_denied THEN fail('CloudTrail could not use its key ' || key_name || ' for the last delivery.')
    WHEN key_class IS NULL THEN unknown('Could not determine whether its key ' || key_name
      || ' is usable: the crawl returned no data for it.')
    WHEN key_class = 'not_crawled' THEN unknown('Its key ' || key_name || ' is in an account or region that was not crawled.')
    WHEN key_class = 'unknown'
      THEN unknown('Its key could not be determined: ' || coalesce(key_reason, 'no reason reported') || '.')
    WHEN key_state IS NULL THEN unknown('Its key ' || key_name || ' could not be described.')
    WHEN logging IS NULL
      THEN unknown('Its key ' || key_name || ' is in state ' || key_state
        || ', but whether CloudTrail can use it could not be determined.')
    WHEN key_class IN ('customer', 'aws_managed') THEN pass('Its key ' || key_name || ' is usable.')
  END AS verdict,
  CASE WHEN key_denied AND key_state IN ('Enabled', 'Creating', 'Updating')
      THEN ' The error was: ' || delivery_error || '.' ELSE '' END
    || CASE WHEN freshness = 'stale' THEN ' This is the last known state.' ELSE '' END AS note
FROM trail
