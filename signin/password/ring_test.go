package password

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

func soak() bool { return os.Getenv("AVOUCH_SOAK") == "1" }

// newRing makes keys without a database, with those of the platform and of one organisation.
func newRing(t testing.TB) (*keyring.Ring, tenantdb.TenantID) {
	t.Helper()
	dir := t.TempDir()
	_, err := keyring.CreatePlatformKeyFile(filepath.Join(dir, "platform.key"))
	must(t, err)
	platform, err := keyring.LoadPlatform(secret.String{}, filepath.Join(dir, "platform.key"))
	must(t, err)
	wrapper, err := platform.Wrapper(keyring.ForKeyStore)
	must(t, err)
	must(t, keyring.CreateStore(t.Context(), filepath.Join(dir, "keys"), wrapper))
	ring, err := keyring.New(t.Context(), keyring.Config{Dir: filepath.Join(dir, "keys"), Platform: platform})
	must(t, err)
	id := tenantdb.NewTenantID()
	must(t, ring.CreateTenant(t.Context(), tenantdb.Platform))
	must(t, ring.CreateTenant(t.Context(), id))
	return ring, id
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
