-- The results of all vendor profiles per key, for the run for which the mart was built; if there are vendors, also the keys whose policy is unknown.
--! internal
--: key_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: profiles | The names of the profiles that cover the key; NULL if unknown because its policy is.
--: expected | Whether a profile expects the vendor to use the key: tags neither exclude the vendor nor leave the key unselected.
--: accessible | Whether a vendor can use the key; NULL if unknown.
--: failing | Why expected vendors cannot use the key, as sentences; NULL if there is no such vendor.
--: excess | The vendors with more access than their profiles require, as sentences; NULL if there are none.
--: unknown_reason | What is unknown, as a sentence; NULL if nothing is.
--: severity | The highest severity of the checks that fail, or else of those that are unknown.
--: excess_severity | The highest severity of the checks that find more access than required, or else of those that are unknown.
--: reason | The result of the first profile, as a sentence.
--: multi_region_for | The names of the profiles that expect access and require a multi-Region key; NULL if there are none.
WITH said AS (
  SELECT key_arn, account_id, region, profile, result, severity, required, profile || ': ' || reason AS message
  FROM vendor_checks_as_of(as_of_run)
  WHERE subject_type = 'key' AND key_arn IS NOT NULL
), evaluated AS (
  SELECT key_arn, any_value(account_id) AS account_id, any_value(region) AS region,
    array_to_string(list_sort(list(DISTINCT profile)), ', ') AS profiles,
    bool_or(result NOT IN ('denied_by_tag', 'not_selected')) AS expected,
    bool_or(CASE WHEN result <> 'unknown' THEN result IN ('accessible', 'over_shared') END)
      OR CASE WHEN bool_or(result = 'unknown') THEN NULL ELSE false END AS accessible,
    array_to_string(list_sort(list(DISTINCT message) FILTER (result IN ('broken', 'blocked_by_policy')))[1:3], ' ') AS failing,
    array_to_string(list_sort(list(DISTINCT message) FILTER (result = 'over_shared'))[1:3], ' ') AS excess,
    min(message) FILTER (result = 'unknown') AS unknown_reason,
    coalesce(internal.highest(CASE WHEN result IN ('broken', 'blocked_by_policy') THEN severity END),
      internal.highest(CASE WHEN result = 'unknown' THEN severity END)) AS severity,
    coalesce(internal.highest(CASE WHEN result = 'over_shared' THEN severity END),
      internal.highest(CASE WHEN result = 'unknown' THEN severity END)) AS excess_severity,
    min(message) AS reason,
    array_to_string(list_sort(list(DISTINCT profile) FILTER (required ->> 'multi_region' = 'true'
      AND result NOT IN ('denied_by_tag', 'not_selected'))), ', ') AS multi_region_for
  FROM said
  GROUP BY key_arn
), unread AS (
  SELECT key_arn, account_id, region
  FROM keys_as_of(as_of_run)
  WHERE manager IS DISTINCT FROM 'AWS' AND NOT policy_known
    AND (SELECT count(*) FROM vendor_checks_as_of(as_of_run) WHERE subject_type IN ('key', 'finding')) > 0
    AND key_arn NOT IN (
      SELECT key_arn FROM vendor_checks_as_of(as_of_run) WHERE subject_type IN ('key', 'finding') AND key_arn IS NOT NULL
    )
)
SELECT key_arn, account_id, region, profiles, expected, accessible, failing, excess, unknown_reason, severity, excess_severity,
  reason, multi_region_for
FROM evaluated
UNION ALL
SELECT key_arn, account_id, region, NULL, NULL, NULL, NULL, NULL,
  'It is not known whether a vendor uses the key: its policy could not be read.', 'medium', 'medium', NULL, NULL
FROM unread
