-- Accounts with the outcome of each of their regions, accounts with gaps first.
WITH gaps AS (
    SELECT account_id, region, count(*) AS gaps FROM coverage WHERE outcome = 'gap' GROUP BY account_id, region
)
SELECT
    coalesce(any_value(c.account_name), c.account_id) AS account, c.account_id,
    min($outcomes[c.outcome] || coalesce(': ' || coalesce(c.cause_text, c.message), '')) FILTER (WHERE c.region = '*') AS whole,
    map_from_entries(list({'k': c.region, 'v': CASE
        WHEN g.gaps = 1 AND c.outcome IN ('complete', 'partial') THEN '1 gap'
        WHEN g.gaps > 1 AND c.outcome IN ('complete', 'partial') THEN g.gaps || ' gaps'
        ELSE c.outcome
    END}) FILTER (WHERE c.region <> '*')) AS cells,
    count(*) OVER () AS total
FROM coverage AS c
LEFT JOIN gaps AS g USING (account_id, region)
WHERE c.outcome <> 'gap'
GROUP BY c.account_id
ORDER BY
    count(*) FILTER (WHERE c.outcome = 'failed') DESC, sum(coalesce(g.gaps, 0)) DESC,
    count(*) FILTER (WHERE c.outcome = 'complete') = 0, account, c.account_id
LIMIT $limit
