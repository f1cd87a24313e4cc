-- The customer managed keys and the keys that could not be described, with notes on the limits of what is known about them.
--! internal
--! columns of keys
--: denied_note | The denied actions as a parenthesis at the end of a sentence, e.g. (denied: kms:DescribeKey); empty text if there are none.
--: stale_note | A sentence to append to a reason if the run could not describe the key again; empty text otherwise.
SELECT *,
  CASE WHEN len(denied_actions) > 0 THEN ' (denied: ' || array_to_string(denied_actions, ', ') || ')' ELSE '' END AS denied_note,
  CASE WHEN freshness <> 'current' AND (len(denied_actions) = 0 OR list_contains(denied_actions, 'kms:DescribeKey'))
    THEN ' This is the last known state.' ELSE '' END AS stale_note
FROM keys_as_of(as_of_run)
WHERE manager IS DISTINCT FROM 'AWS'
