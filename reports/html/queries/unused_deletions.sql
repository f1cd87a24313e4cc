-- The keys that are scheduled for deletion and that nothing is known to use: as in changes.sql, their deletion matters little.
SELECT key_arn FROM internal.pending_deletions SEMI JOIN (FROM keys WHERE grants = 0) USING (key_arn) WHERE in_use IS NOT TRUE
