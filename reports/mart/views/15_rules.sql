-- The rules that were in force when the mart was built.
--: rule_id | The rule's name.
--: title | What it demands.
--: severity | critical, high, medium, low or info.
--: frameworks | The controls of published frameworks that it answers.
--: why | Why it matters.
--: fix | What to do about a failure.
--: parameters | Its parameters with their values, as JSON.
SELECT rule_id, title, severity, frameworks, why, fix, parameters FROM ledger.rule WHERE as_of_run IS NOT NULL
