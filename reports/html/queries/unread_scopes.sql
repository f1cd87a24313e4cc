-- Missing data by cause, most frequent first: unread account-regions, then missing responses in the other account-regions.
WITH failed AS (
    SELECT DISTINCT account_id, region FROM coverage WHERE outcome = 'failed'
),
unread AS (
    SELECT
        1 AS sort_order,
        account_id,
        any_value(account_name) AS account_name,
        list_sort(list(region)) AS regions,
        NULL AS actions,
        coalesce(cause_text, cause, 'no reason recorded') AS cause,
        count(*) AS answers,
        1 AS accounts
    FROM coverage
    WHERE outcome = 'failed'
    GROUP BY account_id, coalesce(cause_text, cause, 'no reason recorded')
),
gap AS (
    SELECT
        2 AS sort_order,
        CASE WHEN count(DISTINCT account_id) = 1 THEN any_value(account_id) END AS account_id,
        CASE WHEN count(DISTINCT account_id) = 1 THEN any_value(account_name) END AS account_name,
        list_sort(list(DISTINCT region)) AS regions,
        list_sort(list(DISTINCT action)) AS actions,
        coalesce(cause_text, cause, 'no reason recorded') AS cause,
        count(*) AS answers,
        count(DISTINCT account_id) AS accounts
    FROM coverage ANTI JOIN failed USING (account_id, region)
    WHERE outcome = 'gap'
    GROUP BY coalesce(cause_text, cause, 'no reason recorded')
)
SELECT *, count(*) OVER () AS total
FROM (SELECT * FROM unread UNION ALL SELECT * FROM gap)
ORDER BY sort_order, answers DESC, account_id, cause
LIMIT $limit
