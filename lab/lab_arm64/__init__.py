"""The ARM machine of `make arm64`."""
