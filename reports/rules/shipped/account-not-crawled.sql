-- id: account-not-crawled
-- title: Every account of the organization is crawled
-- severity: high
-- family: coverage
-- why: >-
--   An account that cannot be crawled has no findings and therefore looks clean. The usual causes are new accounts
--   without the role and roles whose trust policy changed.
-- fix: >-
--   Create the role in the account, or fix its trust policy and external ID. An organization-wide StackSet does this
--   for new accounts, but never for the management account. If the account should not be crawled, exclude it in the
--   settings; the report then lists it as excluded.
-- console: >-
--   In the IAM console of the account, open the role of kmsledger and compare its trust policy and permissions with the
--   output of `kmsledger permissions`. In Organizations, look for a service control policy that denies the call.
-- cli: |-
--   aws sts assume-role --role-arn arn:aws:iam::ACCOUNT_ID:role/ROLE --role-session-name test \
--     --external-id EXTERNAL_ID
--   aws cloudformation create-stack-instances --stack-set-name STACK_SET \
--     --deployment-targets OrganizationalUnitIds=OU_ID --regions REGION
-- terraform: >-
--   Add the account to the configuration that deploys kmsledger's aws_iam_role, for example an
--   aws_cloudformation_stack_set_instance.
-- parameters:
--   consecutive_runs:
--     default: "2"
--     about: >-
--       Number of consecutive failed runs after which the rule fails.
WITH failing AS (
  SELECT account_id, min(consecutive_runs) AS consecutive_runs, max(since) AS since, min(cause_text) AS cause
  FROM coverage
  WHERE outcome = 'failed' AND service IS NULL
  GROUP BY account_id
)
SELECT a.account_id AS resource_arn, a.account_id, 'global' AS region, NULL AS key_arn,
  CASE
    WHEN a.coverage = 'excluded' THEN not_applicable('The account is excluded in the settings.')
    WHEN a.coverage IN ('suspended', 'left') OR a.state IN ('SUSPENDED', 'LEFT', 'PENDING_CLOSURE', 'CLOSED') THEN not_applicable(
      'The account is ' || lower(replace(coalesce(nullif(a.state, 'ACTIVE'), a.coverage), '_', ' ')) || '.')
    WHEN a.coverage = 'not_crawled' THEN unknown('The run did not reach the account.')
    WHEN a.coverage = 'failed' THEN fail_if(f.consecutive_runs >= CAST($consecutive_runs AS INTEGER),
      'The account could not be read' || coalesce(' since ' || strftime(f.since, '%Y-%m-%d'), '')
        || coalesce(': ' || f.cause, '') || '.')
    WHEN a.coverage = 'complete' THEN pass('The account was read.')
    WHEN a.coverage = 'partial' THEN pass('The account was read in part.')
    ELSE unknown('Unknown coverage of the account: ' || a.coverage || '.')
  END AS verdict
FROM accounts a
LEFT JOIN failing f ON f.account_id = a.account_id
