-- id: region-not-read
-- title: Every region of every account is crawled
-- severity: medium
-- family: coverage
-- why: >-
--   Resources in a region that cannot be crawled are unknown, however clean the rest of the account is: nobody notices
--   keys that are scheduled for deletion there.
-- fix: >-
--   If a service control policy denies the region, exclude the region in the settings, so that the report lists it as
--   excluded, or exempt the role of kmsledger from that policy. Service and network errors should resolve
--   automatically; if they do not, check the message in the view coverage.
-- console: >-
--   In the IAM console of the account, open the role of kmsledger and compare its trust policy and permissions with the
--   output of `kmsledger permissions`. In Organizations, look for a service control policy that denies the call.
-- cli: |-
--   kmsledger sql "SELECT * FROM coverage WHERE outcome = 'failed'"
--   aws kms list-keys --region REGION --max-items 1
-- terraform: >-
--   Exempt the role with a condition ArnNotLike aws:PrincipalArn in the aws_organizations_policy that denies the
--   region.
-- parameters:
--   consecutive_runs:
--     default: "2"
--     about: >-
--       Number of consecutive failed runs after which the rule fails.
SELECT account_region AS resource_arn, account_id, region, NULL AS key_arn,
  CASE
    WHEN skip_reason IS NOT NULL THEN not_applicable(skip_reason)
    WHEN outcome = 'failed' THEN fail_if(consecutive_runs >= CAST($consecutive_runs AS INTEGER), 'The region could not be read'
      || coalesce(' since ' || strftime(since, '%Y-%m-%d'), '') || coalesce(': ' || cause_text, '') || '.')
    WHEN outcome = 'not_in_run' THEN unknown('No run has read the region: the last one was limited to others.')
    WHEN outcome = 'complete' THEN pass('The region was read.')
    WHEN outcome = 'partial' THEN pass('The region was read in part.')
    ELSE unknown('Unknown coverage of the region: ' || outcome || '.')
  END AS verdict
FROM account_regions
