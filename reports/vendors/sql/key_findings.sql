-- Findings about the keys `arns`: properties, regions, replicas and delegation. `requirements` is `keys` of the profile.
WITH required AS (
  SELECT unnest(from_json($requirements, '{"properties": [{"name": "VARCHAR", "expect": ["VARCHAR"], "level": "VARCHAR",
    "why": "VARCHAR"}], "regions": ["VARCHAR"], "primary_region": "VARCHAR", "replica_regions": ["VARCHAR"],
    "delegation": "VARCHAR"}'))
), key AS (
  SELECT k.*, p.policy_hash FROM keys k
  LEFT JOIN internal.key_policy p ON p.key_arn = k.key_arn AND internal.known(p.valid_from, p.valid_to, $run)
  WHERE k.key_arn IN (SELECT unnest($arns))
), property AS (
  SELECT property.*, generate_subscripts(properties, 1) AS position FROM (SELECT properties, unnest(properties) AS property FROM required)
), property_value AS (
  SELECT k.key_arn, p.*, CASE p.name WHEN 'key_spec' THEN k.key_spec WHEN 'key_usage' THEN k.key_usage
    WHEN 'origin' THEN k.origin ELSE k.multi_region::VARCHAR END AS value,
    CASE p.name WHEN 'key_spec' THEN 'key spec' WHEN 'key_usage' THEN 'usage' WHEN 'origin' THEN 'key material''s origin'
      ELSE p.name END AS label
  FROM key k, property p
), wrong_property AS (
  SELECT *, p.level = 'required' AS required, {'true': 'a multi-Region key', 'false': 'a single-Region key'} AS kinds
  FROM property_value p WHERE NOT list_contains(expect, value)
  QUALIFY row_number() OVER (PARTITION BY key_arn, name ORDER BY level <> 'required', position) = 1
), gap AS (
  SELECT subject AS key_arn, arg_min(action || ' failed: ' || coalesce(cause_text, cause), action) AS reason FROM coverage
  WHERE outcome = 'gap' AND action = 'kms:DescribeKey' AND subject IN (SELECT unnest($arns)) GROUP BY subject
), found AS (
  SELECT p.key_arn, p.name AS check_name, 'unknown' AS result, 'medium' AS severity,
    'Its ' || p.label || ' is unknown: ' || coalesce(g.reason, 'it was not read') || '.' AS reason, '' AS fix
  FROM property_value p LEFT JOIN gap g ON g.key_arn = p.key_arn WHERE p.value IS NULL
  UNION ALL
  SELECT key_arn, name, if(required, 'wrong', 'advice'), if(required, 'high', 'low'),
    if(name = 'multi_region', 'It is ' || if(value = 'true', kinds.true, kinds.false), 'Its ' || label || ' is ' || value)
      || '; the profile ' || if(required, 'requires ', 'recommends ') || array_to_string(
        if(name = 'multi_region', list_transform(expect, lambda e: CASE e WHEN 'true' THEN kinds.true
          WHEN 'false' THEN kinds.false ELSE e END), expect), ' or ') || '. ' || why,
    'This property of a key cannot be changed: create a new key and migrate to it.'
  FROM wrong_property
  UNION ALL
  SELECT key_arn, 'region', 'wrong', NULL, 'The key is in ' || region || '; the profile requires ' || $regions_text || '.',
    'A key cannot be moved: create a key in that region and share it.'
  FROM key, required WHERE len(regions) > 0 AND NOT list_contains(regions, region)
  UNION ALL
  SELECT key_arn, 'replica_missing', 'wrong', NULL,
    'The key has no replica in ' || missing || ', which the vendor''s disaster recovery requires.',
    'aws kms replicate-key --region ' || region || ' --key-id ' || key_id || ' --replica-region ' || missing
      || '; then add the replica''s ARN to the role''s policy.'
  FROM (SELECT *, unnest(replica_regions) AS missing FROM key, required WHERE multi_region_type = 'PRIMARY')
  WHERE missing <> region AND NOT list_contains(list_transform(replica_arns, lambda arn: split_part(arn, ':', 4)), missing)
  UNION ALL
  SELECT key_arn, 'primary_region', 'wrong', NULL,
    'The primary key is in ' || region || '; the profile requires ' || primary_region || '.',
    'aws kms update-primary-region --primary-region ' || primary_region
  FROM key, required WHERE multi_region_type = 'PRIMARY' AND region <> primary_region
  UNION ALL
  SELECT key_arn, 'delegation', 'wrong', 'medium',
    'The key policy does not delegate to IAM of its own account: if the administrators that it names are deleted, nobody can change it.',
    'Restore the statement for the account''s root principal.'
  FROM key, required WHERE delegation = 'expected' AND policy_hash IS NOT NULL AND NOT EXISTS (
    FROM internal.policy_statement s WHERE s.policy_hash = key.policy_hash AND s.effect = 'Allow' AND list_has_any(
      s.principals, [account_id, 'arn:' || split_part(key_arn, ':', 2) || ':iam::' || account_id || ':root']))
)
SELECT f.*, k.account_id, k.account_name, k.region, k.alias AS key_alias
FROM found f JOIN key k ON k.key_arn = f.key_arn
ORDER BY k.account_id, k.region, k.alias, k.key_arn, f.check_name
