-- Account-regions (`account/region`) in which use of the keys is not logged, or unknown. `why` is the profile's text.
SELECT 'logging' AS check_name, if(l.kms_events IS NULL, 'unknown', 'advice') AS result,
  if(l.kms_events IS NULL, 'info', 'low') AS severity,
  trim(CASE WHEN l.kms_events IS NOT NULL THEN l.reason || '.' ELSE 'Whether use of the keys is logged could not be determined: '
      || CASE WHEN l.region IS NULL THEN 'the region was not read' WHEN coalesce(l.reason, '') = '' THEN 'unknown reason'
        ELSE lower(l.reason[1]) || l.reason[2:] END || '.' END
    || if(l.freshness = 'stale', ' This is the last known state.', '') || ' ' || $why) AS reason,
  split_part(n.name, '/', 1) AS account_id, l.account_name, split_part(n.name, '/', 2) AS region,
  if(l.kms_events IS NULL, 'Allow our role to call cloudtrail:DescribeTrails, GetEventSelectors and GetTrailStatus there.',
    'Configure a trail that covers the region to record management events of KMS: remove kms.amazonaws.com from the excluded '
    'event sources (aws cloudtrail put-event-selectors), and start the trail (aws cloudtrail start-logging).') AS fix
FROM (SELECT unnest($account_regions) AS name) n
LEFT JOIN kms_logging l ON l.account_id || '/' || l.region = n.name
WHERE l.kms_events IS NULL OR l.kms_events NOT IN ('all', 'read')
ORDER BY n.name
