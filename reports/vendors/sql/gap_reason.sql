-- Why the facts that `action` returns about `subject` are missing, as a clause.
SELECT $action || ' failed: ' || coalesce(cause_text, cause) AS reason FROM coverage
WHERE outcome = 'gap' AND subject = $subject AND action = $action
