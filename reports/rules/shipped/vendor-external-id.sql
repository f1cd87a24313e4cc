-- id: vendor-external-id
-- title: Roles assumed by external accounts require an external ID
-- severity: medium
-- family: vendors
-- why: >-
--   A vendor uses one account for all its customers. Without an external ID in the trust policy, another customer can
--   enter the ARN of your role at the vendor, and the service of the vendor then works on your keys and data on their
--   behalf.
-- fix: >-
--   Get the external ID that the vendor created for you, and add the condition StringEquals sts:ExternalId with it to
--   the trust policy. Enter it at the vendor first; otherwise the next call of the vendor fails. Waive a role that is
--   assumed only by a second organization of your own.
-- console: >-
--   In IAM, Roles, open the role, tab "Trust relationships", choose "Edit trust policy" and add the condition.
-- cli: aws iam update-assume-role-policy --role-name ROLE --policy-document file://trust.json
-- terraform: >-
--   In assume_role_policy of aws_iam_role, add condition { test = "StringEquals", variable = "sts:ExternalId", values =
--   ["EXTERNAL_ID"] }.

WITH role AS (
  SELECT arn, account_id, name, trust_policy, trusted_principals FROM iam_principals WHERE type = 'role'
), external_role AS (
  SELECT t.arn, min(t.account) AS account
  FROM (
    SELECT arn, regexp_extract(principal,
      '^(?:arn:[a-z-]+:(?:iam|sts)::)?([0-9]{12})(?:$|:(?:root|role/|user/|assumed-role/))', 1) AS account
    FROM (SELECT arn, unnest(trusted_principals) AS principal FROM role) AS principal_row
  ) t
  LEFT JOIN accounts a ON a.account_id = t.account AND a.state IS DISTINCT FROM 'LEFT'
  WHERE t.account <> '' AND a.account_id IS NULL
  GROUP BY t.arn
), trust_statement AS (
  SELECT r.arn, unnest(CAST(json_extract(r.trust_policy, '$.Statement[*]') AS JSON[])) AS content
  FROM role r
  JOIN external_role s ON s.arn = r.arn
), unprotected_role AS (
  SELECT t.arn, count(*) AS statements
  FROM (
    SELECT arn, content, unnest(regexp_extract_all(CAST(content -> 'Principal' AS VARCHAR), '[0-9]{12}')) AS account
    FROM trust_statement
    WHERE content ->> 'Effect' = 'Allow' AND NOT contains(lower(coalesce(CAST(content -> 'Condition' AS VARCHAR), '')),
      '"sts:externalid"')
      AND NOT regexp_matches(CAST(content -> 'Principal' AS VARCHAR), '^[{]"Federated"')
  ) t
  LEFT JOIN accounts a ON a.account_id = t.account AND a.state IS DISTINCT FROM 'LEFT'
  WHERE a.account_id IS NULL
  GROUP BY t.arn
)
SELECT r.arn AS resource_arn, r.account_id, 'global' AS region, NULL AS key_arn,
  (
    SELECT internal.highest(v.severity) FROM vendor_checks v
    WHERE v.subject = r.arn AND v.result = 'wrong' AND starts_with(v.check_name, 'external_id_')
  ) AS severity,
  CASE
    WHEN r.trusted_principals IS NULL THEN unknown('The trust policy of role ' || r.name || ' could not be read.')
    WHEN o.arn IS NOT NULL THEN fail('Role ' || r.name || ' trusts account ' || s.account
      || ' outside the organization without requiring an external ID.')
    WHEN o.arn IS NULL THEN pass('Role ' || r.name || ' requires an external ID from account ' || s.account || '.')
  END AS verdict
FROM role r
LEFT JOIN external_role s ON s.arn = r.arn
LEFT JOIN unprotected_role o ON o.arn = r.arn
WHERE r.trusted_principals IS NULL OR s.arn IS NOT NULL
UNION ALL
SELECT i.account_id, i.account_id, 'global', NULL, NULL,
  unknown('The roles of the account could not be read' || coalesce(': ' || i.reason, '') || '.')
FROM iam_accounts i
JOIN accounts a ON a.account_id = i.account_id
WHERE i.freshness IN ('none', 'partial') AND a.coverage NOT IN ('excluded', 'suspended', 'left')
