-- The start of the first run with the current `state` of a key, and whether an earlier run saw another state.
WITH version AS (
  SELECT m.valid_from, m.state IS DISTINCT FROM $state AS differs, r.started_at
  FROM internal.key_metadata m LEFT JOIN internal.run r ON r.run_id = m.valid_from
  WHERE m.key_arn = $key_arn AND m.valid_from <= $run
)
SELECT arg_min_null(started_at, valid_from) FILTER (valid_from > coalesce(latest, 0)) AS since, any_value(latest) IS NOT NULL AS seen_before
FROM version, (SELECT max(valid_from) FILTER (differs) AS latest FROM version)
