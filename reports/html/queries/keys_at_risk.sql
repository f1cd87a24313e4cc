-- Keys that are disabled, pending deletion or about to expire while resources depend on them; `services` counts them by service.
SELECT
    k.key_arn, k.key_id, k.alias, k.account_id, k.account_name, k.region, k.state, k.dependent_resources, k.freshness,
    k.deletion_date, k.days_to_deletion, k.material_expires_at,
    date_diff('day', CAST($at AS TIMESTAMP), k.material_expires_at) AS days_to_expiry,
    left(md5(k.key_arn), 12) AS anchor,
    (
        SELECT list({'service': service, 'resources': resources} ORDER BY resources DESC, service)
        FROM (
            SELECT u.service, count(DISTINCT u.resource_arn) AS resources
            FROM resource_keys AS u WHERE u.key_arn = k.key_arn GROUP BY u.service
        )
    ) AS services
FROM keys AS k
WHERE (k.dependent_resources > 0 AND k.state IS NOT NULL AND k.state NOT IN ('Enabled', 'Creating', 'Updating'))
    OR (k.state = 'Enabled' AND k.material_expires_at < CAST($at AS TIMESTAMP) + INTERVAL 30 DAY)
ORDER BY
    k.state = 'PendingDeletion' DESC, coalesce(k.deletion_date, k.material_expires_at) NULLS LAST,
    k.dependent_resources DESC, k.key_arn
