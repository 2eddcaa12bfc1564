package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/trail"
)

// A check of these few entries takes a tenth of a second; this bounds it on a machine that does much else.
const promptly = 20 * time.Second

// unguarded switches off what a superuser can switch off, and keeps a copy of the truth.
const unguarded = `DO $$ DECLARE t regclass; BEGIN
  FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'avouch'::regnamespace AND relkind IN ('r', 'p') AND relname LIKE 'audit\_%' LOOP
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', t);
  END LOOP;
  ALTER TABLE avouch.organisation DISABLE TRIGGER ALL;
  CREATE SCHEMA truth; GRANT USAGE ON SCHEMA truth TO PUBLIC;
  CREATE TABLE truth.entry AS SELECT * FROM avouch.audit_entry;
  CREATE TABLE truth.head AS SELECT * FROM avouch.audit_head;
END $$`

const restored = `DO $$ BEGIN
  DELETE FROM avouch.audit_entry; INSERT INTO avouch.audit_entry SELECT * FROM truth.entry;
  DELETE FROM avouch.audit_head; INSERT INTO avouch.audit_head SELECT * FROM truth.head;
END $$`

// tampering is what somebody who owns the database does to the log of $1, with its middle entry $2 and its size $3.
type tampering struct {
	name, sql string
	first     func(middle, size int64) int64 // the first bad entry
	keys      bool                           // only whoever has the keys can see it
}

func middle(m, _ int64) int64  { return m }
func next(m, _ int64) int64    { return m + 1 }
func first(_, _ int64) int64   { return 0 }
func last(_, s int64) int64    { return s - 1 }
func beyond(_, s int64) int64  { return s }
func noEntry(_, _ int64) int64 { return -1 }

// flip changes one bit of a column of the entry.
func flip(column string) string {
	return fmt.Sprintf(`UPDATE avouch.audit_entry SET %[1]s = set_bit(%[1]s, 5, 1 - get_bit(%[1]s, 5)) WHERE tenant_id = $1 AND seq = $2 AND $3 > 0`, column)
}

func set(assignment string) string {
	return "UPDATE avouch.audit_entry SET " + assignment + " WHERE tenant_id = $1 AND seq = $2 AND $3 > 0"
}

func head(assignment string) string {
	return "UPDATE avouch.audit_head SET " + assignment + " WHERE tenant_id = $1 AND $2 < $3::bigint"
}

func remove(which string) string {
	return "DELETE FROM avouch.audit_entry WHERE tenant_id = $1 AND $2 < $3::bigint AND " + which
}

// another inserts a copy of the entry with some columns changed.
func another(seq, written string) string {
	return `INSERT INTO avouch.audit_entry (tenant_id, seq, written_at, entry_id, request_id, body, leaf, prev, sealed)
		SELECT tenant_id, ` + seq + `, ` + written + `, entry_id, request_id, body, leaf, prev, sealed FROM truth.entry WHERE tenant_id = $1 AND seq = $2 AND $3::bigint > 0`
}

// exchange gives two entries each other's columns.
func exchange(assignment string) string {
	return "UPDATE avouch.audit_entry e SET " + assignment + " FROM truth.entry o WHERE e.tenant_id = $1 AND o.tenant_id = $1 AND o.seq + e.seq = 2 * $2 + 1 AND e.seq IN ($2, $2 + 1) AND $3 > 0"
}

func tamperings() []tampering {
	return []tampering{
		{"body", flip("body"), middle, false},
		{"leaf", flip("leaf"), middle, false},
		{"prev", flip("prev"), middle, false},
		{"sealed", flip("sealed"), middle, true},
		{"body longer", set(`body = body || '\x00'`), middle, false},
		{"body empty", set(`body = ''`), middle, false},
		{"body and leaf, to fit", `UPDATE avouch.audit_entry e SET body = o.body, leaf = o.leaf, entry_id = o.entry_id, request_id = o.request_id, sealed = o.sealed
			FROM truth.entry o WHERE e.tenant_id = $1 AND o.tenant_id = $1 AND e.seq = $2 AND o.seq = $3::bigint - 1`, next, false},
		{"entry id", set(`entry_id = gen_random_uuid()`), middle, false},
		{"request id", set(`request_id = gen_random_uuid()`), middle, false},
		{"number", set(`seq = $3 + 1000`), middle, false},
		{"tenant", set(`tenant_id = gen_random_uuid()`), middle, false},
		{"private fields taken away", set(`sealed = NULL`), middle, false},
		{"private fields exchanged", exchange(`sealed = o.sealed`), middle, true},
		{"entries exchanged", exchange(`body = o.body, leaf = o.leaf, entry_id = o.entry_id, request_id = o.request_id, sealed = o.sealed`), next, false},
		{"first deleted", remove(`seq = 0`), first, false},
		{"one deleted", remove(`seq = $2`), middle, false},
		{"one deleted, the rest moved up", `WITH d AS (DELETE FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = $2)
			UPDATE avouch.audit_entry SET seq = seq - 1 WHERE tenant_id = $1 AND seq > $2 AND $3 > 0`, middle, false},
		{"last deleted", remove(`seq = $3 - 1`), last, false},
		{"tail cut off", remove(`seq >= $2`), middle, false},
		{"all deleted", remove(`true`), first, false},
		{"number twice", another("seq", "written_at + interval '1 second'"), middle, false},
		{"one appended", another("$3::bigint", "written_at"), beyond, false},
		{"one before the first", another("-1", "written_at"), noEntry, false},
		{"head's size larger", head(`size = size + 1`), beyond, false},
		{"head's size smaller", head(`size = size - 1`), last, false},
		{"head's link", head(`chain = set_bit(chain, 5, 1 - get_bit(chain, 5))`), noEntry, false},
		{"head's log", head(`log_id = gen_random_uuid()`), first, false},
		{"head deleted", `DELETE FROM avouch.audit_head WHERE tenant_id = $1 AND $2 < $3::bigint`, noEntry, false},
	}
}

// checked is a line of `avouch audit check --json` on a database.
type checked struct {
	Tenant   string `json:"tenant_id"`
	OK       bool   `json:"ok"`
	FirstBad *int64 `json:"first_bad"`
	Reason   string `json:"reason"`
	Opened   int64  `json:"private_opened"`
}

// check runs the auditor's command. It must end promptly, and its exit code must be what its lines say.
func check(t testing.TB, env []string, args ...string) (code int, all map[string]checked) {
	t.Helper()
	began := time.Now()
	p := start(t, launch{args: append([]string{"audit", "check", "--json"}, args...), env: env})
	code, all = p.exit(promptly), map[string]checked{}
	if took := time.Since(began); took > promptly {
		t.Errorf("the check took %s", took)
	}
	if code > 1 {
		t.Fatalf("exit %d: %s", code, p.said())
	}
	for line := range strings.Lines(p.printed()) {
		var c checked
		must(t, json.Unmarshal([]byte(line), &c))
		all[c.Tenant] = c
	}
	return code, all
}

// quiet is a world with a dozen entries in each log and no server that would append more.
func quiet(t testing.TB) *world {
	t.Helper()
	w := shared(t)
	s := w.serve(w.databaseURL)
	for range 8 {
		if v, err := verify(s.url, w.serviceKey, w.token); err != nil || !v.Allowed {
			t.Fatalf("verify: %+v %v", v, err)
		}
	}
	s.end(syscall.SIGTERM)
	return w
}

// checkers are the ways in which a log in a database is checked.
func (w *world) checkers() map[string][]string {
	keys := w.env("")[1:3]
	return map[string][]string{
		"as administrator": {"AVOUCH_ADMIN_DATABASE_URL=" + w.adminURL}, "as server": {"AVOUCH_DATABASE_URL=" + w.databaseURL},
		"with the keys": append(slices.Clone(keys), "AVOUCH_ADMIN_DATABASE_URL="+w.adminURL),
	}
}

// TestTamperedDatabaseSoak changes a log in every way that SQL offers a superuser, and has it checked.
func TestTamperedDatabaseSoak(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	for who, env := range w.checkers() {
		code, all := check(t, env)
		if code != 0 || len(all) != 3 || !all[w.service].OK || who == "with the keys" && all[w.service].Opened == 0 {
			t.Fatalf("nothing was changed, and the check %s says: exit %d, %+v", who, code, all)
		}
	}
	_, err := w.admin.Exec(t.Context(), unguarded)
	must(t, err)
	log, err := w.admin.Log(t.Context(), w.service)
	must(t, err)
	at := log.Size / 2
	for _, c := range tamperings() {
		n, err := w.admin.Exec(t.Context(), c.sql, w.service, at, log.Size)
		if err != nil || n == 0 {
			t.Fatalf("%s: %d rows: %v", c.name, n, err)
		}
		for who, env := range w.checkers() {
			blind := c.keys && who != "with the keys"
			if who == "as server" && !soak() && c.name != "body" && c.name != "tail cut off" { // it is the same code
				continue
			}
			code, all := check(t, env)
			switch got := all[w.service]; {
			case blind && (code != 0 || !got.OK):
				t.Errorf("%s, seen %s: exit %d, %+v: without the keys it cannot be known", c.name, who, code, got)
			case !blind && (code != 1 || got.OK || got.FirstBad == nil || *got.FirstBad != c.first(at, log.Size) || got.Reason == ""):
				t.Errorf("%s of entry %d of %d, seen %s: exit %d, %+v, want %d", c.name, at, log.Size, who, code, show(got), c.first(at, log.Size))
			}
			if !all[w.owner].OK {
				t.Errorf("%s: the other log is blamed: %+v", c.name, show(all[w.owner]))
			}
		}
		_, err = w.admin.Exec(t.Context(), restored)
		must(t, err)
	}
	if code, all := check(t, w.checkers()["with the keys"]); code != 0 {
		t.Errorf("everything was put back, and the check says: exit %d, %+v", code, all)
	}
}

func show(c checked) string {
	if c.FirstBad == nil {
		return fmt.Sprintf("ok %v", c.OK)
	}
	return fmt.Sprintf("first bad %d: %s", *c.FirstBad, c.Reason)
}

// TestTamperedBytes changes every byte of every column of an entry, one at a time. It calls what the command calls, on
// a connection that stays: a process for each byte would take minutes.
func TestTamperedBytes(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	_, err := w.admin.Exec(t.Context(), unguarded)
	must(t, err)
	platform, err := keyring.LoadPlatform(secret.String{}, filepath.Join(w.dir, "platform.key"))
	must(t, err)
	ring, err := keyring.New(t.Context(), keyring.Config{Dir: filepath.Join(w.dir, "keystore"), Platform: platform})
	must(t, err)
	db, err := tenantdb.Open(t.Context(), tenantdb.Config{URL: w.databaseURL, Sealer: ring, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(db.Close)
	sound := func() (all map[string]trail.LogReport) {
		all = map[string]trail.LogReport{}
		must(t, trail.CheckDatabase(t.Context(), db, ring, func(l trail.LogReport) error {
			all[l.Tenant.String()] = l
			return nil
		}))
		return all
	}
	log, err := w.admin.Log(t.Context(), w.service)
	must(t, err)
	tried := 0
	for _, column := range []string{"body", "leaf", "prev", "sealed", "uuid_send(entry_id)", "uuid_send(request_id)"} {
		for i := range w.length(column, log.Size/2) {
			_, err := w.admin.Exec(t.Context(), byteSQL(column, i), w.service, log.Size/2)
			must(t, err)
			if l := sound()[w.service]; l.Fault == nil || int64(l.Fault.Index) != log.Size/2 {
				t.Errorf("byte %d of %s of entry %d: %v", i, column, log.Size/2, l.Fault)
			}
			tried++
		}
		_, err = w.admin.Exec(t.Context(), restored)
		must(t, err)
	}
	for tenant, l := range sound() {
		if !l.OK() || tried < 200 {
			t.Errorf("after %d changes, everything put back, tenant %s: %v", tried, tenant, l.Fault)
		}
	}
	t.Logf("measured: %d bytes of an entry changed one at a time, each found", tried)
}

// length is how many bytes a column of an entry has.
func (w *world) length(column string, seq int64) (n int) {
	w.t.Helper()
	found, err := w.admin.Texts(w.t.Context(), "SELECT length("+column+")::text FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = $2", w.service, seq)
	must(w.t, err)
	_, err = fmt.Sscan(found[0], &n)
	must(w.t, err)
	return n
}

// byteSQL inverts one byte of what the column truly is.
func byteSQL(column string, i int) string {
	inverted := fmt.Sprintf("set_byte(o.%s, %d, 255 - get_byte(o.%s, %d))", column, i, column, i)
	if name, ok := strings.CutPrefix(column, "uuid_send("); ok {
		column = strings.TrimSuffix(name, ")")
		inverted = fmt.Sprintf("encode(set_byte(uuid_send(o.%s), %d, 255 - get_byte(uuid_send(o.%s), %d)), 'hex')::uuid", column, i, column, i)
	}
	return "UPDATE avouch.audit_entry e SET " + column + " = " + inverted + ` FROM truth.entry o
		WHERE e.tenant_id = $1 AND e.seq = $2 AND o.tenant_id = $1 AND o.seq = $2`
}

// TestTamperedExport changes the files of an export, and has them checked where there is no server, database or key.
func TestTamperedExport(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	dir := filepath.Join(t.TempDir(), "export")
	p := start(t, launch{args: []string{"audit", "export", "--tenant", w.service, "--operator", "ada", dir}, env: w.env(w.databaseURL)})
	if code := p.exit(promptly); code != 0 {
		t.Fatalf("export: exit %d: %s", code, p.said())
	}
	verdict := func() (code int, said string) {
		p := start(t, launch{args: []string{"audit", "check", dir}})
		return p.exit(promptly), p.printed() + p.said()
	}
	if code, said := verdict(); code != 0 {
		t.Fatalf("nothing was changed: exit %d: %s", code, said)
	}
	var files []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	if len(files) < 4 {
		t.Fatalf("the export has %d files", len(files))
	}
	for _, file := range files {
		whole, err := os.ReadFile(file)
		must(t, err)
		for name, b := range mutilated(whole) {
			must(t, os.WriteFile(file, b, 0o600))
			if code, said := verdict(); code != 1 || said == "" {
				t.Errorf("%s, %s: exit %d: %s", strings.TrimPrefix(file, dir), name, code, said)
			}
		}
		must(t, os.WriteFile(file, whole, 0o600))
	}
	if code, said := verdict(); code != 0 {
		t.Errorf("everything was put back: exit %d: %s", code, said)
	}
}

// mutilated is what may become of a file.
func mutilated(whole []byte) map[string][]byte {
	flipped := func(at int) []byte {
		b := slices.Clone(whole)
		b[at] ^= 1
		return b
	}
	m := map[string][]byte{
		"first byte": flipped(0), "middle byte": flipped(len(whole) / 2), "last byte but one": flipped(len(whole) - 2), "empty": {}, "cut": whole[:len(whole)/2],
	}
	if lines := strings.SplitAfter(string(whole), "\n"); len(lines) > 6 {
		n := len(lines) / 2
		m["line taken out"] = []byte(strings.Join(slices.Delete(slices.Clone(lines), n, n+1), ""))
		m["lines exchanged"] = []byte(strings.Join(append(append(slices.Clone(lines[:n]), lines[n+1], lines[n]), lines[n+2:]...), ""))
		m["last line taken out"] = []byte(strings.Join(lines[:len(lines)-2], ""))
	}
	return m
}
