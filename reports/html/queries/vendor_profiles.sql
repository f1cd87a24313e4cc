-- The uses of vendor profiles with their counts, failing ones first.
SELECT profile, any_value(vendor) AS vendor,
    count(*) FILTER (WHERE kind = 'key') AS "keys",
    count(*) FILTER (WHERE kind = 'key' AND verdict = 'broken') AS broken,
    count(*) FILTER (WHERE kind = 'key' AND verdict = 'blocked_by_policy') AS blocked_by_policy,
    count(*) FILTER (WHERE kind = 'key' AND verdict = 'over_shared') AS over_shared,
    count(*) FILTER (WHERE kind = 'key' AND verdict = 'unknown') AS unknown,
    count(*) FILTER (WHERE kind = 'key' AND verdict = 'accessible') AS accessible,
    count(*) FILTER (WHERE kind = 'key' AND verdict = 'not_selected') AS not_selected,
    count(*) FILTER (WHERE kind = 'key' AND verdict = 'denied_by_tag') AS denied_by_tag,
    count(*) FILTER (WHERE kind = 'finding' AND verdict = 'wrong') AS wrong,
    min(deadline) AS deadline,
    date_diff('day', (SELECT started_at FROM runs ORDER BY run_id DESC LIMIT 1), min(deadline)) AS days_left,
    any_value(reason) FILTER (WHERE kind = 'profile') AS not_checked,
    any_value(fix) FILTER (WHERE kind = 'profile') AS to_configure
FROM vendor_checks
GROUP BY profile
ORDER BY "keys" = 0 AND wrong = 0, broken > 0 DESC, blocked_by_policy > 0 DESC, over_shared + wrong > 0 DESC, vendor, profile
