-- title: Multi-Region keys with their replicas
-- topic: posture
-- question: >-
--   Which multi-Region keys exist, and are their replicas in the same state?
-- answer: >-
--   One row per multi-Region key: the region of its primary, the regions and states of its members, and whether the
--   states differ. A missing primary is in an account or region that was not crawled.
SELECT key_id, account_name, any_value(region) FILTER (multi_region_type = 'PRIMARY') AS primary_region,
  list(region ORDER BY region) AS regions, list(state ORDER BY region) AS states,
  count(DISTINCT state) > 1 AS states_differ, max(len(replica_arns)) FILTER (multi_region_type = 'PRIMARY') AS replicas_named,
  min(alias) AS alias, sum(dependent_resources) AS dependent_resources
FROM keys
WHERE multi_region
GROUP BY key_id, account_name
ORDER BY states_differ DESC, account_name, key_id
