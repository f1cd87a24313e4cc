-- id: trail-encrypted
-- title: CloudTrail log files are encrypted with a KMS key
-- severity: medium
-- family: logging
-- why: >-
--   The log files show who did what with your keys, and an intruder reads them first. With a KMS key, access to the
--   bucket is not enough: the key policy controls who can decrypt the files, and each use is recorded.
-- fix: >-
--   Set a key on the trail, in its home region; the key must be in the same region as the bucket. The key policy must
--   allow cloudtrail.amazonaws.com to use kms:GenerateDataKey* for this trail, and the readers to use kms:Decrypt;
--   without the former, delivery stops. Existing files are not re-encrypted.
-- console: >-
--   In CloudTrail, open the trail and choose "Edit" next to "General details": select "Log file SSE-KMS encryption" and
--   choose the key.
-- cli: >-
--   aws cloudtrail update-trail --name TRAIL_ARN --kms-key-id KEY_ARN --region HOME_REGION
-- terraform: >-
--   Set kms_key_id = aws_kms_key.NAME.arn in aws_cloudtrail.
WITH trail_key AS (
  SELECT * FROM resource_keys
  WHERE resource_type = 'AWS::CloudTrail::Trail'
  QUALIFY row_number() OVER (PARTITION BY resource_arn ORDER BY position) = 1
)
SELECT t.trail_arn AS resource_arn, t.account_id, t.home_region AS region, t.kms_key_arn AS key_arn,
  CASE
    WHEN a.account_id IS NULL
      THEN not_applicable('The trail belongs to account ' || t.account_id || ', which is outside the organization.')
    WHEN t.kms_key IS NULL THEN fail('Its log files are encrypted with S3 managed keys, not KMS.')
    WHEN t.kms_key IS NOT NULL
      THEN pass('Its log files are encrypted with ' || coalesce(u.key_alias, t.kms_key_arn, t.kms_key) || '.')
  END AS verdict,
  CASE WHEN t.freshness = 'stale' THEN ' This is the last known state.' END AS note
FROM trails t
LEFT JOIN trail_key u ON u.resource_arn = t.trail_arn
LEFT JOIN accounts a ON a.account_id = t.account_id AND a.state IS DISTINCT FROM 'LEFT'
