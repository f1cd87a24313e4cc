-- title: Grant history of a key
-- topic: history
-- question: >-
--   Which grants did this key ever have, and from when to when?
-- answer: >-
--   Every version of every grant that a run read; from and until are the start times of the runs, until is empty
--   while the grant exists. A grant that was created and retired between two runs is not recorded.
-- parameters:
--   key: {description: "the key's ARN, ID or alias (alias/orders)"}
SELECT grant_id, name, coalesce(grantee_service_principal, grantee_principal) AS grantee, operations, constraints, created_at,
  valid_from_at AS "from", valid_to_at AS until, key_arn
FROM grants_history
WHERE key_arn IN (
  SELECT target_key_arn FROM aliases_history WHERE alias_name = $key
  UNION
  SELECT key_arn FROM keys_history WHERE key_arn = $key OR split_part(key_arn, '/', 2) = $key)
ORDER BY valid_from_at, grant_id, key_arn
