-- Accounts with the outcome of each of their regions, accounts with gaps first.
WITH gaps AS (
    SELECT account_id, region, count(*) AS gaps FROM coverage WHERE outcome = 'gap' GROUP BY account_id, region
)
SELECT
    c.account_id,
    any_value(c.account_name) AS account_name,
    list({
        'region': c.region, 'outcome': c.outcome, 'gaps': coalesce(g.gaps, 0),
        'cause': coalesce(c.cause_text, c.message)
    } ORDER BY c.region) AS cells,
    count(*) OVER () AS total
FROM coverage AS c
LEFT JOIN gaps AS g USING (account_id, region)
WHERE c.outcome <> 'gap'
GROUP BY c.account_id
ORDER BY
    count(*) FILTER (WHERE c.outcome = 'failed') DESC, sum(coalesce(g.gaps, 0)) DESC,
    count(*) FILTER (WHERE c.outcome = 'complete') = 0, account_name, c.account_id
LIMIT $limit
