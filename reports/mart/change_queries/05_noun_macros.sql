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
