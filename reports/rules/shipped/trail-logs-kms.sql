-- id: trail-logs-kms
-- title: KMS calls are recorded in every region of every account
-- severity: high
-- family: logging
-- why: >-
--   Only CloudTrail records who used which key when, and who changed its policy. Because KMS is called so often, many
--   trails exclude kms.amazonaws.com or record write events only. Then no use of a key is recorded, because encryption
--   and decryption are read events.
-- fix: >-
--   Use an organization trail that records management events for reading and writing in all regions, without excluding
--   KMS events. Expect a higher log volume; the first copy of management events is free. Start the trail if it is
--   stopped.
-- console: >-
--   In CloudTrail, open the trail, "Management events", "Edit": select "Read" and "Write", and clear "Exclude AWS KMS
--   events".
-- cli: |-
--   aws cloudtrail put-event-selectors --trail-name TRAIL_ARN --region HOME_REGION \
--     --event-selectors '[{"ReadWriteType":"All","IncludeManagementEvents":true,"ExcludeManagementEventSources":[]}]'
--   aws cloudtrail start-logging --name TRAIL_ARN --region HOME_REGION
-- terraform: >-
--   In aws_cloudtrail, set is_multi_region_trail = true, is_organization_trail = true, and event_selector {
--   read_write_type = "All" include_management_events = true } without exclude_management_event_sources.
SELECT p.account_region AS resource_arn, p.account_id, p.region, NULL AS key_arn,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN not_applicable(p.skip_reason)
    WHEN l.kms_events IN ('write', 'read', 'some', 'none') THEN fail(l.reason || '.')
    WHEN l.kms_events = 'all' THEN pass(l.reason || '.')
    ELSE unknown('Could not determine whether KMS calls are recorded' || coalesce(': ' || l.reason, '') || '.')
  END AS verdict,
  CASE WHEN l.freshness = 'stale' THEN ' This is the last known state.' END AS note
FROM account_regions p
LEFT JOIN kms_logging l ON l.account_id = p.account_id AND l.region = p.region
WHERE p.region <> 'global'
