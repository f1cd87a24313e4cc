-- id: waiver-unused
-- title: Every waiver covers a failure
-- severity: low
-- family: coverage
-- why: >-
--   A waiver that covers no failure is either obsolete or has a wrong pattern. In the first case, it would silently
--   accept the same failure if it reappeared; in the second case, a failure stays open that somebody considers
--   accepted.
-- fix: >-
--   Compare the pattern with the ARN or name in the finding. Correct the pattern, or delete the waiver from its file if
--   the accepted failure is fixed. A waiver that should also cover unknown results needs `include_unknown: true`.
-- console: >-
--   Not applicable; waivers are in the files configured under rules.waivers.
-- cli: kmsledger sql "SELECT source, waiver, rule_id, resource, waived_count FROM waivers WHERE waived_count = 0"
-- terraform: >-
--   Not applicable; if the waiver file is kept with the Terraform code, change it there.
SELECT 'waiver/' || waiver AS resource_arn, account_id, 'global' AS region, NULL AS key_arn,
  CASE
    WHEN expired
      THEN not_applicable('The waiver expired on ' || strftime(expires, '%Y-%m-%d') || ' and covers nothing anymore.')
    WHEN waived_count IS NULL THEN not_applicable('The rule ' || rule_id || ' is disabled.')
    WHEN expired IS NULL
      THEN unknown('Could not determine when the run started, and therefore whether the waiver was still valid.')
    WHEN waived_count = 0 AND unknown_count > 0
      THEN unknown('The rule ' || rule_id || ' could not determine whether the waived failure still exists.')
    WHEN waived_count = 0 THEN fail('No failure of ' || rule_id || ' matches the resource ' || resource
      || coalesce(' in account ' || account_id, '') || ' (' || source || ').')
    WHEN waived_count > 0 THEN pass('It covers failures of ' || rule_id || '.')
  END AS verdict
FROM waivers
