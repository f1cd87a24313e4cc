-- id: external-key-store
-- title: No key in use depends on a key manager outside AWS
-- severity: info
-- family: material
-- why: >-
--   The material of a key in an external key store never enters AWS: each decryption asks a key manager that somebody
--   else runs. If that is slow, unreachable or gone, so is the data. That may be exactly what is wanted; it should be
--   known which data it is.
-- fix: >-
--   If the dependency is wanted, waive the key with the reason, and watch the proxy's latency and availability
--   (XksProxyResponseTime and XksProxyErrors in CloudWatch). If it is not, encrypt the data under a key with material
--   from KMS before the key manager is given up: a key cannot move out of its store.
-- console: >-
--   In KMS, "External key stores", open the store to see its keys, proxy and metrics.
-- cli: |-
--   aws kms describe-key --key-id KEY_ARN --query KeyMetadata.XksKeyConfiguration
-- terraform: >-
--   In the resource that uses the key set kms_key_id to an aws_kms_key in place of one with xks_key_id.
-- parameters:
--   days: {default: "90", about: "A key that was called within so many days counts as used."}
WITH considered AS (
  SELECT k.*, n.denied_resource_actions AS blind,
    (SELECT arg_max(started_at, run_id) FROM runs) - to_days(CAST($days AS INTEGER)) AS oldest
  FROM internal.customer_keys k
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
  WHERE k.origin IS NULL OR k.origin = 'EXTERNAL_KEY_STORE'
), weighed AS (
  SELECT *,
    CASE WHEN last_use = 'never_used' AND last_use_reported_at IS NOT NULL THEN false
      WHEN last_used_at >= oldest THEN true
      WHEN last_use = 'used' AND last_used_at IS NULL THEN NULL
      WHEN coalesce(last_used_at, last_use_tracked_since) < oldest AND last_use_reported_at IS NOT NULL THEN false
    END AS called
  FROM considered
)
SELECT
  key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'not_applicable'
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL THEN 'unknown'
    WHEN dependent_resources > 0 OR grants > 0 OR called THEN 'fail'
    WHEN grants IS NULL OR called IS NULL OR len(blind) > 0 THEN 'unknown'
    WHEN dependent_resources = 0 AND grants = 0 AND NOT called THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN 'The deletion of the key is scheduled.'
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL THEN 'The key could not be described' || denied_note || '.'
    WHEN dependent_resources > 0 THEN 'Its material is outside AWS, and ' || dependent_resources || ' resource(s) use it.'
    WHEN grants > 0 THEN 'Its material is outside AWS, and it has ' || grants || ' grant(s).'
    WHEN called THEN 'Its material is outside AWS, and it was used in the last ' || $days || ' days.'
    WHEN grants IS NULL THEN 'Nothing that was crawled uses it, but its grants could not be read' || denied_note || '.'
    WHEN len(blind) > 0 THEN 'Nothing that was crawled uses it, but not all could be: refused were '
      || array_to_string(blind, ', ') || '.'
    WHEN called IS NULL THEN 'Nothing that was crawled uses it; whether it was called in the last ' || $days
      || ' days is not known' || coalesce(' (' || last_use_reason || ')', '') || '.'
    ELSE 'Nothing uses the key.'
  END || stale_note AS reason
FROM weighed
