-- The key figures of a key; no row if it no longer exists.
SELECT k.*, coalesce(k.alias, k.key_id) AS name, o.owner,
    (SELECT count(DISTINCT principal) FROM effective_access WHERE access <> 'unknown') AS principals,
    (SELECT count(DISTINCT principal) FROM effective_access WHERE internal.from_outside(access)) AS outside,
    (SELECT count(*) FROM effective_access WHERE access = 'unknown') AS unknown_access,
    (SELECT count(*) FROM findings WHERE status = 'fail') AS failed,
    (SELECT count(*) FROM findings WHERE status = 'unknown') AS unknown,
    (SELECT unread_resources FROM internal.key_unknowns) AS unread_resources
FROM keys AS k
LEFT JOIN owners AS o ON o.resource_arn = k.key_arn
