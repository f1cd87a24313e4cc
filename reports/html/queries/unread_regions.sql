-- Account-regions that were not read, or in which a whole listing is missing; one row per cause.
WITH unread_scope AS (
    SELECT
        account_id,
        any_value(account_name) AS account_name,
        region,
        bool_or(outcome = 'failed') AS unread,
        list_sort(list(DISTINCT action) FILTER (WHERE outcome = 'gap')) AS actions,
        coalesce(
            any_value(cause_text ORDER BY action) FILTER (WHERE outcome = 'gap'),
            any_value(cause_text) FILTER (WHERE outcome = 'failed'),
            'no reason recorded'
        ) AS cause,
        max(consecutive_runs) AS consecutive_runs
    FROM coverage
    WHERE outcome = 'failed' OR (outcome = 'gap' AND subject = '')
    GROUP BY account_id, region
)
SELECT
    unread,
    CASE WHEN NOT unread THEN actions END AS actions,
    cause,
    count(*) AS scopes,
    list({'account_id': account_id, 'account_name': account_name, 'region': region}
        ORDER BY consecutive_runs DESC, account_id, region)[1:3] AS examples,
    max(consecutive_runs) AS consecutive_runs
FROM unread_scope
GROUP BY ALL
ORDER BY unread DESC, scopes DESC, cause, actions
