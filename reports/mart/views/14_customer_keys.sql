-- The keys that customers manage, and those that could not be described; with what a sentence about a key has to say of its own limits.
--! columns of keys
--: refused | The actions that were refused for it, as a clause for the end of a sentence: (refused: kms:DescribeKey). Empty text when none was.
--: stale | A sentence to put behind an answer, when the run could not describe the key again and its state is the last known one. Empty text otherwise.
SELECT *,
  CASE WHEN len(unknown) > 0 THEN ' (refused: ' || array_to_string(unknown, ', ') || ')' ELSE '' END AS refused,
  CASE WHEN known <> 'yes' AND (len(unknown) = 0 OR list_contains(unknown, 'kms:DescribeKey'))
    THEN ' This is the last known state.' ELSE '' END AS stale
FROM keys_as_of(as_of_run)
WHERE manager IS DISTINCT FROM 'AWS'
