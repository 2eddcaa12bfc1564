package keyring

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// child names what a re-executed test binary does instead of running tests.
const child = "AVOUCH_KEYRING_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(child) {
	case "":
		os.Exit(m.Run())
	case "ring":
		os.Exit(ringChild(os.Args[1], os.Args[2:]))
	case "dump":
		os.Exit(dumpChild())
	case "handover":
		os.Exit(handOverChild(os.Args[1], os.Args[2]))
	case "rewrap":
		os.Exit(rewrapChild(os.Args[1], os.Args[2]))
	case "stranger":
		os.Exit(strangerChild(os.Args[1], os.Args[2]))
	case "platform":
		os.Exit(platformChild(os.Args[1]))
	}
	os.Exit(2)
}

const firstPlatformKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
const secondPlatformKey = "2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="

func mustPlatform(t testing.TB, text string) *Platform {
	t.Helper()
	p, err := ParsePlatform([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustWrapper(t testing.TB, p *Platform, use string) *Local {
	t.Helper()
	w, err := p.Wrapper(use)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func ringOn(t testing.TB, dir string, now func() time.Time) *Ring {
	t.Helper()
	r, err := New(context.Background(), Config{Dir: dir, Platform: mustPlatform(t, firstPlatformKey), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newStoreDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keystore")
	if err := CreateStore(context.Background(), dir, mustWrapper(t, mustPlatform(t, firstPlatformKey), ForKeyStore)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newRing is a ring on a store of its own with one tenant.
func newRing(t testing.TB) (*Ring, tenantdb.TenantID) {
	t.Helper()
	r := ringOn(t, newStoreDir(t), nil)
	return r, newTenant(t, r)
}

func newTenant(t testing.TB, r *Ring) tenantdb.TenantID {
	t.Helper()
	id := tenantdb.NewTenantID()
	if err := r.CreateTenant(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	return id
}

func newSubject(t testing.TB) audit.SubjectID {
	t.Helper()
	var s audit.SubjectID
	copy(s[:], newKey().Expose())
	return s
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: start} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// eachByteMatters flips every byte of sealed, cuts it at every length and lengthens it, and wants open to refuse each.
func eachByteMatters(t *testing.T, sealed []byte, open func([]byte) error) {
	t.Helper()
	if err := open(sealed); err != nil {
		t.Fatalf("the untouched value does not open: %v", err)
	}
	for i := range sealed {
		for _, flip := range []byte{1, 0x80} {
			b := bytes.Clone(sealed)
			b[i] ^= flip
			if open(b) == nil {
				t.Errorf("opens with byte %d changed", i)
			}
		}
		if open(sealed[:i]) == nil {
			t.Errorf("opens when cut to %d bytes", i)
		}
	}
	if open(append(bytes.Clone(sealed), 0)) == nil {
		t.Error("opens with a byte more")
	}
}

// holdsNoKey fails if a text shows any of the platform keys of these tests.
func holdsNoKey(t *testing.T, what, text string) {
	t.Helper()
	key := mustPlatform(t, firstPlatformKey).versions[1].Expose()
	list := strings.Trim(fmt.Sprint(key), "[]")
	for _, form := range []string{firstPlatformKey, string(key), fmt.Sprintf("%x", key), fmt.Sprintf("%X", key), list, "0x1, 0x2, 0x3, 0x4, 0x5"} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the platform key", what)
		}
	}
}

func ownSecret(text string) secret.String { return secret.Text(text) }
