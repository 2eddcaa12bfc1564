package password

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestFIPS runs TestFIPSProcess where Go's FIPS mode is on, and where it is enforced.
func TestFIPS(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"on", "only"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFIPSProcess$", "-test.count=1")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140="+mode, "AVOUCH_TEST_FIPS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("fips140=%s: %v\n%s", mode, err, out)
		}
	}
}

// TestFIPSProcess is the process of TestFIPS: new hashes are PBKDF2's without being told, the older ones of argon2id are right and
// outdated, and breached lists are asked as ever.
func TestFIPSProcess(t *testing.T) {
	if os.Getenv("AVOUCH_TEST_FIPS") == "" {
		return
	}
	if !fips140.Enabled() {
		t.Fatal("FIPS mode is off")
	}
	ring, id := newRing(t)
	r, e := New(Config{Ring: ring}), newEndpoint(t, map[string]int{snail: 5})
	if r.want != pbkdf2Now {
		t.Errorf("new hashes are made by %+v", r.want)
	}
	h, err := r.Hash(t.Context(), Stranger, id, tenantdb.PersonID{1}, secret.Text(horse))
	must(t, err)
	ok, outdated, err := r.Verify(t.Context(), Stranger, Stored{hash: h}, secret.Text(horse))
	if must(t, err); !ok || outdated {
		t.Errorf("right %v, outdated %v", ok, outdated)
	}
	h, err = New(Config{Ring: ring, Quick: true}).Hash(t.Context(), Stranger, id, tenantdb.PersonID{1}, secret.Text(horse))
	must(t, err)
	ok, outdated, err = r.Verify(t.Context(), Stranger, Stored{hash: h}, secret.Text(horse))
	if must(t, err); !ok || !outdated {
		t.Errorf("an older one: right %v, outdated %v", ok, outdated)
	}
	if b := lists(t, BreachedConfig{URL: e.URL + "/range", Required: true}); !known(t, b, snail) || known(t, b, horse) {
		t.Error("the endpoint is misread")
	}
}
