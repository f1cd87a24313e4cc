-- The grants that are not for AWS services (grants.for_service is false): the grants that people are responsible for.
--! internal
--! stored
--! columns of grants
--: resource_arn | The grant as a resource: the key ARN, #grant/ and the grant ID.
SELECT *, key_arn || '#grant/' || grant_id AS resource_arn
FROM grants_as_of(as_of_run)
WHERE NOT for_service
