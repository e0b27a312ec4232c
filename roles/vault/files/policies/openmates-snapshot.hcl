# What takes a snapshot, and nothing else. A snapshot is encrypted with Vault's own key: without the shares it is useless.

path "sys/storage/raft/snapshot" {
  capabilities = ["read"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
