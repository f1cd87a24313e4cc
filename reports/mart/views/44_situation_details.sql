-- The situations with what the report says about each; see situations.
--! internal
--: situation_id | The situation; it stays the same from run to run.
--: kind | key, access, vendor, rule or coverage; see situation_findings.
--: cause | What identifies the situation; see situation_findings.
--: severity | The highest severity of its failed findings; medium if data is missing and nothing fails.
--: deadline | When data is permanently lost: the deletion of the key, the expiry of its material, the end of the time in which a database can be recovered, or the date that a vendor profile states.
--: affected | The number of resources, grants and vendors that depend on the key; for the other kinds, the number of resources with findings.
--: names | The names of the first five of these resources.
--: key_arn | For kind key: the key, or the ARN of an alias that does not exist.
--: key_alias | For kind key: its first alias.
--: key_state | For kind key: its state; deleted if it no longer exists.
--: grants | For kind key: the number of its grants; NULL if unknown.
--: parties | For access and vendor: the parties. For key: the vendors that cannot use it.
--: rule_id | For kind rule: the rule that is the cause; else the most severe rule that fails, or is unknown if none fails.
--: account_ids | The accounts.
--: account_name | The name of the account, if there is one account.
--: region | The region, if there is one region.
--: owners | The owners of the resources.
--: failed | The number of failed findings.
--: unknown | The number of unknown findings.
--: rules | The rules that fail or are unknown.
--: evidence | For each rule of these findings: rule_id, title, severity, and the numbers of failed and unknown findings; failures come first.
--: main | The resource of the most severe finding: its ARN, its name, and the reason.
--: noun | What the resources are: key, secret, account or resource.
--: resource_arns | The resources of its findings.
WITH finding AS MATERIALIZED (
  SELECT * FROM situation_findings_as_of(as_of_run)
), affected_vendor AS (
  SELECT DISTINCT f.situation_id, v.vendor
  FROM finding f
  JOIN vendor_checks_as_of(as_of_run) v ON v.key_arn = f.cause AND v.result = 'broken'
  WHERE f.kind = 'key'
), affected AS (
  SELECT situation_id, count(DISTINCT name_of) AS affected, min(DISTINCT name, 5) AS names
  FROM (
    SELECT situation_id, resource_arn AS name_of, resource_name AS name
    FROM finding
    WHERE kind <> 'key' OR starts_with(cause, 'unused ') OR NOT regexp_matches(resource_arn, '^arn:[^:]+:kms:')
    UNION
    SELECT f.situation_id, u.resource_arn, coalesce(u.resource_name, u.resource_arn)
    FROM finding f
    JOIN resource_keys_as_of(as_of_run) u ON u.key_arn = f.cause
    WHERE f.kind = 'key'
    UNION
    SELECT situation_id, vendor, NULL FROM affected_vendor
  ) AS dependent
  GROUP BY situation_id
), deadline AS (
  SELECT f.situation_id, min(d.deadline) AS deadline
  FROM (
    SELECT DISTINCT situation_id, kind, unnest(CASE kind WHEN 'key' THEN [resource_arn, cause] ELSE [resource_arn] END) AS resource_arn
    FROM finding
  ) AS f
  JOIN internal.run r ON r.run_id = as_of_run
  JOIN (
    SELECT key_arn AS resource_arn, coalesce(deletion_date, CASE WHEN state = 'Enabled' THEN material_expires_at END) AS deadline,
      'key' AS kind
    FROM internal.named_keys_as_of(as_of_run)
    UNION ALL
    -- RDS waits seven days for a lost key; after that, the database can only be restored from a backup.
    SELECT resource_arn, since + INTERVAL 7 DAY, NULL FROM resources_as_of(as_of_run)
    WHERE starts_with(status, 'inaccessible-encryption-credentials-recoverable')
    UNION ALL
    SELECT key_arn, deadline, NULL FROM vendor_checks_as_of(as_of_run) WHERE result = 'broken'
  ) AS d ON d.resource_arn = f.resource_arn AND CASE WHEN d.kind IS NULL THEN d.deadline >= r.started_at ELSE d.kind = f.kind END
  GROUP BY f.situation_id
), evidence AS (
  SELECT situation_id,
    list({'rule_id': rule_id, 'title': title, 'severity': severity, 'failed': failed, 'unknown': unknown}
      ORDER BY failed = 0, internal.severity_rank(severity), rule_id) AS evidence
  FROM (
    SELECT situation_id, rule_id, title, internal.highest(severity) AS severity,
      count(*) FILTER (status = 'fail') AS failed, count(*) FILTER (status = 'unknown') AS unknown
    FROM finding
    GROUP BY situation_id, rule_id, title
  ) AS rule
  GROUP BY situation_id
), grouped AS (
  SELECT situation_id, any_value(kind) AS kind, any_value(cause) AS cause,
    coalesce(internal.highest(CASE WHEN status = 'fail' THEN severity END), 'medium') AS severity, any_value(parties) AS parties,
    arg_min(rule_id, {'status': status, 'rank': internal.severity_rank(severity), 'rule_id': rule_id}) AS rule_id,
    list_sort(list(DISTINCT account_id) FILTER (account_id IS NOT NULL)) AS account_ids, min(account_name) AS account_name,
    CASE WHEN count(DISTINCT region) = 1 THEN min(region) END AS region,
    list_sort(list(DISTINCT owner) FILTER (owner IS NOT NULL)) AS owners,
    count(*) FILTER (status = 'fail') AS failed, count(*) FILTER (status = 'unknown') AS unknown,
    list_sort(list(DISTINCT rule_id)) AS rules,
    arg_min({'arn': resource_arn, 'name': resource_name, 'reason': reason},
      {'status': status, 'rank': internal.severity_rank(severity), 'name': resource_name, 'rule_id': rule_id}) AS main,
    CASE
      WHEN bool_and(regexp_matches(resource_arn, '^arn:[^:]+:kms:[^#]+:key/[^#]+$')) THEN 'key'
      WHEN bool_and(resource_arn LIKE 'arn:%:secretsmanager:%') THEN 'secret'
      WHEN bool_and(resource_arn = account_id) THEN 'account'
      ELSE 'resource'
    END AS noun,
    list_sort(list(DISTINCT resource_arn)) AS resource_arns
  FROM finding
  GROUP BY situation_id
)
SELECT g.situation_id, g.kind, g.cause, g.severity, d.deadline, coalesce(a.affected, 0) + coalesce(k.grants, 0) AS affected,
  coalesce(a.names, CAST([] AS VARCHAR[])) AS names, CASE WHEN g.kind = 'key' AND starts_with(g.cause, 'arn:') THEN g.cause END AS key_arn,
  coalesce(k.alias, x.alias) AS key_alias,
  CASE WHEN g.kind = 'key' THEN coalesce(k.state, nullif(split_part(g.cause, 'unused ', 2), ''), 'deleted') END AS key_state,
  k.grants, coalesce(g.parties, v.vendors, CAST([] AS VARCHAR[])) AS parties,
  CASE WHEN g.kind = 'rule' THEN g.cause ELSE g.rule_id END AS rule_id,
  coalesce(g.account_ids, CAST([] AS VARCHAR[])) AS account_ids,
  CASE WHEN len(g.account_ids) = 1 THEN g.account_name END AS account_name, g.region,
  coalesce(g.owners, CAST([] AS VARCHAR[])) AS owners, g.failed, g.unknown, g.rules, e.evidence, g.main, g.noun, g.resource_arns
FROM grouped g
LEFT JOIN evidence e ON e.situation_id = g.situation_id
LEFT JOIN affected a ON a.situation_id = g.situation_id
LEFT JOIN deadline d ON d.situation_id = g.situation_id
LEFT JOIN internal.named_keys_as_of(as_of_run) k ON g.kind = 'key' AND k.key_arn = g.cause
LEFT JOIN (SELECT situation_id, list_sort(list(vendor)) AS vendors FROM affected_vendor GROUP BY situation_id) v
  ON v.situation_id = g.situation_id
LEFT JOIN (
  -- A deleted key has no alias any more; its vendor check has the last one.
  SELECT key_arn, min(key_alias) AS alias FROM vendor_checks_as_of(as_of_run) GROUP BY key_arn
) x ON g.kind = 'key' AND x.key_arn = g.cause
