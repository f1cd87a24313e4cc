-- What every kind of change needs: since when a place and a key are known, and where the changes are gathered.
CREATE TEMP TABLE first_crawl AS
SELECT account_id, region, min(run_id) AS run_id FROM ledger.scope_run
WHERE outcome IN ('complete', 'partial')
GROUP BY account_id, region;

CREATE TEMP TABLE known_key AS
SELECT k.key_arn, any_value(k.key_id) AS key_id, any_value(k.account_id) AS account_id, any_value(k.region) AS region,
  min(k.valid_from) AS first_run, any_value(f.run_id) AS crawled_from
FROM ledger.key k
LEFT JOIN first_crawl f ON f.account_id = k.account_id AND f.region = k.region
GROUP BY k.key_arn;

CREATE TEMP TABLE key_begins AS
SELECT key_arn, valid_from AS run_id FROM ledger.key WHERE valid_to IS DISTINCT FROM valid_from;
CREATE TEMP TABLE key_ends AS
SELECT key_arn, valid_to AS run_id FROM ledger.key WHERE valid_to IS NOT NULL AND valid_to <> valid_from;
CREATE TEMP TABLE resource_begins AS
SELECT resource_arn, min(valid_from) AS run_id FROM ledger.resource GROUP BY resource_arn;
CREATE TEMP TABLE resource_ends AS
SELECT r.resource_arn, r.valid_to AS run_id FROM ledger.resource r
WHERE r.valid_to IS NOT NULL AND r.valid_to <> r.valid_from
  AND NOT EXISTS (FROM ledger.resource n WHERE n.resource_arn = r.resource_arn AND n.valid_from = r.valid_to);

-- Answers that had been refused ever since the subject was first seen: their first contents are no additions.
CREATE TEMP TABLE first_learned AS
SELECT DISTINCT g.subject AS arn, g.operation, g.valid_to AS run_id
FROM ledger.gap g JOIN known_key k ON k.key_arn = g.subject
WHERE g.valid_to IS NOT NULL AND g.valid_from <= k.first_run;
CREATE TEMP TABLE first_listed AS
SELECT DISTINCT g.account_id, g.region, g.operation, g.valid_to AS run_id
FROM ledger.gap g JOIN first_crawl f ON f.account_id = g.account_id AND f.region = g.region
WHERE g.valid_to IS NOT NULL AND g.subject = '' AND g.valid_from <= f.run_id;

-- A sentence is head, subject, place (if told), tail. Without a subject of its own it is about the key.
CREATE TEMP TABLE stage (
  run_id INTEGER, account_id VARCHAR, region VARCHAR, key_arn VARCHAR, resource_arn VARCHAR, subject VARCHAR,
  kind VARCHAR, severity VARCHAR, head VARCHAR, tail VARCHAR, placed BOOLEAN, before VARCHAR, after VARCHAR,
  key_before VARCHAR, key_after VARCHAR
);

CREATE TEMP MACRO noun(resource_type) AS CASE resource_type
  WHEN 'AWS::SecretsManager::Secret' THEN 'secret'
  WHEN 'AWS::S3::Bucket' THEN 'bucket'
  ELSE split_part(resource_type, '::', 2) || ' ' || replace(lower(regexp_replace(regexp_replace(
    split_part(resource_type, '::', 3), '([A-Z]+)([A-Z][a-z])', '\1 \2', 'g'), '([a-z])([A-Z])', '\1 \2', 'g')),
    'db ', 'DB ')
END;
CREATE TEMP MACRO capital(words) AS upper(words[1]) || words[2:];
CREATE TEMP MACRO day(instant) AS strftime(instant, '%Y-%m-%d');
CREATE TEMP MACRO id_of(key_arn) AS regexp_replace(key_arn, '^.*:key/', '')
