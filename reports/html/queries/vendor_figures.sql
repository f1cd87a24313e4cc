-- The key figures of a vendor.
WITH usable AS (
    SELECT key_arn FROM vendors
    UNION
    SELECT key_arn FROM vendor_checks WHERE subject_type = 'key' AND result IN ('accessible', 'over_shared') AND key_arn IS NOT NULL
)
SELECT
    (SELECT count(*) FROM usable) AS usable,
    (SELECT count(DISTINCT split_part(key_arn, ':', 5)) FROM usable) AS accounts,
    (SELECT count(DISTINCT key_arn) FROM vendor_checks WHERE subject_type = 'key' AND result IN ('broken', 'blocked_by_policy')) AS blocked,
    (SELECT count(DISTINCT key_arn) FROM vendor_checks WHERE subject_type = 'key' AND result = 'unknown') AS unknown,
    (SELECT count(*) FROM vendor_checks WHERE result IN ('broken', 'blocked_by_policy', 'over_shared', 'wrong')) AS deviations,
    (SELECT count(DISTINCT profile) FROM vendor_checks) AS profiles,
    (SELECT min(deadline) FROM vendor_checks) AS deadline,
    (SELECT count(DISTINCT resource_arn) FROM resource_keys SEMI JOIN usable USING (key_arn)) AS resources,
    (SELECT max(last_used_at) FROM keys SEMI JOIN usable USING (key_arn)) AS last_used_at,
    (SELECT count(*) FROM keys SEMI JOIN usable USING (key_arn) WHERE last_use = 'unknown') AS last_use_unknown,
    (SELECT count(*) FROM internal.unknown_access) AS keys_with_unknown_access
