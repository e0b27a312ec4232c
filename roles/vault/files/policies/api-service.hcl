# What the api may do with stored secrets, and with its own token.

path "kv/data/system/*" {
  capabilities = ["read"]
}

path "kv/data/providers/*" {
  capabilities = ["read"]
}

# The key pair for push messages, which the api makes. Without these rights it makes another at each start, and every
# subscription ends.
path "kv/data/providers/vapid" {
  capabilities = ["create", "read", "update"]
}

path "kv/data/user-draft-aes-keys/*" {
  capabilities = ["create", "read", "update", "delete"]
}

path "kv/data/chat-aes-keys/*" {
  capabilities = ["create", "read", "update", "delete"]
}

# The token is issued without the default policy, so these two are said here.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
