-- Whether the keys of each resource can be used, and why not.
--: resource_arn | The resource.
--: resource_type | CloudFormation's type name.
--: account_id | The resource's account.
--: region | The resource's region.
--: name | The resource's name.
--: status | The resource's status, in the service's words.
--: usable | yes; no: one of its keys at least is disabled, without material, about to be deleted or gone; unknown; no key.
--: reason | The keys that decide it, each with its state, as sentences.
--: key_arn | The key that cannot be used, or else its key; the first one where there are several.
--: known | yes, or last known: the run could not see the resource again.
--: stale | A sentence to put behind an answer, when it is the last known one. Empty text otherwise.
WITH judged AS (
  SELECT u.resource_arn, u.resource_type, u.key_arn,
    CASE
      WHEN u.key_class = 'none' THEN 'no key'
      WHEN u.key_class = 'dangling' THEN 'no'
      WHEN u.key_class IN ('aws_managed', 'aws_owned') THEN 'yes'
      WHEN u.key_class = 'customer' AND u.key_state NOT IN ('Enabled', 'Creating', 'Updating') THEN 'no'
      WHEN u.key_class = 'customer' AND u.key_state IS NOT NULL THEN 'yes'
      ELSE 'unknown'
    END AS usable,
    coalesce('The key ' || coalesce(u.key_alias, u.key_arn, u.raw),
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
      END AS sentence
  FROM key_usage_as_of(as_of_run) u
  LEFT JOIN keys_as_of(as_of_run) k ON k.key_arn = u.key_arn
), told AS (
  SELECT resource_arn, resource_type,
    CASE WHEN bool_or(usable = 'no') THEN 'no' WHEN bool_or(usable = 'unknown') THEN 'unknown'
      WHEN bool_or(usable = 'yes') THEN 'yes' ELSE 'no key' END AS usable,
    coalesce(min(key_arn) FILTER (usable = 'no'), min(key_arn)) AS key_arn,
    coalesce(list(sentence) FILTER (usable = 'no'), list(sentence) FILTER (usable = 'unknown'),
      list(sentence) FILTER (usable = 'yes')) AS sentences
  FROM judged
  GROUP BY resource_arn, resource_type
)
SELECT s.resource_arn, s.resource_type, s.account_id, s.region, s.name, s.status,
  coalesce(t.usable, 'unknown') AS usable,
  CASE
    WHEN t.usable IS NULL THEN 'Its key is not known: the crawl has no answer for it.'
    WHEN t.usable = 'no key' AND s.resource_type = 'AWS::S3::Bucket'
      THEN 'It is not encrypted with a KMS key by default.'
    WHEN t.usable = 'no key' THEN 'It is not encrypted with a KMS key.'
    ELSE array_to_string(list_sort(t.sentences), '; ') || '.'
  END AS reason,
  t.key_arn, s.known,
  CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS stale
FROM resources_as_of(as_of_run) s
LEFT JOIN told t ON t.resource_arn = s.resource_arn AND t.resource_type = s.resource_type
