-- id: operation-denied
-- title: No question is refused for a whole region
-- severity: medium
-- family: coverage
-- why: >-
--   When one operation is refused for a whole account and region, every rule that needs its answer says unknown there.
--   That is one permission to add, and many answers to gain.
-- fix: >-
--   Give the role of kmsledger the action that is named, in its permissions or, where a service control policy or a
--   permissions boundary denies it, there. What the answer should not contain can be left out in the settings instead.
-- console: >-
--   In the IAM console of that account open the role of kmsledger and compare its trust and permissions with what
--   `kmsledger permissions` prints; in Organizations look for a service control policy that denies it.
-- cli: |-
--   kmsledger permissions
--   kmsledger sql "SELECT account_id, region, action, cause_text FROM coverage WHERE outcome = 'gap' AND subject = ''"
--   aws iam simulate-principal-policy --policy-source-arn ROLE_ARN --action-names ACTION
-- terraform: >-
--   Add the action to the policy of the aws_iam_role of kmsledger.
-- parameters:
--   consecutive_runs:
--     default: "2"
--     about: >-
--       Number of consecutive failed runs after which the rule fails.
WITH denied_calls AS (
  -- Either a listing was refused, or the role lacks the action, which then is refused whatever it is asked for.
  SELECT account_id, region, action, max(consecutive_runs) AS consecutive_runs, min(since) AS since
  FROM coverage
  WHERE outcome = 'gap' AND cause NOT IN ('disabled_by_config', 'region_excluded', 'unsupported')
    AND (subject = '' OR cause IN ('role_permission', 'service_control_policy', 'session_policy',
      'permissions_boundary'))
  GROUP BY account_id, region, action
), summed AS (
  SELECT account_id, region,
    array_to_string(list_sort(list(action || ' since ' || strftime(since, '%Y-%m-%d'))
      FILTER (consecutive_runs >= CAST($consecutive_runs AS INTEGER))), ', ') AS lasting,
    array_to_string(list_sort(list(action || ' since ' || strftime(since, '%Y-%m-%d'))), ', ') AS every
  FROM denied_calls
  GROUP BY account_id, region
)
SELECT
  p.account_region AS resource_arn, p.account_id, p.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN 'not_applicable'
    WHEN p.outcome = 'failed' OR (s.every <> '' AND coalesce(s.lasting, '') = '') THEN 'unknown'
    WHEN s.lasting <> '' THEN 'fail'
    WHEN p.outcome IN ('complete', 'partial') THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN p.skip_reason
    WHEN p.outcome = 'failed' THEN 'Nothing could be read in this account and region in this run.'
    WHEN s.lasting <> '' THEN 'It is refused throughout: ' || s.lasting || '.'
    WHEN s.every <> '' THEN 'It was refused, maybe just once: ' || s.every || '.'
    WHEN p.outcome IN ('complete', 'partial') THEN 'No question was refused throughout.'
    ELSE 'How far the region was read is not known: ' || p.outcome || '.'
  END AS reason
FROM account_regions p
LEFT JOIN summed s ON s.account_id = p.account_id AND s.region = p.region
