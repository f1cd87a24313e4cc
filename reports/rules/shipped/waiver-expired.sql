-- id: waiver-expired
-- title: No waiver has expired
-- severity: medium
-- family: coverage
-- why: >-
--   A waiver is a temporary decision: after its expiration date, nobody has accepted the risk. The failures it covered
--   count again, and the entry itself only misleads readers of the file.
-- fix: >-
--   If the failure is fixed, delete the waiver from its file. If the risk is still accepted, have the owner decide
--   again and enter a new date. Until then, the failures it covered are reported as failures.
-- console: >-
--   Not applicable; waivers are in the files configured under rules.waivers.
-- cli: kmsledger sql "SELECT source, waiver, owner, expires FROM waivers WHERE expired"
-- terraform: >-
--   Not applicable; if the waiver file is kept with the Terraform code, change it there.
SELECT 'waiver/' || waiver AS resource_arn, account_id, 'global' AS region, NULL AS key_arn,
  CASE
    WHEN expired IS NULL
      THEN unknown('Could not determine when the run started, and therefore whether the waiver was still valid.')
    WHEN expired THEN fail('The waiver of ' || rule_id || ' for ' || resource || ' expired on ' || strftime(expires, '%Y-%m-%d')
      || '; its owner is ' || owner || coalesce(', the ticket ' || ticket, '') || ' (' || source || ').')
    WHEN NOT expired THEN pass('The waiver of ' || rule_id || ' for ' || resource || ' is valid until '
      || strftime(expires, '%Y-%m-%d') || '.')
  END AS verdict
FROM waivers
