-- The accounts of the organization and of known parties.
--! internal
--: account_id | The account.
--: name | The name of the account or party.
--: in_organization | Whether it is an account of the organization.
--: is_party | Whether it is an account of a known party.
SELECT account_id, coalesce(o.name, y.name) AS name, o.account_id IS NOT NULL AS in_organization, y.account_id IS NOT NULL AS is_party
FROM (
  SELECT account_id, any_value(name) AS name FROM internal.account a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run) AND a.state IS DISTINCT FROM 'LEFT'
  GROUP BY account_id
) AS o
FULL JOIN internal.known_party y USING (account_id)
