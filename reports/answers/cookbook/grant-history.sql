-- title: The life of a key's grants
-- topic: time
-- question: >-
--   Which grants did this key ever have, and from when to when?
-- answer: >-
--   Every version of every grant that a run saw; from and until are the runs' times, until is empty while the grant
--   is there. A grant that came and went between two runs left no trace.
-- parameters:
--   key: {about: "the key: its ARN, its id or one of its aliases (alias/orders)"}
SELECT grant_id, name, coalesce(grantee_service_principal, grantee_principal) AS grantee, operations, constraints, created_at,
  valid_from_at AS "from", valid_to_at AS until, key_arn
FROM grants_history
WHERE key_arn IN (
  SELECT target_key_arn FROM aliases_history WHERE alias_name = $key
  UNION
  SELECT key_arn FROM keys_history WHERE key_arn = $key OR split_part(key_arn, '/', 2) = $key)
ORDER BY valid_from_at, grant_id, key_arn
