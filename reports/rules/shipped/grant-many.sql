-- id: grant-many
-- title: No key is close to the grant limit
-- severity: low
-- family: grants
-- why: >-
--   AWS allows 50,000 grants per key. At the limit, everything under the key that needs a new grant fails at once, such
--   as starting an instance with an encrypted volume or restoring a database.
-- fix: >-
--   Find out which application creates the grants without retiring them (many grants with the same grantee or name).
--   Have the application retire each grant when it is done, and revoke the old grants in batches: each revocation takes
--   effect within five minutes and interrupts anything that still uses the grant.
-- console: >-
--   The KMS console does not show grants; use the CLI.
-- cli: >-
--   aws kms list-grants --key-id KEY_ARN --query 'Grants[].[GrantId,Name,GranteePrincipal,CreationDate]'; aws kms
--   revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Terraform cannot fix this, because applications create such grants. Distribute the load over several aws_kms_key
--   resources.
-- parameters:
--   most: {default: "40000", about: "Maximum number of grants per key, including those to AWS services; AWS allows 50000."}
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN grants IS NULL THEN unknown('The grants of the key could not be read.')
    WHEN grants > CAST($most AS INTEGER) THEN fail('The key has more than ' || $most || ' grants; AWS allows 50000.')
    WHEN grants <= CAST($most AS INTEGER) THEN pass('The key has at most ' || $most || ' grants.')
  END AS verdict
FROM keys
WHERE manager IS DISTINCT FROM 'AWS'
