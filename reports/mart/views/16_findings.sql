-- What the rules say of each resource that they consider.
--: rule_id | The rule.
--: title | What it demands.
--: severity | critical, high, medium, low or info.
--: status | pass, fail, unknown or not_applicable.
--: resource_arn | The resource: its ARN, or account/region.
--: resource_type | CloudFormation's type name; account-region for an account in a region.
--: resource_name | Its name.
--: account_id | Its account.
--: account_name | The account's name.
--: region | Its region.
--: key_arn | The key that decided.
--: reason | Why, as one sentence.
--: since | The run that reached this status first, however its reason was worded since.
WITH current AS (
  SELECT * FROM ledger.finding f WHERE ledger.known(f.valid_from, f.valid_to, as_of_run)
), broken AS (
  SELECT f.rule_id, f.resource_arn, max(o.valid_to) AS run_id
  FROM current f
  JOIN ledger.finding o ON o.rule_id = f.rule_id AND o.resource_arn = f.resource_arn AND o.valid_from < f.valid_from
    AND o.status <> f.status
  GROUP BY f.rule_id, f.resource_arn
), steady AS (
  SELECT f.rule_id, f.resource_arn, min(o.valid_from) AS since_run
  FROM current f
  LEFT JOIN broken b ON b.rule_id = f.rule_id AND b.resource_arn = f.resource_arn
  JOIN ledger.finding o ON o.rule_id = f.rule_id AND o.resource_arn = f.resource_arn
    AND o.valid_from >= coalesce(b.run_id, 0) AND o.valid_from <= f.valid_from
  GROUP BY f.rule_id, f.resource_arn
)
SELECT f.rule_id, coalesce(u.title, f.rule_id) AS title, f.severity, f.status, f.resource_arn,
  CASE
    WHEN s.resource_type IS NOT NULL THEN s.resource_type
    WHEN k.key_arn IS NOT NULL THEN 'AWS::KMS::Key'
    WHEN regexp_full_match(f.resource_arn, '[0-9]{12}/[a-z0-9-]+') THEN 'account-region'
  END AS resource_type,
  coalesce(s.name, a.alias_name, k.key_id, f.resource_arn) AS resource_name,
  f.account_id, c.name AS account_name, f.region, f.key_arn, f.reason, r.started_at AS since
FROM current f
JOIN steady t ON t.rule_id = f.rule_id AND t.resource_arn = f.resource_arn
LEFT JOIN ledger.rule u ON u.rule_id = f.rule_id
LEFT JOIN ledger.resource s ON s.resource_arn = f.resource_arn AND ledger.known(s.valid_from, s.valid_to, as_of_run)
LEFT JOIN ledger.key k ON k.key_arn = f.resource_arn AND ledger.known(k.valid_from, k.valid_to, as_of_run)
LEFT JOIN (
  SELECT target_key_arn, min(alias_name) AS alias_name FROM ledger.alias a
  WHERE ledger.known(a.valid_from, a.valid_to, as_of_run)
  GROUP BY target_key_arn
) a ON a.target_key_arn = f.resource_arn
LEFT JOIN ledger.account c ON c.account_id = f.account_id AND ledger.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN ledger.run r ON r.run_id = t.since_run
