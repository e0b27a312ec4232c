// HashiCorp Vault, unmodified, from its published Go module. `make genuine` builds it and runs this project against it.
// Vault's licence (BUSL 1.1) allows testing: what is built from this is neither committed nor published.
package main

import (
	"os"

	"github.com/hashicorp/vault/command"
)

func main() {
	os.Exit(command.Run(os.Args[1:]))
}
