-- The keys that customers manage, and those that could not be described; with what a sentence about a key has to say of its own limits.
--! internal
--! columns of keys
--: denied_note | The actions that were refused for it, as a clause for the end of a sentence: (refused: kms:DescribeKey). Empty text when none was.
--: stale_note | A sentence to put behind an answer, when the run could not describe the key again and its state is the last known one. Empty text otherwise.
SELECT *,
  CASE WHEN len(denied_actions) > 0 THEN ' (refused: ' || array_to_string(denied_actions, ', ') || ')' ELSE '' END AS denied_note,
  CASE WHEN freshness <> 'current' AND (len(denied_actions) = 0 OR list_contains(denied_actions, 'kms:DescribeKey'))
    THEN ' This is the last known state.' ELSE '' END AS stale_note
FROM keys_as_of(as_of_run)
WHERE manager IS DISTINCT FROM 'AWS'
