// Takes the place of Vault's commands_min.go in a build for the import drill (lab/file_vault.py): with the file storage
// that OpenMates' installer uses, and without what else the tag `minimal` leaves out.
package command

import (
	_ "github.com/hashicorp/vault/helper/builtinplugins"
	"github.com/hashicorp/vault/sdk/physical/file"
)

func extendAddonHandlers(handlers *vaultHandlers) {
	handlers.physicalBackends["file"] = file.NewFileBackend
}
