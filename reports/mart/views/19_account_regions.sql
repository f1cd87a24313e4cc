-- The regions of accounts, with the result of the run: the rows of coverage that are about account-regions, not single calls.
--: account_region | Account and region, e.g. 111122223333/eu-west-1.
--: account_id | The account.
--: region | The region; global for services without regions.
--: outcome | complete, partial, failed, excluded, suspended, left, disabled or not_in_run (never read).
--: skip_reason | Why the region is intentionally not read, as a sentence; NULL otherwise.
--: cause_text | Why it failed, in words.
--: since | When the first run of the current uninterrupted streak began.
--: consecutive_runs | The number of runs in the streak.
SELECT account_id || '/' || region AS account_region, account_id, region, outcome,
  CASE
    WHEN outcome = 'excluded' THEN 'The settings leave the region out.'
    WHEN outcome = 'disabled' THEN 'The region is not enabled in the account.'
    WHEN outcome IN ('suspended', 'left') THEN 'The account is ' || outcome || '.'
  END AS skip_reason,
  cause_text, since, consecutive_runs
FROM coverage_as_of(as_of_run)
WHERE service IS NULL AND region NOT IN ('*', 'organization')
