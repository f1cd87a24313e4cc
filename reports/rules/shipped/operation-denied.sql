-- id: operation-denied
-- title: No operation is denied for a whole region
-- severity: medium
-- family: coverage
-- why: >-
--   If one operation is denied for a whole account and region, every rule that needs its result is unknown there.
--   Adding a single permission fixes all of them.
-- fix: >-
--   Allow the named action for the role of kmsledger, in its permissions or in the service control policy or
--   permissions boundary that denies it. If the data is not needed, disable the call in the settings instead.
-- console: >-
--   In the IAM console of the account, open the role of kmsledger and compare its trust policy and permissions with the
--   output of `kmsledger permissions`. In Organizations, look for a service control policy that denies the call.
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
  -- Either a listing was denied, or the role lacks the action, so that it is denied for every resource.
  SELECT account_id, region, action, max(consecutive_runs) AS consecutive_runs, min(since) AS since
  FROM coverage
  WHERE outcome = 'gap' AND cause NOT IN ('disabled_by_config', 'region_excluded', 'unsupported')
    AND (subject = '' OR cause IN ('role_permission', 'service_control_policy', 'session_policy',
      'permissions_boundary'))
  GROUP BY account_id, region, action
), denied_actions AS (
  SELECT account_id, region,
    array_to_string(list_sort(list(action || ' since ' || strftime(since, '%Y-%m-%d'))
      FILTER (consecutive_runs >= CAST($consecutive_runs AS INTEGER))), ', ') AS persistent,
    array_to_string(list_sort(list(action || ' since ' || strftime(since, '%Y-%m-%d'))), ', ') AS all_denied
  FROM denied_calls
  GROUP BY account_id, region
)
SELECT p.account_region AS resource_arn, p.account_id, p.region, NULL AS key_arn,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN not_applicable(p.skip_reason)
    WHEN p.outcome = 'failed' THEN unknown('Nothing could be read in this account and region in this run.')
    WHEN s.persistent <> '' THEN fail('Denied in every run: ' || s.persistent || '.')
    WHEN s.all_denied <> '' THEN unknown('Denied, possibly only once: ' || s.all_denied || '.')
    WHEN p.outcome IN ('complete', 'partial') THEN pass('No operation is denied.')
    ELSE unknown('Unknown coverage of the region: ' || p.outcome || '.')
  END AS verdict
FROM account_regions p
LEFT JOIN denied_actions s ON s.account_id = p.account_id AND s.region = p.region
