-- Customer managed keys by state, rotation, last use, age and origin, in all combinations.
SELECT
    coalesce(state, 'unknown') AS state,
    coalesce(rotation_status, 'unknown') AS rotation,
    CASE
        WHEN last_use = 'never_used' THEN 'never'
        WHEN last_used_at IS NULL THEN 'unknown'
        WHEN last_used_at >= CAST($at AS TIMESTAMP) - INTERVAL 30 DAY THEN 'month'
        WHEN last_used_at >= CAST($at AS TIMESTAMP) - INTERVAL 90 DAY THEN 'quarter'
        ELSE 'longer'
    END AS last_use,
    CASE WHEN age_days IS NULL THEN 'unknown' WHEN age_days < 90 THEN 'quarter' WHEN age_days < 365 THEN 'year'
        WHEN age_days < 3 * 365 THEN 'three_years' ELSE 'older' END AS age,
    coalesce(origin, 'unknown') AS origin,
    count(*) AS keys
FROM keys
WHERE manager = 'CUSTOMER'
GROUP BY ALL
