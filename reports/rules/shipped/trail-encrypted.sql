-- id: trail-encrypted
-- title: CloudTrail log files are encrypted with a KMS key
-- severity: medium
-- family: logging
-- why: >-
--   The log files tell who did what with your keys, and an intruder reads them first. With a KMS key reading the bucket
--   is not enough: the key's policy decides who can open the files, and each time is recorded.
-- fix: >-
--   Set a key on the trail, in the trail's home region and in the region of the bucket. The policy of the key has to
--   let cloudtrail.amazonaws.com use kms:GenerateDataKey* for this trail, and the readers kms:Decrypt; without the
--   first, delivery stops. Files that are there already stay as they are.
-- console: >-
--   In CloudTrail open the trail and choose "Edit" beside "General details": tick "Log file SSE-KMS encryption" and
--   choose the key.
-- cli: >-
--   aws cloudtrail update-trail --name TRAIL_ARN --kms-key-id KEY_ARN --region HOME_REGION
-- terraform: >-
--   Set kms_key_id = aws_kms_key.NAME.arn in the resource aws_cloudtrail.
WITH used AS (
  SELECT * FROM resource_keys
  WHERE resource_type = 'AWS::CloudTrail::Trail'
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT
  t.trail_arn AS resource_arn, t.account_id, t.home_region AS region, t.kms_key_arn AS key_arn,
  CASE
    WHEN a.account_id IS NULL THEN 'not_applicable'
    WHEN t.kms_key IS NULL THEN 'fail'
    WHEN t.kms_key IS NOT NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN a.account_id IS NULL THEN 'The trail belongs to account ' || t.account_id || ', which is not of this ledger.'
    WHEN t.kms_key IS NULL THEN 'Its log files are encrypted with keys of S3, not KMS.'
    ELSE 'Its log files are encrypted with ' || coalesce(u.key_alias, t.kms_key_arn, t.kms_key) || '.'
  END || CASE WHEN t.freshness = 'stale' THEN ' This is the last known state.' ELSE '' END AS reason
FROM trails t
LEFT JOIN used u ON u.resource_arn = t.trail_arn
LEFT JOIN accounts a ON a.account_id = t.account_id AND a.state IS DISTINCT FROM 'LEFT'
