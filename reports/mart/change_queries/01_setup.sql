-- When keys and resources begin and end, and the table that collects the changes.
CREATE TEMP TABLE key_begins AS
SELECT key_arn, valid_from AS run_id FROM internal.key WHERE valid_to IS DISTINCT FROM valid_from;
CREATE TEMP TABLE key_ends AS
SELECT key_arn, valid_to AS run_id FROM internal.key WHERE valid_to IS NOT NULL AND valid_to <> valid_from;
CREATE TEMP TABLE resource_begins AS
SELECT resource_arn, min(valid_from) AS run_id FROM internal.resource GROUP BY resource_arn;
CREATE TEMP TABLE resource_ends AS
SELECT r.resource_arn, r.valid_to AS run_id FROM internal.resource r
WHERE r.valid_to IS NOT NULL AND r.valid_to <> r.valid_from
  AND NOT EXISTS (FROM internal.resource n WHERE n.resource_arn = r.resource_arn AND n.valid_from = r.valid_to);

-- A message is head, subject, account and region (if located), tail. Without a subject, it is about the key.
CREATE TEMP TABLE stage (
  run_id INTEGER, account_id VARCHAR, region VARCHAR, key_arn VARCHAR, resource_arn VARCHAR, subject VARCHAR,
  event_type VARCHAR, severity VARCHAR, head VARCHAR, tail VARCHAR, located BOOLEAN, before VARCHAR, after VARCHAR,
  key_before VARCHAR, key_after VARCHAR
);
