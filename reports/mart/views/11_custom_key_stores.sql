-- The custom key stores: CloudHSM clusters and external key managers.
--: account_id | The account.
--: region | The region.
--: store_id | The ID of the key store.
--: name | Its name.
--: store_type | AWS_CLOUDHSM or EXTERNAL_KEY_STORE.
--: connection_state | CONNECTED, DISCONNECTED, FAILED ...; keys in the store work only while it is connected.
--: connection_error | Why it is not connected.
--: cloud_hsm_cluster_id | The cluster behind it.
--: xks_connectivity | How AWS KMS connects to an external key manager.
--: created_at | When it was created.
SELECT s.account_id, s.region, s.store_id, s.name, s.store_type, s.connection_state, s.connection_error,
  s.cloud_hsm_cluster_id, s.xks_connectivity, s.created_at
FROM internal.custom_key_store s
WHERE internal.known(s.valid_from, s.valid_to, as_of_run)
