-- The CloudTrail trails, one row each: as its own account reports it, otherwise as other accounts and regions report it.
--! stored
--: trail_arn | The trail.
--: name | Its name.
--: account_id | The account that owns it; the management account for an organization trail.
--: account_name | The account's name.
--: home_region | The region in which it was created.
--: is_multi_region | Whether it records every enabled region, not only its home region.
--: is_organization | Whether it records every account of the organization.
--: logging | Whether logging is enabled; NULL if unknown.
--: stopped_at | When logging was last stopped.
--: delivery_error | Why the latest files could not be delivered to the bucket; NULL if they were delivered.
--: log_validation | Whether digest files make it possible to verify that log files were not changed.
--: kms_key | The key of its log files as CloudTrail reports it; NULL if S3 managed keys encrypt them.
--: kms_key_arn | The key that kms_key resolves to.
--: bucket | The bucket that receives the log files.
--: log_group | The CloudWatch log group that also receives the events.
--: global_events | Whether events of global services are recorded too.
--: management_events | The selected management events of services in general: all, read, write, some or none; NULL if unknown.
--: kms_events | The selected events of KMS: all, write (not the use of keys), read, some or none; NULL if unknown.
--: kms_excluded | Whether it selects management events, but none of KMS; NULL if unknown.
--: kms_network_events | Whether it selects calls to KMS through VPC endpoints (network activity events); NULL if unknown.
--: selectors | The event selectors as JSON; NULL if unknown.
--: freshness | current; stale: the run could not read it again; or partial: something was never reported.
--: reason | Why it is not current, in words.
--: since | When this version of it was first seen.
WITH confirmed AS (
  SELECT account_id, region FROM internal.scope_coverage
  WHERE run_id = as_of_run AND outcome IN ('complete', 'partial')
), missing AS (
  SELECT account_id, region, coalesce(reason, 'the region is ' || outcome) AS reason FROM internal.scope_coverage
  WHERE run_id = as_of_run AND outcome NOT IN ('complete', 'partial')
), denied AS (
  SELECT g.account_id, g.region, g.subject,
    string_agg(g.operation || ': ' || coalesce(z.text, g.cause), '; ' ORDER BY g.operation) AS reason
  FROM internal.gap g LEFT JOIN internal.gap_cause z ON z.cause = g.cause
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run) AND g.service = 'cloudtrail'
  GROUP BY g.account_id, g.region, g.subject
), own AS (
  SELECT trail_arn, account_id, name, home_region, is_multi_region, is_organization, log_validation, kms_key, bucket,
    has_custom_selectors, global_events, log_group, false AS elsewhere, valid_from
  FROM internal.trail t
  WHERE internal.known(t.valid_from, t.valid_to, as_of_run)
), seen AS (
  SELECT s.trail_arn, max_by(s, (s.valid_from, s.account_id, s.region)) AS shadow, min(s.valid_from) AS valid_from
  FROM internal.shadow_trail s
  WHERE internal.known(s.valid_from, s.valid_to, as_of_run)
  GROUP BY s.trail_arn
), every AS (
  FROM own
  UNION ALL
  SELECT n.trail_arn, split_part(n.trail_arn, ':', 5), n.shadow.name, n.shadow.home_region, n.shadow.is_multi_region,
    n.shadow.is_organization, n.shadow.log_validation, n.shadow.kms_key, n.shadow.bucket, n.shadow.has_custom_selectors,
    NULL, NULL, true, n.valid_from
  FROM seen n
  WHERE n.trail_arn NOT IN (SELECT trail_arn FROM own)
), used AS (
  SELECT resource_arn, min(key_arn) AS key_arn FROM internal.resource_key u
  WHERE internal.known(u.valid_from, u.valid_to, as_of_run)
  GROUP BY resource_arn
), reported AS (
  SELECT t.*, s.logging, s.stopped_at, s.delivery_error, e.selectors,
    -- Without selectors of its own, a trail has the default: the management events of every service.
    x.kms_events IS NULL AND t.has_custom_selectors IS FALSE AS by_default,
    x.management_events, x.kms_events, x.kms_network_events, x.selectors_reason,
    s.trail_arn IS NOT NULL AS status_known
  FROM every t
  LEFT JOIN internal.trail_status s ON s.trail_arn = t.trail_arn AND internal.known(s.valid_from, s.valid_to, as_of_run)
  LEFT JOIN internal.trail_selector e ON e.trail_arn = t.trail_arn AND internal.known(e.valid_from, e.valid_to, as_of_run)
  LEFT JOIN internal.event_selector x ON x.selectors = e.selectors
), evaluated AS (
  SELECT t.* REPLACE (
      CASE WHEN by_default THEN 'all' ELSE management_events END AS management_events,
      CASE WHEN by_default THEN 'all' ELSE kms_events END AS kms_events,
      CASE WHEN by_default THEN false ELSE kms_network_events END AS kms_network_events),
    concat_ws('; ', p.reason, l.reason, m.reason, t.selectors_reason,
      CASE WHEN t.elsewhere THEN 'only seen from other accounts or regions: its own account does not show it'
        WHEN f.account_id IS NULL AND m.reason IS NULL THEN 'its home region was not read in this run' END) AS reason,
    f.account_id IS NOT NULL AND p.subject IS NULL AND l.subject IS NULL AS seen_again
  FROM reported t
  LEFT JOIN confirmed f ON f.account_id = t.account_id AND f.region = t.home_region
  LEFT JOIN missing m ON m.account_id = t.account_id AND m.region = t.home_region
  LEFT JOIN denied p ON p.subject = t.trail_arn AND p.account_id = t.account_id
  LEFT JOIN denied l ON l.subject = '' AND l.account_id = t.account_id AND l.region = t.home_region
)
SELECT t.trail_arn, t.name, t.account_id, c.name AS account_name, t.home_region, t.is_multi_region, t.is_organization,
  t.logging, t.stopped_at, t.delivery_error, t.log_validation, t.kms_key,
  coalesce(u.key_arn, CASE WHEN t.kms_key LIKE 'arn:%:key/%' THEN t.kms_key END) AS kms_key_arn,
  t.bucket, t.log_group, t.global_events, t.management_events, t.kms_events,
  CASE WHEN t.kms_events IS NOT NULL AND t.management_events IS NOT NULL
    THEN t.kms_events = 'none' AND t.management_events <> 'none' END AS kms_excluded,
  t.kms_network_events, t.selectors,
  CASE
    WHEN t.elsewhere OR t.kms_events IS NULL OR t.logging IS NULL THEN 'partial'
    WHEN NOT t.seen_again THEN 'stale'
    ELSE 'current'
  END AS freshness,
  CASE WHEN t.elsewhere OR t.kms_events IS NULL OR t.logging IS NULL OR NOT t.seen_again THEN nullif(t.reason, '') END AS reason,
  r.started_at AS since
FROM evaluated t
LEFT JOIN used u ON u.resource_arn = t.trail_arn
LEFT JOIN internal.account c ON c.account_id = t.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = t.valid_from
