-- The keys that a report can name: every key. A report about an account or owner replaces this view: it also names the keys of others that its
-- resources use, without their grants (see reports/html/subjects/).
--! internal
--! columns of keys
SELECT * FROM keys_as_of(as_of_run)
