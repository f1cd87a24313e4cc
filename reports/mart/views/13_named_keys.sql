-- The keys that a report names: every key. In a report about an account or owner, its keys and those of others that its resources use.
--! internal
--! columns of keys
SELECT * FROM keys_as_of(as_of_run)
