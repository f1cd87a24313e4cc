-- The nouns in messages.
CREATE TEMP MACRO noun(resource_type) AS CASE resource_type
  WHEN 'AWS::SecretsManager::Secret' THEN 'secret'
  WHEN 'AWS::S3::Bucket' THEN 'bucket'
  ELSE split_part(resource_type, '::', 2) || ' ' || replace(lower(regexp_replace(regexp_replace(
    split_part(resource_type, '::', 3), '([A-Z]+)([A-Z][a-z])', '\1 \2', 'g'), '([a-z])([A-Z])', '\1 \2', 'g')),
    'db ', 'DB ')
END;
CREATE TEMP MACRO capital(noun) AS upper(noun[1]) || noun[2:];
CREATE TEMP MACRO day(instant) AS strftime(instant, '%Y-%m-%d');
CREATE TEMP MACRO id_of(key_arn) AS regexp_replace(key_arn, '^.*:key/', '');
-- A change is as severe as the finding about its result, if the key is in use: the severities in the headers of these rules.
CREATE TEMP MACRO severity_of(rule_id) AS CASE rule_id
  WHEN 'key-unusable-in-use' THEN 'critical'
  WHEN 'key-pending-deletion' THEN 'critical'
  WHEN 'key-policy-public' THEN 'critical'
  WHEN 'key-public-via-service' THEN 'high'
  WHEN 'key-external-access' THEN 'high'
  WHEN 'grant-external' THEN 'high'
  WHEN 'vendor-access-new' THEN 'low'
  WHEN 'key-rotation' THEN 'medium'
  WHEN 'alias-moved' THEN 'medium'
  WHEN 'alias-target-missing' THEN 'medium'
  WHEN 'database-key-usable' THEN 'critical'
  WHEN 'database-encrypted' THEN 'high'
  WHEN 'bucket-kms-encryption' THEN 'medium'
  WHEN 'key-store-connected' THEN 'high'
  ELSE error('no severity of rule ' || rule_id)
END
