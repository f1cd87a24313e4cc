-- id: grant-many
-- title: No key comes near the limit of grants
-- severity: low
-- family: grants
-- why: >-
--   AWS allows 50,000 grants on a key. At the limit nothing that needs a new grant works any more, such as starting
--   an instance with an encrypted volume or restoring a database, and it fails at once for everything under the key.
-- fix: >-
--   Find out who makes the grants and does not retire them (the same holder or name many times). Let the program
--   retire each grant when it is done, and revoke the old ones in steps: each revocation takes effect within five
--   minutes, and breaks what still uses the grant.
-- console: The KMS console shows no grants; use the command line.
-- cli: >-
--   aws kms list-grants --key-id KEY_ARN --query 'Grants[].[GrantId,Name,GranteePrincipal,CreationDate]'; aws kms
--   revoke-grant --key-id KEY_ARN --grant-id GRANT_ID
-- terraform: >-
--   Not a matter of Terraform: such grants are made by programs. Divide the load over several aws_kms_key.
-- parameters:
--   most: {default: "40000", about: "how many grants a key may have, those for AWS services included (a number; AWS allows 50000)"}
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN grants IS NULL THEN 'unknown'
    WHEN grants > CAST($most AS INTEGER) THEN 'fail'
    WHEN grants <= CAST($most AS INTEGER) THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN grants IS NULL THEN 'The grants of the key could not be read.'
    WHEN grants > CAST($most AS INTEGER) THEN 'The key has more than ' || $most || ' grants; AWS allows 50000.'
    ELSE 'The key has at most ' || $most || ' grants.'
  END AS reason
FROM keys
WHERE manager IS DISTINCT FROM 'AWS'
