-- The regions of accounts, with what became of them in the run; the parts of coverage that are about no single question.
--: account_region | Account and region, as 111122223333/eu-west-1.
--: account_id | The account.
--: region | The region; global for what has none.
--: outcome | complete, partial, failed, excluded, suspended, left or disabled.
--: skip_reason | Why nobody meant to read it, as a sentence; empty otherwise.
--: cause_text | Why it failed, in words.
--: since | When the first run began since which it is so without a break.
--: consecutive_runs | How many runs it has been so.
SELECT account_id || '/' || region AS account_region, account_id, region, outcome,
  CASE
    WHEN outcome = 'excluded' THEN 'The settings leave the region out.'
    WHEN outcome = 'disabled' THEN 'The region is not enabled in the account.'
    WHEN outcome IN ('suspended', 'left') THEN 'The account is ' || outcome || '.'
  END AS skip_reason,
  cause_text, since, consecutive_runs
FROM coverage_as_of(as_of_run)
WHERE service IS NULL AND region NOT IN ('*', 'organization')
