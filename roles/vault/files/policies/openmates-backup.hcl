# What a backup does: take a snapshot, which is useless without the shares, and encrypt a canary, by which a restored
# snapshot is known to be this Vault's. It decrypts nothing. "create" makes the canary's key at the first time.

path "sys/storage/raft/snapshot" {
  capabilities = ["read"]
}

path "transit/encrypt/openmates-canary" {
  capabilities = ["create", "update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
