-- What is unknown about each key: the denied actions, and the missing listings of resources that may use it.
--! internal
--: key_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: denied_actions | The actions denied for the key, except those of the last use, as one text; NULL if there are none.
--: last_known | Whether the key could not be described again, so that its state is that of an earlier run.
--: unread_resources | The actions that failed, so that further resources of its account and region may use it, each with its cause.
--: unread_uses | What could not be read, as a sentence about a key that no crawled resource uses: its grants, or some resources; NULL if both were read.
WITH missing AS (
  -- Resources of other accounts count where they are known: a gap somewhere in an organization would otherwise leave every
  -- key open.
  SELECT account_id, CASE WHEN region IN ('global', '*') THEN 'global' ELSE region END AS region,
    list_sort(list(DISTINCT action || ': ' || cause_text)) AS actions
  FROM coverage_as_of(as_of_run)
  WHERE outcome = 'gap' AND service NOT IN ('kms', 'iam', 'sts', 'organizations', 'account')
    AND operation NOT LIKE '%Tag%' AND operation NOT LIKE '%Polic%'
    AND operation NOT IN ('GetTrailStatus', 'GetEventSelectors')
  GROUP BY ALL
)
SELECT k.key_arn, k.account_id, k.region,
  CASE WHEN len(k.denied_actions) > 0 THEN array_to_string(k.denied_actions, ', ') END AS denied_actions,
  k.freshness = 'stale' AS last_known,
  list_sort(list_distinct(list_concat(coalesce(here.actions, CAST([] AS VARCHAR[])),
    coalesce(everywhere.actions, CAST([] AS VARCHAR[]))))) AS unread_resources,
  CASE
    WHEN k.grants IS NULL THEN 'No crawled resource uses it, but its grants could not be read'
      || internal.because(k.failure_causes, ['kms:ListGrants']) || '.'
    WHEN len(unread_resources) > 0 THEN 'No crawled resource uses it, but some resources could not be read ('
      || array_to_string(unread_resources, '; ') || ').'
  END AS unread_uses
FROM keys_as_of(as_of_run) k
LEFT JOIN missing here ON here.account_id = k.account_id AND here.region = k.region
LEFT JOIN missing everywhere ON everywhere.account_id = k.account_id AND everywhere.region = 'global'
