-- What vendor profiles say of each key that they are about, all profiles together, for the run that the mart was built for; where there are vendors, also the keys whose policy is not known.
--: key_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: profiles | The profiles that are about it, by name; empty when that is not known, since its policy is not.
--: wanted | Whether one of them wants the vendor to use it: tags do not keep the vendor out, or leave it unselected.
--: accessible | Whether a vendor can use it; empty when that is not known.
--: broken | Why vendors that should cannot use it, as sentences; empty when there is no such vendor.
--: over_shared | Which vendors can do more with it than their profiles ask for, as sentences; empty when none can.
--: doubt | What is not known of it, as a sentence; empty when nothing is missing.
--: reason | What the first of the profiles says of it, as a sentence.
--: multi_region_for | The profiles that want it and require a multi-Region key, by name; empty when none does.
WITH said AS (
  SELECT key_arn, account_id, region, profile, verdict, required, profile || ': ' || reason AS sentence
  FROM vendor_checks_as_of(as_of_run)
  WHERE kind = 'key' AND key_arn IS NOT NULL
), judged AS (
  SELECT key_arn, any_value(account_id) AS account_id, any_value(region) AS region,
    array_to_string(list_sort(list(DISTINCT profile)), ', ') AS profiles,
    bool_or(verdict NOT IN ('denied_by_tag', 'not_selected')) AS wanted,
    bool_or(CASE WHEN verdict <> 'unknown' THEN verdict IN ('accessible', 'over_shared') END)
      OR CASE WHEN bool_or(verdict = 'unknown') THEN NULL ELSE false END AS accessible,
    array_to_string(list_sort(list(DISTINCT sentence) FILTER (verdict IN ('broken', 'blocked_by_policy')))[1:3], ' ') AS broken,
    array_to_string(list_sort(list(DISTINCT sentence) FILTER (verdict = 'over_shared'))[1:3], ' ') AS over_shared,
    min(sentence) FILTER (verdict = 'unknown') AS doubt,
    min(sentence) AS reason,
    array_to_string(list_sort(list(DISTINCT profile) FILTER (required ->> 'multi_region' = 'true'
      AND verdict NOT IN ('denied_by_tag', 'not_selected'))), ', ') AS multi_region_for
  FROM said
  GROUP BY key_arn
), unread AS (
  SELECT key_arn, account_id, region
  FROM keys_as_of(as_of_run)
  WHERE manager IS DISTINCT FROM 'AWS' AND NOT policy_known
    AND (SELECT count(*) FROM vendor_checks_as_of(as_of_run) WHERE kind IN ('key', 'finding')) > 0
    AND key_arn NOT IN (
      SELECT key_arn FROM vendor_checks_as_of(as_of_run) WHERE kind IN ('key', 'finding') AND key_arn IS NOT NULL
    )
)
SELECT key_arn, account_id, region, profiles, wanted, accessible, broken, over_shared, doubt, reason, multi_region_for
FROM judged
UNION ALL
SELECT key_arn, account_id, region, NULL, NULL, NULL, NULL, NULL,
  'It is not known whether a vendor uses the key: its policy could not be read.', NULL, NULL
FROM unread
