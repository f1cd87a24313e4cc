-- id: operation-denied
-- title: No operation fails for a whole region
-- severity: medium
-- family: coverage
-- why: >-
--   If one operation fails for a whole account and region, every rule that needs its result is unknown there.
--   Mostly, a single permission fixes all of them.
-- fix: >-
--   The reason names the cause. If access was denied, allow the named action for the role of kmsledger, in its
--   permissions or in the service control policy or permissions boundary that denies it. If the data is not needed,
--   disable the call in the settings instead.
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
WITH failed_calls AS (
  -- Either a listing failed, or the role lacks the action, so that it is denied for every resource.
  SELECT account_id, region, max(consecutive_runs) AS consecutive_runs,
    action || ' since ' || strftime(min(since), '%Y-%m-%d') || ' (' || min(cause_text) || ')' AS call
  FROM coverage
  WHERE outcome = 'gap' AND cause NOT IN ('disabled_by_config', 'region_excluded', 'unsupported')
    AND (subject = '' OR cause IN ('role_permission', 'service_control_policy', 'session_policy',
      'permissions_boundary'))
  GROUP BY account_id, region, action
), failed_actions AS (
  SELECT account_id, region,
    array_to_string(list_sort(list(call) FILTER (consecutive_runs >= CAST($consecutive_runs AS INTEGER))), ', ') AS persistent,
    array_to_string(list_sort(list(call)), ', ') AS every
  FROM failed_calls
  GROUP BY account_id, region
)
SELECT p.account_region AS resource_arn, p.account_id, p.region, NULL AS key_arn,
  CASE
    WHEN p.skip_reason IS NOT NULL THEN not_applicable(p.skip_reason)
    WHEN p.outcome = 'failed' THEN unknown('Nothing could be read in this account and region in this run.')
    WHEN p.outcome = 'not_in_run' THEN unknown('No run has read the region: the last one was limited to others.')
    WHEN s.persistent <> '' THEN fail('Failed in every run: ' || s.persistent || '.')
    WHEN s.every <> '' THEN unknown('Failed, possibly only once: ' || s.every || '.')
    WHEN p.outcome IN ('complete', 'partial') THEN pass('No operation failed.')
    ELSE unknown('Unknown coverage of the region: ' || p.outcome || '.')
  END AS verdict
FROM account_regions p
LEFT JOIN failed_actions s ON s.account_id = p.account_id AND s.region = p.region
