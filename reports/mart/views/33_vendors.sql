-- The access of parties outside the organization: one row per party and key.
--: party | The name of the known party; the account ID or principal of an unknown party.
--: access | vendor for a known party, external for an unknown party.
--: party_accounts | The accounts from which it has access.
--: key_arn | The key.
--: key_alias | The first alias of the key.
--: account_id | The key's account.
--: account_name | That account's name.
--: region | The key's region.
--: key_state | Enabled, Disabled, PendingDeletion ...
--: principals | The principals of the party, as policies and grants name them.
--: operations | The operations they can perform; IAM policies of their own account must allow them too.
--: paths | The access paths: Sids, or # and indexes of statements; grant IDs.
--: conditions | The conditions of some of the paths.
--: dependent_count | The number of resources known to use the key.
--: dependents | Some of their names.
--: last_used_at | When AWS last recorded a use of the key by anyone.
--: last_use | used, never_used or unknown.
--: fallback_paths | For each path, the other paths that remain without it; if there are none, access ends with it.
--: since_run | The run since which the party has had access.
--: since | When that run began.
WITH way AS (
  SELECT coalesce(p.party, p.principal_account, p.principal) AS party, p.access, p.principal_account, p.key_arn, p.principal,
    p.source_id, CAST(CAST(v.operations AS JSON) AS VARCHAR[]) AS operations, p.alternative_paths, p.since_run,
    CASE WHEN starts_with(v.conditions, '{conditions}')
      THEN replace(v.conditions, '{conditions}', internal.grant_conditions(p.constraints))
      ELSE coalesce(v.conditions, '') END AS conditions
  FROM internal.access_paths_as_of(as_of_run) p
  LEFT JOIN internal.access_verdict v ON v.analysis_id = p.analysis_id AND v.ordinal = p.ordinal
  WHERE p.access IN ('vendor', 'external') AND internal.from_outside(p.access)
), grouped AS (
  SELECT party, access, key_arn, list(DISTINCT principal_account) FILTER (principal_account IS NOT NULL) AS accounts,
    list(DISTINCT principal) AS principals, flatten(list(operations)) AS operations, list(DISTINCT source_id) AS paths,
    list(DISTINCT conditions) FILTER (conditions <> '') AS conditions, flatten(list(alternative_paths)) AS others, min(since_run) AS since_run
  FROM way
  GROUP BY party, access, key_arn
), used AS (
  SELECT u.key_arn, count(DISTINCT u.resource_arn) AS resources, min(DISTINCT s.name, 5) AS names
  FROM internal.resource_key u
  JOIN internal.resource s ON s.resource_arn = u.resource_arn AND internal.known(s.valid_from, s.valid_to, as_of_run)
  WHERE internal.known(u.valid_from, u.valid_to, as_of_run) AND u.key_arn IS NOT NULL
  GROUP BY u.key_arn
)
SELECT g.party, g.access, coalesce(list_sort(g.accounts), CAST([] AS VARCHAR[])) AS party_accounts, g.key_arn,
  k.alias AS key_alias, k.account_id, k.account_name, k.region, k.state AS key_state, list_sort(g.principals) AS principals,
  list_sort(list_distinct(g.operations)) AS operations, list_sort(g.paths) AS paths,
  coalesce(list_sort(g.conditions), CAST([] AS VARCHAR[])) AS conditions,
  coalesce(u.resources, 0) AS dependent_count, coalesce(u.names, CAST([] AS VARCHAR[])) AS dependents, k.last_used_at, k.last_use,
  map_from_entries(list_transform(list_sort(g.paths), lambda gone: (gone,
    list_sort(list_distinct(list_filter(list_concat(g.paths, g.others), lambda way: way <> gone)))))) AS fallback_paths,
  g.since_run, r.started_at AS since
FROM grouped g
JOIN keys_as_of(as_of_run) k ON k.key_arn = g.key_arn
LEFT JOIN used u ON u.key_arn = g.key_arn
LEFT JOIN internal.run r ON r.run_id = g.since_run
