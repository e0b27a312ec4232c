# What the api may do with stored secrets, and with its own token.

path "kv/data/system/*" {
  capabilities = ["read"]
}

path "kv/data/providers/*" {
  capabilities = ["read"]
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
