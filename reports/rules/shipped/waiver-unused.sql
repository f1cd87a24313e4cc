-- id: waiver-unused
-- title: Every waiver waives something
-- severity: low
-- family: coverage
-- why: >-
--   A waiver that covers no failure is either done with or was written with a wrong pattern. The first would silently accept
--   the same failure if it came back; the second leaves a failure open that somebody believes to be decided.
-- fix: >-
--   Compare its pattern with the ARN or name that the finding shows; correct the pattern, or delete the waiver from its file
--   when what it accepted is repaired. A waiver that is to hold while a rule cannot tell needs `include_unknown: true`.
-- console: Nothing in the console; waivers stand in the files that the settings name under rules.waivers.
-- cli: kmsledger sql "SELECT source, waiver, rule_id, resource, waives FROM waivers WHERE waives = 0"
-- terraform: Terraform knows nothing of waivers; where their file is kept with the Terraform code, change it there.
SELECT
  'waiver/' || waiver AS resource_arn, account_id, 'global' AS region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN expired THEN 'not_applicable'
    WHEN waived_count IS NULL THEN 'not_applicable'
    WHEN expired IS NULL THEN 'unknown'
    WHEN waived_count = 0 AND unknown_count > 0 THEN 'unknown'
    WHEN waived_count = 0 THEN 'fail'
    WHEN waived_count > 0 THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN expired THEN 'The waiver held until ' || strftime(expires, '%Y-%m-%d') || ' and waives nothing any more.'
    WHEN waived_count IS NULL THEN 'The rule ' || rule_id || ' is switched off.'
    WHEN expired IS NULL THEN 'Could not determine when the run began, so not whether the waiver still held.'
    WHEN waived_count = 0 AND unknown_count > 0 THEN 'The rule ' || rule_id || ' cannot tell whether what the waiver is for still fails.'
    WHEN waived_count = 0 THEN 'No failure of ' || rule_id || ' is on a resource that matches ' || resource
      || coalesce(' in account ' || account_id, '') || ' (' || source || ').'
    WHEN waived_count > 0 THEN 'It waives failures of ' || rule_id || '.'
    ELSE 'What the waiver waives is not known.'
  END AS reason
FROM waivers
