-- id: external-key-store
-- title: No key in use depends on an external key manager
-- severity: info
-- family: material
-- why: >-
--   The material of a key in an external key store never enters AWS: each decryption calls a key manager outside AWS.
--   If that key manager is slow, unreachable or decommissioned, so is the data. This may be intended, but the affected
--   data should be known.
-- fix: >-
--   If the dependency is intended, waive the key with a justification, and monitor the latency and availability of the
--   proxy (XksProxyLatency and XksProxyErrors in CloudWatch). If it is not, encrypt the data under a key with KMS
--   material before the key manager is decommissioned; a key cannot be moved out of its store.
-- console: >-
--   In KMS, "External key stores", open the store to see its keys, proxy and metrics.
-- cli: |-
--   aws kms describe-key --key-id KEY_ARN --query KeyMetadata.XksKeyConfiguration
-- terraform: >-
--   In the resource that uses the key, set kms_key_id to an aws_kms_key instead of one with xks_key_id.
-- parameters:
--   days: {default: "90", about: "A key that was called within this number of days counts as used."}
WITH candidate AS (
  SELECT k.*, n.unread_uses, r.started_at - to_days(CAST($days AS INTEGER)) AS oldest
  FROM internal.customer_keys k
  CROSS JOIN internal.latest_run r
  LEFT JOIN internal.key_unknowns n ON n.key_arn = k.key_arn
  WHERE k.origin IS NULL OR k.origin = 'EXTERNAL_KEY_STORE'
), evaluated AS (
  SELECT *,
    CASE WHEN last_use = 'never_used' AND last_use_reported_at IS NOT NULL THEN false
      WHEN last_used_at >= oldest THEN true
      WHEN last_use = 'used' AND last_used_at IS NULL THEN NULL
      WHEN coalesce(last_used_at, last_use_tracked_since) < oldest AND last_use_reported_at IS NOT NULL THEN false
    END AS recently_called
  FROM candidate
)
SELECT key_arn AS resource_arn, account_id, region, key_arn, stale_note AS note,
  CASE
    WHEN state IN ('PendingDeletion', 'PendingReplicaDeletion') THEN not_applicable('The key is scheduled for deletion.')
    WHEN manager IS NULL OR origin IS NULL OR state IS NULL THEN internal.undescribed(failure_causes)
    WHEN dependent_resources > 0
      THEN fail('Its key material is outside AWS, and '
        || internal.counted(dependent_resources, 'resource uses it.', 'resources use it.'))
    WHEN grants > 0 THEN fail('Its key material is outside AWS, and it has ' || internal.counted(grants, 'grant.', 'grants.'))
    WHEN recently_called THEN fail('Its key material is outside AWS, and it was used in the last ' || $days || ' days.')
    WHEN unread_uses IS NOT NULL THEN unknown(unread_uses)
    WHEN recently_called IS NULL
      THEN unknown('No crawled resource uses it; could not determine whether it was called in the last ' || $days || ' days'
        || coalesce(' (' || last_use_reason || ')', '') || '.')
    WHEN dependent_resources = 0 THEN pass('Nothing uses the key.')
  END AS verdict
FROM evaluated
