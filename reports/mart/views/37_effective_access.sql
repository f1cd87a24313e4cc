-- Which principals can use which key: key policies, grants and IAM policies in one view, one row per key, principal and path. Access that could not be evaluated is a row too, with access unknown. Filter by key, account or principal: administrators have a row for each key of their account.
--: key_arn | The key.
--: key_alias | The first alias of the key; NULL for path iam.
--: account_id | The key's account.
--: account_name | That account's name; NULL for path iam.
--: region | The key's region; NULL for path iam.
--: key_state | Enabled, Disabled, PendingDeletion ...; NULL for path iam.
--: access | owner_direct (needs no IAM policy), owner_delegated (through IAM policies of the key's account: path iam has the users and roles), organization, vendor (a known party), external (an unknown party), public, public_via_service (anyone, through an AWS service), aws_service, deleted (the principal no longer exists) or unknown. Service and resource control policies are not evaluated; they can restrict access further.
--: principal | The principal, as the policy or grant names it, or the user or role; * for everyone who meets its conditions.
--: principal_account | The account of the principal; NULL for path iam, where it is the key's account.
--: party | The name of the known party, or of the account in the organization; NULL for path iam.
--: operations | The operations the principal can perform: kms:Decrypt ...
--: path | policy, grant or iam.
--: source_id | The statement's Sid, or # and its index (from 0); the grant ID; or the name of the IAM policy; empty if unknown.
--: statement_index | The index of the statement in the key policy, from 0; NULL for grants and path iam.
--: conditions | The conditions in English; empty if there are none; NULL for path iam.
--: needs_iam | Whether IAM policies of the principal's own account must allow it too; NULL for path iam, which includes them.
--: reason | Why access is unknown; empty or NULL if it is known.
--: message | The row as a sentence.
--: witness | An example of a request that is allowed, as JSON: caller, account, operation, context; NULL for path iam.
--: alternative_paths | Other paths (source_id) through which the same principal, or its whole account, has some of the same access; NULL for path iam.
--: since_run | The run since which this principal has had access, through any policy version or grant; NULL for path iam.
--: since | When that run began; NULL for path iam.
--: freshness | current, or stale: the run could not read the policy or the grants again; NULL for path iam (see iam_accounts).
SELECT * FROM internal.key_access_as_of(as_of_run)
UNION ALL BY NAME
SELECT * FROM internal.key_access_iam_as_of(as_of_run)
