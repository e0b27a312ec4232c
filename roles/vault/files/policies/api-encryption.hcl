# What the api may do with encryption keys in the transit engine: manage them and use them. Keys never leave the engine.

# The api asks whether the engine is there before it uses it; refused, it goes on half-initialised.
path "sys/mounts/transit" {
  capabilities = ["read"]
}

path "transit/keys/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# Without "create", because that would make a missing key by the way instead of failing.
path "transit/encrypt/*" {
  capabilities = ["update"]
}

path "transit/decrypt/*" {
  capabilities = ["update"]
}

path "transit/hmac/*" {
  capabilities = ["update"]
}
