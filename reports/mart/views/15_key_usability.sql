-- Whether the keys of each resource can be used, and why not.
--: resource_arn | The resource.
--: resource_type | The CloudFormation type name.
--: account_id | The resource's account.
--: region | The resource's region.
--: name | The resource's name.
--: status | The status of the resource, as the service reports it.
--: usability | usable; unusable: at least one of its keys is disabled, has no key material, is pending deletion or does not exist; unknown; no_key.
--: reason | The keys that decide, each with its state, in words.
--: key_arn | The unusable key, or else its key; the first one if there are several.
--: freshness | current, or stale: the run could not read its keys, or the state of one, again.
--: stale_note | A sentence to append to the reason if the data is stale; empty text otherwise.
WITH evaluated AS (
  SELECT u.resource_arn, u.resource_type, u.key_arn,
    u.freshness = 'stale' OR (u.key_class = 'customer' AND k.freshness = 'stale') AS stale,
    CASE
      WHEN u.key_class = 'none' THEN 'no_key'
      WHEN u.key_class = 'dangling' THEN 'unusable'
      WHEN u.key_class IN ('aws_managed', 'aws_owned') THEN 'usable'
      WHEN u.key_class = 'customer' AND u.key_state NOT IN ('Enabled', 'Creating', 'Updating') THEN 'unusable'
      WHEN u.key_class = 'customer' AND u.key_state IS NOT NULL THEN 'usable'
      ELSE 'unknown'
    END AS usability,
    coalesce('The key ' || coalesce(u.key_alias, u.key_arn, u.raw_value),
      CASE WHEN u.key_class IN ('aws_managed', 'aws_owned') THEN 'A key of the service' ELSE 'Its key' END)
      || CASE WHEN u.role IN ('storage', 'secret', 'default-encryption', 'logs', 'unknown')
        THEN '' ELSE ' (' || u.role || ')' END
      || CASE
        WHEN u.key_class = 'dangling' THEN ' no longer exists'
        WHEN u.key_class = 'not_crawled' THEN ' is in an account or region that was not crawled'
        WHEN u.key_class = 'customer' AND k.deletion_date IS NOT NULL
          THEN ' will be deleted on ' || strftime(k.deletion_date, '%Y-%m-%d')
        WHEN u.key_class = 'customer' AND u.key_state IS NULL THEN ' could not be described'
        WHEN u.key_class = 'customer' THEN ' is in state ' || u.key_state
        WHEN u.key_class IN ('aws_managed', 'aws_owned') THEN ' is kept by AWS'
        ELSE ' is not known: ' || coalesce(u.reason, 'no reason was given')
      END AS message
  FROM resource_keys_as_of(as_of_run) u
  LEFT JOIN keys_as_of(as_of_run) k ON k.key_arn = u.key_arn
), reported AS (
  SELECT resource_arn, resource_type,
    CASE WHEN bool_or(usability = 'unusable') THEN 'unusable' WHEN bool_or(usability = 'unknown') THEN 'unknown'
      WHEN bool_or(usability = 'usable') THEN 'usable' ELSE 'no_key' END AS usability,
    coalesce(bool_or(stale), false) AS stale,
    coalesce(min(key_arn) FILTER (usability = 'unusable'), min(key_arn)) AS key_arn,
    coalesce(list(message) FILTER (usability = 'unusable'), list(message) FILTER (usability = 'unknown'),
      list(message) FILTER (usability = 'usable')) AS sentences
  FROM evaluated
  GROUP BY resource_arn, resource_type
)
SELECT s.resource_arn, s.resource_type, s.account_id, s.region, s.name, s.status,
  coalesce(t.usability, 'unknown') AS usability,
  CASE
    WHEN t.usability IS NULL THEN 'Its key is not known: the crawl returned no data for it.'
    WHEN t.usability = 'no_key' AND s.resource_type = 'AWS::S3::Bucket'
      THEN 'It is not encrypted with a KMS key by default.'
    WHEN t.usability = 'no_key' THEN 'It is not encrypted with a KMS key.'
    ELSE array_to_string(list_sort(t.sentences), '; ') || '.'
  END AS reason,
  t.key_arn, CASE WHEN coalesce(t.stale, s.freshness = 'stale') THEN 'stale' ELSE 'current' END AS freshness,
  CASE WHEN coalesce(t.stale, s.freshness = 'stale') THEN ' This is the last known state.' ELSE '' END AS stale_note
FROM resources_as_of(as_of_run) s
LEFT JOIN reported t ON t.resource_arn = s.resource_arn AND t.resource_type = s.resource_type
