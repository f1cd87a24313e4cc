-- id: vendor-external-id
-- title: Roles that other companies assume ask for an external id
-- severity: medium
-- family: vendors
-- why: >-
--   A vendor uses one account for all its customers. Without an external id in the trust policy, another customer can
--   give the vendor your role's ARN as his own, and the vendor's service then works on your keys and data for him.
-- fix: >-
--   Get the external id that the vendor made for you, and add the condition StringEquals sts:ExternalId with it to
--   the trust policy; enter it at the vendor first, or the next call of the vendor fails. A role that only a second
--   organization of your own assumes can be waived.
-- console: >-
--   In IAM, Roles, open the role, tab "Trust relationships", choose "Edit trust policy" and add the condition.
-- cli: aws iam update-assume-role-policy --role-name ROLE --policy-document file://trust.json
-- terraform: >-
--   In assume_role_policy of aws_iam_role add condition { test = "StringEquals", variable = "sts:ExternalId", values
--   = ["EXTERNAL_ID"] }.

-- Considered are the roles that an account outside the organization may assume; one whose trust policy could not be
-- read may be one of them.
WITH role AS (
  SELECT arn, account_id, name, trust_policy, trusted_principals FROM iam_principals WHERE type = 'role'
), stranger AS (
  SELECT t.arn, min(t.account) AS account
  FROM (
    SELECT arn, regexp_extract(named,
      '^(?:arn:[a-z-]+:(?:iam|sts)::)?([0-9]{12})(?:$|:(?:root|role/|user/|assumed-role/))', 1) AS account
    FROM (SELECT arn, unnest(trusted_principals) AS named FROM role) AS every
  ) t
  LEFT JOIN accounts a ON a.account_id = t.account AND a.state IS DISTINCT FROM 'LEFT'
  WHERE t.account <> '' AND a.account_id IS NULL
  GROUP BY t.arn
), statement AS (
  SELECT r.arn, unnest(CAST(json_extract(r.trust_policy, '$.Statement[*]') AS JSON[])) AS said
  FROM role r
  JOIN stranger s ON s.arn = r.arn
), opened AS (
  SELECT t.arn, count(*) AS loose
  FROM (
    SELECT arn, said, unnest(regexp_extract_all(CAST(said -> 'Principal' AS VARCHAR), '[0-9]{12}')) AS account
    FROM statement
    WHERE said ->> 'Effect' = 'Allow' AND NOT contains(lower(coalesce(CAST(said -> 'Condition' AS VARCHAR), '')),
      '"sts:externalid"')
      AND NOT regexp_matches(CAST(said -> 'Principal' AS VARCHAR), '^[{]"Federated"')
  ) t
  LEFT JOIN accounts a ON a.account_id = t.account AND a.state IS DISTINCT FROM 'LEFT'
  WHERE a.account_id IS NULL
  GROUP BY t.arn
)
SELECT r.arn AS resource_arn, r.account_id, 'global' AS region, NULL AS key_arn,
  CASE
    WHEN r.trusted_principals IS NULL THEN 'unknown'
    WHEN o.arn IS NOT NULL THEN 'fail'
    WHEN s.arn IS NOT NULL AND o.arn IS NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN r.trusted_principals IS NULL THEN 'The trust policy of role ' || r.name || ' could not be read.'
    WHEN o.arn IS NOT NULL THEN 'Role ' || r.name || ' trusts account ' || s.account
      || ' outside the organization and asks for no external id.'
    ELSE 'Role ' || r.name || ' asks account ' || s.account || ' for an external id.'
  END AS reason
FROM role r
LEFT JOIN stranger s ON s.arn = r.arn
LEFT JOIN opened o ON o.arn = r.arn
WHERE r.trusted_principals IS NULL OR s.arn IS NOT NULL
UNION ALL
SELECT i.account_id, i.account_id, 'global', NULL, 'unknown',
  'The roles of the account are not known' || coalesce(': ' || i.reason, '') || '.'
FROM iam_accounts i
JOIN accounts a ON a.account_id = i.account_id
WHERE i.freshness IN ('none', 'partial') AND a.coverage NOT IN ('excluded', 'suspended', 'left')
