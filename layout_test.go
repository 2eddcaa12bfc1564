package avouch_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/avouch-dev/avouch/internal/layout"
)

// plan is the house: a room imports only lower floors. When one room needs another of its floor, it declares a one- or
// two-method interface on its own side, and server passes the other room in.
func plan() layout.Plan {
	return layout.Plan{
		Module: "github.com/avouch-dev/avouch",
		Floors: []layout.Floor{
			{Name: "0 plumbing, knows nothing of the product", Rooms: []string{".", "internal/", "migrations"}, Sideways: true},
			{Name: "0 the pure log, pure codes", Rooms: []string{"audit", "internal/otp"}, Doc: true},
			{Name: "0 what others write codes in", Rooms: []string{"vault/portable"}, Doc: true},
			{Name: "0 requests with a secret that the one who asks does not see", Rooms: []string{"vault/fetch"}, Doc: true},
			{Name: "1 the one door", Rooms: []string{"tenantdb", "postgres"}, Doc: true},
			{Name: "2 keys", Rooms: []string{"keyring"}, Doc: true},
			{Name: "3 rooms", Rooms: []string{
				"org", "signin/password", "signin/mfa", "signin/session", "signin/saml", "signin/pages", "signin/link", "apikey", "agent", "edge", "policy", "vault", "pii",
				"sandbox", "trail", "incident", "webhook", "keyring/rotation", "keyring/transit", "keyring/awskms", "keyring/gcpkms", "keyring/pkcs11",
			}, Doc: true},
			{Name: "4 rooms that stand on rooms", Rooms: []string{"verify", "evidence", "oauth", "feed", "signin", "signin/sso", "signin/scim", "keyring/kms"}, Doc: true},
			{Name: "5 the rooms put together", Rooms: []string{"server", "console"}, Doc: true},
			// Tests may import from any floor, so aids of tests stand on top, where nothing else can reach them.
			{Name: "6 programs, and what only tests import", Rooms: []string{"cmd/", "bench", "test/", "tenantdb/doortest", "keyring/wrappertest", "keyring/transit/transittest"}},
		},
		Postgres:   []string{"tenantdb", "postgres", "internal/pgtest", "internal/devpg"},
		Callers:    []string{"apikey", "agent", "org", "policy", "server", "signin", "signin/", "verify", "tenantdb/doortest"},
		Docs:       []string{"docs/threat-model.md", "docs/seeds.md", "docs/keyring.md", "docs/keyring-rotation.md", "docs/byok.md", "docs/whitepaper.md", "docs/compliance.md"},
		Definers:   "docs/threat-model.md",
		Exceptions: nil, // each with its reason; keep them few
	}
}

// TestHouse reads the whole repository. What each rule finds, and that it finds it, is tested in internal/layout.
func TestHouse(t *testing.T) {
	t.Parallel()
	report, err := layout.Check(os.DirFS("."), plan())
	if err != nil {
		t.Fatal(err)
	}
	byRule := map[string][]layout.Finding{}
	for _, f := range report.Findings {
		byRule[f.Rule] = append(byRule[f.Rule], f)
	}
	for _, rule := range layout.Rules() {
		t.Run(rule, func(t *testing.T) {
			for _, f := range byRule[rule] {
				t.Error(f)
			}
		})
	}
	code := float64(max(1, report.Code))
	t.Logf("%d lines of code; tests per line of code %.2f (aim 0.8); interfaces per 1,000 lines %.2f (below 1)",
		report.Code, float64(report.Tests)/code, 1000*float64(report.Interfaces)/code)
}

// TestMinimumVersions keeps dependencies and toolchain at or above the versions that fixed what we know of.
func TestMinimumVersions(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("tools/minimum-versions.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"go.mod", "tools/go.mod"} {
		mod, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found, err := layout.Minimums(list, mod, runtime.Version())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Errorf("%s: %v", path, f)
		}
	}
}
