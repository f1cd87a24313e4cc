-- The owners of accounts, keys and resources, according to the current settings (owners). Entities without an owner have no row.
--: resource_arn | The ARN of the key or resource, or the account ID.
--: account_id | Its account.
--: owner | The owner.
--: source | What determines the owner: tag, account or ou.
WITH thing AS (
  SELECT k.key_arn AS resource_arn, k.account_id FROM internal.key k WHERE internal.known(k.valid_from, k.valid_to, as_of_run)
  UNION ALL
  SELECT s.resource_arn, s.account_id FROM internal.resource s WHERE internal.known(s.valid_from, s.valid_to, as_of_run)
  UNION ALL
  SELECT a.account_id, a.account_id FROM internal.account a WHERE internal.known(a.valid_from, a.valid_to, as_of_run)
), tagged AS (
  SELECT t.resource_arn, min(o.position) AS position, arg_min(t.tag_value, o.position) AS owner
  FROM internal.owner o
  JOIN internal.tag t ON t.tag_key = o.tag AND t.tag_value <> '' AND internal.known(t.valid_from, t.valid_to, as_of_run)
  GROUP BY t.resource_arn
), placed AS (
  SELECT a.account_id, min(o.position) AS position, arg_min(o.owner, o.position) AS owner,
    arg_min(CASE WHEN o.ou IS NULL THEN 'account' ELSE 'ou' END, o.position) AS source
  FROM internal.owner o
  JOIN internal.account a ON (a.account_id = o.account_id OR o.ou = '/' OR a.ou_path = o.ou OR starts_with(a.ou_path, o.ou || '/'))
    AND internal.known(a.valid_from, a.valid_to, as_of_run)
  WHERE o.tag IS NULL
  GROUP BY a.account_id
)
SELECT x.resource_arn, x.account_id,
  CASE WHEN t.position IS NULL OR p.position < t.position THEN p.owner ELSE t.owner END AS owner,
  CASE WHEN t.position IS NULL OR p.position < t.position THEN p.source ELSE 'tag' END AS source
FROM thing x
LEFT JOIN tagged t ON t.resource_arn = x.resource_arn
LEFT JOIN placed p ON p.account_id = x.account_id
WHERE t.position IS NOT NULL OR p.position IS NOT NULL
