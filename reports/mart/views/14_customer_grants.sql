-- The grants that are not for AWS services (for_service of grants): those that somebody has to answer for.
--! internal
--! stored
--! columns of grants
--: resource_arn | The grant as a resource: its key's ARN, #grant/ and its id.
SELECT *, key_arn || '#grant/' || grant_id AS resource_arn
FROM grants_as_of(as_of_run)
WHERE NOT for_service
