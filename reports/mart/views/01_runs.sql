-- The crawls of the organization.
--: run_id | The number of the run; other views refer to it.
--: started_at | When the run began (UTC).
--: finished_at | When the run ended (UTC); NULL while it is running, or if it was interrupted.
--: status | running, complete, partial (ended with gaps), failed, interrupted, or pruned (its data is incomplete).
--: version | The version of kmsledger that crawled.
--: caller_arn | The identity that crawled.
--: partition | The AWS partition.
--: organization_id | The organization.
--: management_account_id | Its management account.
--: accounts | Accounts that were considered.
--: scopes | Account-regions that were crawled.
--: calls | Calls made to AWS.
--: gaps | Calls that failed or were denied, open at the end of the run.
--: message | The final message of the run.
--: only_accounts | The accounts that the run was limited to (crawl --account), separated by commas; NULL: all.
--: only_regions | The regions that it was limited to (crawl --region); NULL: all.
SELECT run_id, started_at, finished_at, status, version, caller_arn, partition, organization_id, management_account_id,
  accounts, scopes, calls, gaps, message, only_accounts, only_regions
FROM internal.run
WHERE run_id <= as_of_run
ORDER BY run_id
