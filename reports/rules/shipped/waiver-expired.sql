-- id: waiver-expired
-- title: No waiver has outlived its date
-- severity: medium
-- family: coverage
-- why: >-
--   A waiver is a decision for a while: after its last day nobody has agreed to the risk any more. From then on the failures
--   that it covered count again, and the entry itself only misleads who reads the file.
-- fix: >-
--   If the failure is repaired, delete the waiver from its file. If the risk is still accepted, have the owner decide again
--   and write the new date. Until then the failures that it covered are reported as failures.
-- console: Nothing in the console; waivers stand in the files that the settings name under rules.waivers.
-- cli: kmsledger sql "SELECT source, waiver, owner, expires FROM waivers WHERE expired"
-- terraform: Terraform knows nothing of waivers; where their file is kept with the Terraform code, change it there.
SELECT
  'waiver/' || waiver AS resource_arn, account_id, 'global' AS region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN expired IS NULL THEN 'unknown'
    WHEN expired THEN 'fail'
    WHEN NOT expired THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN expired IS NULL THEN 'Could not determine when the run began, so not whether the waiver still held.'
    WHEN expired THEN 'The waiver of ' || rule_id || ' for ' || resource || ' held until ' || strftime(expires, '%Y-%m-%d')
      || '; its owner is ' || owner || coalesce(', the ticket ' || ticket, '') || ' (' || source || ').'
    WHEN NOT expired THEN 'The waiver of ' || rule_id || ' for ' || resource || ' holds until '
      || strftime(expires, '%Y-%m-%d') || '.'
    ELSE 'Whether the waiver still held is not known.'
  END AS reason
FROM waivers
