package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/devpg"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// holder is an organisation with something in its vault, and an agent that may use it.
type holder struct {
	id, key, agent, token string
	items                 map[string]string // paths, by the kind
}

// holderOf puts something of each kind into the vault of an organisation.
func (w *world) holderOf(url, id, key string) holder {
	w.t.Helper()
	var made struct {
		ID    string `json:"agent_id"`
		Token string
	}
	want(w.t, http.StatusCreated, http.MethodPost, url+"/api/v1/agents/register", key, map[string]any{"name": "Robot", "capabilities": []string{"read:codes", "use:secrets"}}, &made)
	h := holder{id, key, made.ID, made.Token, map[string]string{}}
	var codes []string
	for n := range 50 { // more than the test takes
		codes = append(codes, fmt.Sprintf("code-%d", n))
	}
	for kind, secret := range map[string]map[string]any{
		"totp": {"secret": seedOfRFC}, "hotp": {"secret": seedOfRFC}, "codes": {"codes": codes},
	} {
		secret["type"], secret["name"] = kind, "hushhush "+kind
		var item struct {
			ID string `json:"item_id"`
		}
		want(w.t, http.StatusCreated, http.MethodPost, url+vaultItems, key, secret, &item)
		h.items[kind] = vaultItems + "/" + item.ID
		want(w.t, http.StatusCreated, http.MethodPost, url+h.items[kind]+"/grants", key, map[string]any{"agent_id": h.agent}, nil)
	}
	return h
}

// opened is what the keys of an organisation, and its agent, can open of its vault at a server: how many of their requests worked.
func (h *holder) opened(t testing.TB, url string, keys ...string) (n int) {
	t.Helper()
	works := func(method, path, key string, body any) {
		got, err := ask(method, url+path, key, body, "If-Match", "*")
		must(t, err)
		if got.status < 300 && strings.Contains(path, "items") && !strings.HasSuffix(path, "/grants") {
			n++
		}
		if strings.Contains(string(got.body), "hushhush") && got.status >= 300 {
			t.Errorf("%s %s: %s", method, path, got.body)
		}
		if got.status == http.StatusInternalServerError {
			t.Errorf("%s %s: %s", method, path, got.body)
		}
	}
	for _, item := range h.items {
		works(http.MethodPost, item+"/code", h.token, nil)
		for _, key := range keys {
			works(http.MethodGet, item, key, nil)
			works(http.MethodGet, item+"/code", key, nil)
			works(http.MethodPost, item+"/code", key, nil)
			works(http.MethodPatch, item, key, map[string]any{"icon": "key"})
			works(http.MethodPost, item+"/resync", key, map[string]any{"counter": 3})
		}
	}
	for _, key := range keys {
		got, err := ask(http.MethodGet, url+vaultItems, key, nil)
		must(t, err)
		if strings.Contains(string(got.body), "hushhush") {
			n++
		}
		works(http.MethodPost, "/api/v1/vault/export", key, map[string]any{"items": []string{strings.TrimPrefix(h.items["totp"], vaultItems+"/")}, "reason": "to see", "clear": true})
	}
	return n
}

// TestShreddedVaultStaysShut dumps the database, destroys the keys of one of two organisations, and restores the dump beside today's platform
// key and key store: of that organisation no operation and no command opens anything, with its old keys or with one that an operator
// makes behind a broken glass; the other works as before.
func TestShreddedVaultStaysShut(t *testing.T) {
	t.Parallel()
	w := shared(t)
	s := w.serve(w.databaseURL)
	gone, kept := w.holderOf(s.url, w.owner, w.ownerKey), w.holderOf(s.url, w.service, w.serviceOwnerKey)
	all := gone.opened(t, s.url, gone.key)
	if other := kept.opened(t, s.url, kept.key); all < 12 || other != all {
		t.Fatalf("before, %d and %d requests open something", all, other)
	}
	dumped := filepath.Join(t.TempDir(), "dump")
	postgres(t, "pg_dump", "--format=custom", "--file", dumped, "--dbname", w.adminURL)
	s.end(syscall.SIGTERM)

	w.shred(gone.id)
	databaseURL, adminURL := w.restored(dumped)
	r := w.serve(databaseURL)
	if n := kept.opened(t, r.url, kept.key); n != all {
		t.Errorf("of the organisation whose keys are there %d requests open something, and %d did before", n, all)
	}
	if n := gone.opened(t, r.url, gone.key); n != 0 {
		t.Errorf("of the organisation whose keys were destroyed %d requests open something", n)
	}
	// What an operator can do about it.
	env := append(w.env(databaseURL), "AVOUCH_ADMIN_DATABASE_URL="+adminURL, "SUDO_USER=mallory")
	run := func(args ...string) (said string, ok bool) {
		p := start(t, launch{args: args, env: env})
		code := p.exit(time.Minute)
		return p.printed() + p.said(), code == 0
	}
	file := filepath.Join(t.TempDir(), "made.key")
	for _, h := range []holder{gone, kept} {
		run("break-glass", "open", "--organisation", h.id, "--reason", "To open what was shredded")
		run("organisations", "key", h.id, "--secret-file", file)
		if b, err := os.ReadFile(file); err == nil && h.id == gone.id {
			if n := gone.opened(t, r.url, strings.TrimSpace(string(b))); n != 0 {
				t.Errorf("with a key that the operator made %d requests open something", n)
			}
		}
		dir := filepath.Join(t.TempDir(), "export-"+h.id)
		said, _ := run("audit", "export", "--tenant", h.id, "--disclose", dir)
		records, _ := os.ReadFile(filepath.Join(dir, "records.ndjson")) // of what is shut there may be none
		if shows := strings.Contains(said+string(records), "hushhush"); shows != (h.id == kept.id) {
			t.Errorf("the log of %s, disclosed, shows names of items: %v: %s", h.id, shows, said)
		}
	}
	for _, args := range [][]string{{"keyring", "status"}, {"keyring", "rewrap"}, {"keyring", "rotate", "--organisation", gone.id}, {"audit", "check"}, {"organisations", "list", "--json"}} {
		if said, _ := run(args...); strings.Contains(said, "hushhush") {
			t.Errorf("avouch %v: %s", args, said)
		}
	}
	if n := gone.opened(t, r.url, gone.key); n != 0 {
		t.Errorf("after all of the operator's commands %d requests open something", n)
	}
	if n := kept.opened(t, r.url, kept.key); n != all {
		t.Errorf("of the other one %d requests open something after them, and %d did before", n, all)
	}
}

// shred destroys an organisation's keys as the servers do when the time of grace after its deletion is over.
func (w *world) shred(id string) {
	w.t.Helper()
	w.deleteLongAgo(id)
	operator, tenant := w.operator(), mustTenant(w.t, id)
	done, err := operator.Org.Shred(w.t.Context(), tenantdb.System(tenant, "deletion"))
	if must(w.t, err); !done {
		w.t.Fatal("nothing was destroyed")
	}
}

// deleteLongAgo deletes an organisation in a process whose clock stands where the time of grace has passed since.
func (w *world) deleteLongAgo(id string) {
	w.t.Helper()
	operator, tenant := w.operator(), mustTenant(w.t, id)
	then := time.Now().Add(-org.Grace - 24*time.Hour)
	room := org.New(org.Config{DB: operator.DB, Ring: operator.Ring, Now: func() time.Time { return then }})
	by := tenantdb.System(tenant, "operator")
	o, err := room.Get(w.t.Context(), by)
	must(w.t, err)
	_, err = room.Delete(w.t.Context(), by, o.Name, "")
	must(w.t, err)
}

func mustTenant(t testing.TB, id string) tenantdb.TenantID {
	t.Helper()
	tenant, err := tenantdb.ParseTenantID(id)
	must(t, err)
	return tenant
}

// operator is what an operator's command opens.
func (w *world) operator() *server.Server {
	w.t.Helper()
	s, err := server.Operate(w.t.Context(), server.Config{
		DatabaseURL: w.databaseURL, PlatformKeyFile: filepath.Join(w.dir, "platform.key"), KeyStore: filepath.Join(w.dir, "keystore"), PublicURL: worldURL, Version: "test",
	}, discard())
	must(w.t, err)
	w.t.Cleanup(func() { s.Close() })
	return s
}

// TestDatabaseDestroysNoKeys: whoever has the database alone, as its superuser or by an older backup of it, and makes the servers believe that
// an organisation was deleted long ago, destroys no key of it: it is an incident, and the organisation is brought back.
func TestDatabaseDestroysNoKeys(t *testing.T) {
	t.Parallel()
	w := shared(t)
	s := w.serve(w.databaseURL)
	written, backup := w.holderOf(s.url, w.owner, w.ownerKey), w.holderOf(s.url, w.service, w.serviceOwnerKey)
	all := written.opened(t, s.url, written.key)
	if other := backup.opened(t, s.url, backup.key); all < 12 || other != all {
		t.Fatalf("before, %d and %d requests open something", all, other)
	}
	// A deletion that is pending when the backup is made, and taken back since.
	w.deleteLongAgo(backup.id)
	dumped := filepath.Join(t.TempDir(), "dump")
	postgres(t, "pg_dump", "--format=custom", "--file", dumped, "--dbname", w.adminURL)
	run := func(databaseURL string, args ...string) string {
		t.Helper()
		p := start(t, launch{args: args, env: append(w.env(databaseURL), "SUDO_USER=grace")})
		p.exit(time.Minute)
		return p.printed() + p.said()
	}
	run(w.databaseURL, "organisations", "restore", backup.id, "--reason", "they came back")
	s.end(syscall.SIGTERM)

	w.past(`UPDATE avouch.organisation SET deleted_at = now() - interval '31 days', suspended_at = now() - interval '31 days' WHERE tenant_id = '` + written.id + `'`)
	databaseURL, _ := w.restored(dumped)
	for _, one := range []struct {
		holder
		databaseURL, says string
	}{{written, w.databaseURL, "the log does not"}, {backup, databaseURL, "older backup"}} {
		r := w.serve(one.databaseURL) // which looks for organisations to shred at once
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
			said := run(one.databaseURL, "incidents", "list", "--json")
			if strings.Contains(said, org.DeletionUnproved) && strings.Contains(said, one.id) && strings.Contains(said, one.says) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no incident says %q of %s: %s", one.says, one.id, said)
			}
		}
		if n := one.opened(t, r.url, one.key); n != 0 {
			t.Errorf("of what is deleted %d requests open something", n)
		}
		run(one.databaseURL, "organisations", "restore", one.id, "--reason", "it was not deleted")
		if n := one.opened(t, r.url, one.key); n != all {
			t.Errorf("brought back, %d requests open something, and %d did before", n, all)
		}
		r.end(syscall.SIGTERM)
	}
}

// restored is a dump in a database of its own.
func (w *world) restored(dumped string) (databaseURL, adminURL string) {
	w.t.Helper()
	name := "restored_" + strings.ReplaceAll(w.owner, "-", "")
	must(w.t, tenantdb.CreateDatabase(w.t.Context(), w.adminURL, name))
	w.t.Cleanup(func() { w.admin.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)") })
	at := func(address string) string {
		u := mustURL(w.t, address)
		u.Path = "/" + name
		return u.String()
	}
	postgres(w.t, "pg_restore", "--exit-on-error", "--dbname", at(w.adminURL), dumped)
	return at(w.databaseURL), at(w.adminURL)
}

// postgres runs one of PostgreSQL's programs.
func postgres(t testing.TB, program string, args ...string) {
	t.Helper()
	if b, err := devpg.Find(); err == nil && exists(filepath.Join(b.Dir, program)) {
		program = filepath.Join(b.Dir, program)
	} else {
		needs(t, program)
	}
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
}
