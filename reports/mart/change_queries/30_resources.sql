-- Created and deleted resources, and changes of resources that affect their key.
CREATE TEMP TABLE known_resource AS
SELECT r.resource_arn, arg_max(r.resource_type, r.valid_from) AS resource_type, arg_max(r.name, r.valid_from) AS name,
  arg_max(r.account_id, r.valid_from) AS account_id, arg_max(r.region, r.valid_from) AS region,
  arg_max(f.run_id, r.valid_from) AS crawled_from
FROM internal.resource r
LEFT JOIN first_crawl f ON f.account_id = r.account_id AND f.region = r.listing_region
GROUP BY r.resource_arn;

-- A newer version may list more resource types: resources of a new type were not created in that run.
CREATE TEMP TABLE new_type AS
SELECT t.resource_type, t.run_id
FROM (SELECT resource_type, min(valid_from) AS run_id FROM internal.resource GROUP BY resource_type) t
JOIN internal.run r ON r.run_id = t.run_id
JOIN internal.run b ON b.run_id = (SELECT max(run_id) FROM internal.run x WHERE x.run_id < t.run_id)
WHERE r.version <> b.version;

INSERT INTO stage
SELECT n.run_id, k.account_id, k.region, NULL, k.resource_arn, k.name, 'resource_created', 'info',
  capital(noun(k.resource_type)) || ' ', ' was created.', true, NULL, NULL, NULL, NULL
FROM resource_begins n
JOIN known_resource k ON k.resource_arn = n.resource_arn
WHERE n.run_id > k.crawled_from
  AND NOT EXISTS (FROM new_type t WHERE t.resource_type = k.resource_type AND t.run_id = n.run_id);
INSERT INTO stage
SELECT e.run_id, k.account_id, k.region, NULL, k.resource_arn, k.name, 'resource_gone', 'low',
  capital(noun(k.resource_type)) || ' ', ' no longer exists.', true, NULL, NULL, NULL, NULL
FROM resource_ends e
JOIN known_resource k ON k.resource_arn = e.resource_arn;

INSERT INTO stage
SELECT n.valid_from, n.account_id, n.region, NULL, n.resource_arn, n.name, 'metadata_changed',
  CASE WHEN starts_with(n.status, 'inaccessible-encryption-credentials') THEN severity_of('database-key-usable') ELSE 'medium' END,
  capital(noun(n.resource_type)) || ' ',
  CASE
    WHEN starts_with(n.status, 'inaccessible-encryption-credentials') AND n.status IS DISTINCT FROM o.status
      THEN ' lost access to its key: its status is ' || n.status || '.'
    WHEN starts_with(o.status, 'inaccessible-encryption-credentials') AND n.status IS DISTINCT FROM o.status
      THEN ' is accessible again: its status is ' || coalesce(n.status, 'unknown') || '.'
    WHEN o.deletion_at IS NULL AND n.deletion_at IS NOT NULL THEN ' was scheduled for deletion.'
    WHEN o.deletion_at IS NOT NULL AND n.deletion_at IS NULL THEN ' is no longer scheduled for deletion.'
    ELSE ' is now encrypted as ' || coalesce(n.encryption, 'unknown') || ' (was ' || coalesce(o.encryption, 'unknown') || ').'
  END,
  true, concat_ws(', ', o.status, o.encryption, day(o.deletion_at)), concat_ws(', ', n.status, n.encryption, day(n.deletion_at)),
  NULL, NULL
FROM internal.resource n
JOIN internal.resource o ON o.resource_arn = n.resource_arn AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
WHERE n.valid_to IS DISTINCT FROM n.valid_from
  AND (
    n.encryption IS DISTINCT FROM o.encryption
    OR (n.deletion_at IS NULL) <> (o.deletion_at IS NULL)
    OR (n.status IS DISTINCT FROM o.status AND (
      starts_with(n.status, 'inaccessible-encryption-credentials') OR starts_with(o.status, 'inaccessible-encryption-credentials')
    ))
  );

-- A different key, no key, or a key that no longer exists. A key that became known or unknown is not a change.
INSERT INTO stage
SELECT n.valid_from, k.account_id, k.region, coalesce(n.key_arn, o.key_arn), n.resource_arn, k.name, 'rekeyed',
  CASE WHEN n.key_class = 'dangling' THEN severity_of('key-unusable-in-use')
    WHEN n.key_class = 'none' AND k.resource_type LIKE 'AWS::RDS::%' THEN severity_of('database-encrypted')
    ELSE severity_of('bucket-kms-encryption') END,
  capital(noun(k.resource_type)) || ' ', NULL, false,
  coalesce(o.key_arn, o.key_class), coalesce(n.key_arn, n.key_class), o.key_arn, n.key_arn
FROM internal.resource_key n
JOIN internal.resource_key o ON o.resource_arn = n.resource_arn AND o.role = n.role AND o.position = n.position
  AND o.valid_to = n.valid_from AND o.valid_from < n.valid_from
JOIN known_resource k ON k.resource_arn = n.resource_arn
WHERE n.valid_to IS DISTINCT FROM n.valid_from
  AND CASE
    WHEN n.key_arn IS NOT DISTINCT FROM o.key_arn
      THEN n.key_class <> o.key_class AND (n.key_class = 'dangling' OR n.key_arn IS NULL)
        AND n.key_class NOT IN ('unknown', 'not_crawled') AND o.key_class NOT IN ('unknown', 'not_crawled')
    WHEN n.key_arn IS NULL THEN n.key_class NOT IN ('unknown', 'not_crawled')
    WHEN o.key_arn IS NULL THEN o.key_class NOT IN ('unknown', 'not_crawled')
    ELSE true
  END;

-- Tags of keys and resources.
CREATE TEMP TABLE tag_owner AS
SELECT key_arn AS arn, key_arn, NULL AS resource_arn, account_id, region, crawled_from, NULL AS name, 'key ' AS noun
FROM known_key
UNION ALL
SELECT resource_arn, NULL, resource_arn, account_id, region, crawled_from, name, noun(resource_type) || ' '
FROM known_resource;
CREATE TEMP TABLE owner_begins AS FROM key_begins UNION ALL FROM resource_begins;
CREATE TEMP TABLE owner_ends AS FROM key_ends UNION ALL FROM resource_ends;
INSERT INTO stage
SELECT n.valid_from, w.account_id, w.region, w.key_arn, w.resource_arn, w.name,
  CASE WHEN o.tag_key IS NULL THEN 'tag_added' ELSE 'tag_changed' END, 'low',
  CASE WHEN o.tag_key IS NULL THEN 'Tag ' || n.tag_key || '=' || n.tag_value || ' was added to '
    ELSE 'Tag ' || n.tag_key || ' of ' END || w.noun,
  CASE WHEN o.tag_key IS NULL THEN '.' ELSE ' is now ' || n.tag_value || ' (was ' || o.tag_value || ').' END,
  false, o.tag_value, n.tag_value, NULL, NULL
FROM internal.tag n
JOIN tag_owner w ON w.arn = n.resource_arn
LEFT JOIN internal.tag o ON o.resource_arn = n.resource_arn AND o.tag_key = n.tag_key AND o.valid_to = n.valid_from
  AND o.valid_from < n.valid_from
WHERE n.valid_to IS DISTINCT FROM n.valid_from AND n.valid_from > w.crawled_from
  AND NOT EXISTS (FROM owner_begins b WHERE b.key_arn = n.resource_arn AND b.run_id = n.valid_from)
  AND NOT EXISTS (
    FROM first_read l WHERE l.arn = n.resource_arn AND l.operation = 'ListResourceTags' AND l.run_id = n.valid_from
  );
INSERT INTO stage
SELECT o.valid_to, w.account_id, w.region, w.key_arn, w.resource_arn, w.name, 'tag_removed', 'medium',
  'Tag ' || o.tag_key || '=' || o.tag_value || ' was removed from ' || w.noun, '.', false, o.tag_value, NULL, NULL, NULL
FROM internal.tag o
JOIN tag_owner w ON w.arn = o.resource_arn
WHERE o.valid_to IS NOT NULL AND o.valid_to <> o.valid_from
  AND NOT EXISTS (
    FROM internal.tag n WHERE n.resource_arn = o.resource_arn AND n.tag_key = o.tag_key AND n.valid_from = o.valid_to
      AND n.valid_to IS DISTINCT FROM n.valid_from
  )
  AND NOT EXISTS (FROM owner_ends e WHERE e.key_arn = o.resource_arn AND e.run_id = o.valid_to)
