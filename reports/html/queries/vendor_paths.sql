-- What the removal of each statement or grant would end: the operations that no other path of the vendor allows, over all keys with a
-- statement of this name. A path through which others have access too (everyone, for example) remains as well.
WITH allowed AS (
    SELECT e.path, e.source_id, e.key_arn, e.principal, e.operations, e.conditions,
        len(list_filter(coalesce(v.fallback_paths[e.source_id], []), lambda other: NOT list_contains(v.paths, other))) > 0 AS remains
    FROM effective_access AS e
    JOIN vendors AS v USING (key_arn)
),
elsewhere AS (
    SELECT a.key_arn, a.path, a.source_id, list_distinct(flatten(list(b.operations))) AS operations
    FROM allowed AS a
    JOIN allowed AS b ON b.key_arn = a.key_arn AND (b.path, b.source_id) <> (a.path, a.source_id)
    GROUP BY ALL
),
lost AS (
    SELECT a.*, CASE WHEN a.remains THEN [] ELSE list_filter(a.operations, lambda operation: list_contains(o.operations, operation) IS NOT TRUE) END AS ending
    FROM allowed AS a
    LEFT JOIN elsewhere AS o USING (key_arn, path, source_id)
),
dependent AS (
    SELECT l.path, l.source_id, count(DISTINCT u.resource_arn) AS dependents
    FROM lost AS l
    JOIN resource_keys AS u USING (key_arn)
    WHERE list_contains(l.ending, 'kms:Decrypt')
    GROUP BY l.path, l.source_id
)
SELECT CASE path WHEN 'grant' THEN 'grant' ELSE 'statement' END AS kind, source_id,
    string_agg(DISTINCT principal, chr(10) ORDER BY principal) AS principals,
    coalesce(string_agg(DISTINCT nullif(conditions, ''), chr(10) ORDER BY nullif(conditions, '')), 'none') AS conditions,
    count(DISTINCT key_arn) AS "keys",
    coalesce(nullif(array_to_string(list_sort(list_distinct(flatten(list(ending)))), ', ').replace('kms:', ''), ''), 'nothing') AS ending,
    count(DISTINCT key_arn) FILTER (len(ending) > 0) AS ending_keys, coalesce(any_value(d.dependents), 0) AS dependents,
    count(*) OVER () AS total
FROM lost
LEFT JOIN dependent AS d USING (path, source_id)
GROUP BY path, source_id
ORDER BY dependents DESC, ending_keys DESC, "keys" DESC, kind, source_id
LIMIT $limit
