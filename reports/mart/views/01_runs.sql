-- The crawls of the organization.
--: run_id | The run's number; what other views call a run.
--: started_at | When it began (UTC).
--: finished_at | When it ended (UTC); empty while it runs or when it was interrupted.
--: status | running, complete, partial (ended, with gaps), failed, interrupted, or pruned: what is left of it is not whole.
--: version | The version of kmsledger that crawled.
--: caller_arn | The identity that crawled.
--: partition | The AWS partition.
--: organization_id | The organization.
--: management_account_id | Its management account.
--: accounts | Accounts that were considered.
--: scopes | Account-regions that were crawled.
--: calls | Calls made to AWS.
--: gaps | Things that could not be learned.
--: message | What the run said of itself in the end.
SELECT run_id, started_at, finished_at, status, version, caller_arn, partition, organization_id, management_account_id,
  accounts, scopes, calls, gaps, message
FROM internal.run
WHERE run_id <= as_of_run
ORDER BY run_id
