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
--: since | When this verdict was first reached.
SELECT f.rule_id, coalesce(u.title, f.rule_id) AS title, f.severity, f.status, f.resource_arn,
  CASE
    WHEN s.resource_type IS NOT NULL THEN s.resource_type
    WHEN k.key_arn IS NOT NULL THEN 'AWS::KMS::Key'
    WHEN regexp_full_match(f.resource_arn, '[0-9]{12}/[a-z0-9-]+') THEN 'account-region'
  END AS resource_type,
  coalesce(s.name, a.alias_name, k.key_id, f.resource_arn) AS resource_name,
  f.account_id, c.name AS account_name, f.region, f.key_arn, f.reason, r.started_at AS since
FROM ledger.finding f
LEFT JOIN ledger.rule u ON u.rule_id = f.rule_id
LEFT JOIN ledger.resource s ON s.resource_arn = f.resource_arn AND ledger.known(s.valid_from, s.valid_to, as_of_run)
LEFT JOIN ledger.key k ON k.key_arn = f.resource_arn AND ledger.known(k.valid_from, k.valid_to, as_of_run)
LEFT JOIN (
  SELECT target_key_arn, min(alias_name) AS alias_name FROM ledger.alias a
  WHERE ledger.known(a.valid_from, a.valid_to, as_of_run)
  GROUP BY target_key_arn
) a ON a.target_key_arn = f.resource_arn
LEFT JOIN ledger.account c ON c.account_id = f.account_id AND ledger.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN ledger.run r ON r.run_id = f.valid_from
WHERE ledger.known(f.valid_from, f.valid_to, as_of_run)
