-- The vendor profiles in use with their counts, failing profiles first.
SELECT profile, any_value(vendor) AS vendor,
    count(*) FILTER (WHERE subject_type = 'key') AS "keys",
    count(*) FILTER (WHERE subject_type = 'key' AND result = 'broken') AS broken,
    count(*) FILTER (WHERE subject_type = 'key' AND result = 'blocked_by_policy') AS blocked_by_policy,
    count(*) FILTER (WHERE subject_type = 'key' AND result = 'over_shared') AS over_shared,
    count(*) FILTER (WHERE subject_type = 'key' AND result = 'unknown') AS unknown,
    count(*) FILTER (WHERE subject_type = 'key' AND result = 'accessible') AS accessible,
    count(*) FILTER (WHERE subject_type = 'key' AND result = 'not_selected') AS not_selected,
    count(*) FILTER (WHERE subject_type = 'key' AND result = 'denied_by_tag') AS denied_by_tag,
    count(*) FILTER (WHERE subject_type = 'finding' AND result = 'wrong') AS wrong,
    min(deadline) AS deadline,
    date_diff('day', (SELECT started_at FROM runs ORDER BY run_id DESC LIMIT 1), min(deadline)) AS days_left,
    min(reason) FILTER (WHERE subject_type = 'profile') AS not_checked,
    min(fix) FILTER (WHERE subject_type = 'profile') AS to_configure
FROM vendor_checks
GROUP BY profile
ORDER BY "keys" = 0 AND wrong = 0, broken > 0 DESC, blocked_by_policy > 0 DESC, over_shared + wrong > 0 DESC, vendor, profile
