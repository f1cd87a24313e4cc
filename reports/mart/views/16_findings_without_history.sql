-- The view findings without the columns about history: faster if they are not needed.
--! internal
--: rule_id | The rule.
--: title | What the rule requires.
--: severity | critical, high, medium, low or info.
--: family | The topic of the rule: state, rotation, access ...
--: status | pass, fail, unknown, not_applicable, or waived: it fails, and a waiver accepts that.
--: unwaived_status | The status without waivers.
--: resource_arn | The ARN of the resource, or account/region.
--: resource_type | The CloudFormation type name; account-region for an account in a region.
--: resource_name | Its name.
--: account_id | Its account.
--: account_name | The account's name.
--: ou_path | The organizational unit of the account: names from the root down.
--: region | Its region.
--: key_arn | The key that decides.
--: reason | The reason, as one sentence; for a waived finding, the reason of the waiver comes first.
--: owner | The owner of the resource, else of the key, else of the account (settings: owners).
--: waiver | The waiver that applies (see waivers).
--: waived_until | The last day on which the waiver is valid.
WITH alias_name AS (
  SELECT target_key_arn, min(alias_name) AS alias_name FROM internal.alias a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run) AND target_key_arn IN (SELECT resource_arn FROM internal.finding)
  GROUP BY target_key_arn
), named AS (
  SELECT f.rule_id, f.severity, f.status, f.unwaived_status, f.resource_arn,
    CASE
      WHEN s.resource_type IS NOT NULL THEN s.resource_type
      WHEN k.key_arn IS NOT NULL THEN 'AWS::KMS::Key'
      WHEN l.alias_arn IS NOT NULL THEN 'AWS::KMS::Alias'
      WHEN n.account_id IS NOT NULL THEN 'account'
      WHEN regexp_full_match(f.resource_arn, '[0-9]{12}/[a-z0-9-]+') THEN 'account-region'
    END AS resource_type,
    CASE WHEN s.resource_arn IS NOT NULL THEN s.name ELSE coalesce(a.alias_name, k.key_id, l.alias_name, n.name) END AS resource_name,
    f.account_id, f.region, f.key_arn, f.reason, coalesce(o.owner, ko.owner, ao.owner) AS owner, f.waiver
  FROM internal.finding f
  LEFT JOIN internal.resource s ON s.resource_arn = f.resource_arn AND internal.known(s.valid_from, s.valid_to, as_of_run)
  LEFT JOIN internal.key k ON k.key_arn = f.resource_arn AND internal.known(k.valid_from, k.valid_to, as_of_run)
  LEFT JOIN internal.alias l ON l.alias_arn = f.resource_arn AND internal.known(l.valid_from, l.valid_to, as_of_run)
  LEFT JOIN internal.account n ON n.account_id = f.resource_arn AND internal.known(n.valid_from, n.valid_to, as_of_run)
  LEFT JOIN alias_name a ON a.target_key_arn = f.resource_arn
  LEFT JOIN owners_as_of(as_of_run) o ON o.resource_arn = f.resource_arn
  LEFT JOIN owners_as_of(as_of_run) ko ON ko.resource_arn = f.key_arn
  LEFT JOIN owners_as_of(as_of_run) ao ON ao.resource_arn = f.account_id
  WHERE internal.known(f.valid_from, f.valid_to, as_of_run)
)
SELECT f.rule_id, coalesce(u.title, f.rule_id) AS title, f.severity, u.family, f.status, f.unwaived_status, f.resource_arn,
  f.resource_type, coalesce(f.resource_name, f.resource_arn) AS resource_name, f.account_id, c.name AS account_name, c.ou_path,
  f.region, f.key_arn, f.reason, f.owner, f.waiver, w.expires AS waived_until
FROM named f
LEFT JOIN internal.rule u ON u.rule_id = f.rule_id
LEFT JOIN internal.account c ON c.account_id = f.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.waiver w ON w.waiver = f.waiver
