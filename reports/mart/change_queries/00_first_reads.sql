-- What the crawl read for the first time: account-regions, keys, and facts whose request had been denied until then.
CREATE TEMP TABLE first_crawl AS
SELECT account_id, region, min(run_id) AS run_id FROM internal.scope_coverage
WHERE outcome IN ('complete', 'partial')
GROUP BY account_id, region;

CREATE TEMP TABLE known_key AS
SELECT k.key_arn, any_value(k.key_id) AS key_id, any_value(k.account_id) AS account_id, any_value(k.region) AS region,
  min(k.valid_from) AS first_seen_run, any_value(f.run_id) AS crawled_from
FROM internal.key k
LEFT JOIN first_crawl f ON f.account_id = k.account_id AND f.region = k.region
GROUP BY k.key_arn;

-- Calls denied since the subject was first seen: their first results are not additions.
-- A gap whose cause changes is still the same denial.
CREATE TEMP TABLE denied AS
SELECT account_id, region, operation, subject, min(valid_from) AS valid_from,
  CASE WHEN bool_and(valid_to IS NOT NULL) THEN max(valid_to) END AS valid_to
FROM (
  SELECT *, count(*) FILTER (valid_from IS DISTINCT FROM before)
    OVER (PARTITION BY account_id, region, service, operation, subject ORDER BY valid_from) AS denial
  FROM (
    SELECT *, lag(valid_to) OVER (PARTITION BY account_id, region, service, operation, subject ORDER BY valid_from) AS before
    FROM internal.gap
  )
)
GROUP BY account_id, region, service, operation, subject, denial;
CREATE TEMP TABLE first_read AS
SELECT DISTINCT g.subject AS arn, g.operation, g.valid_to AS run_id
FROM denied g JOIN known_key k ON k.key_arn = g.subject
WHERE g.valid_to IS NOT NULL AND g.valid_from <= k.first_seen_run;
CREATE TEMP TABLE first_listed AS
SELECT DISTINCT g.account_id, g.region, g.operation, g.valid_to AS run_id
FROM denied g JOIN first_crawl f ON f.account_id = g.account_id AND f.region = g.region
WHERE g.valid_to IS NOT NULL AND g.subject = '' AND g.valid_from <= f.run_id
