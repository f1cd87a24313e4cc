-- The keys that are scheduled for deletion and that nothing is known to use: as in changes.sql, their deletion matters little.
SELECT key_arn FROM internal.pending_deletions WHERE is_unused
