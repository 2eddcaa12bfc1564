package trail

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/incident"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// tampering is one thing that somebody with all rights does to a log of 21 entries, and where it must show.
type tampering struct {
	name string
	sql  []string // $1 is the tenant
	bad  int64    // the first bad index; audit.Whole if no single entry can be blamed
	says string
	// blind says that it takes the keys to see it.
	blind bool
}

func flip(column string, seq int) string {
	return fmt.Sprintf("UPDATE avouch.audit_entry SET %s = set_byte(%s, length(%s) / 2, get_byte(%s, length(%s) / 2) # 1) WHERE tenant_id = $1 AND seq = %d",
		column, column, column, column, column, seq)
}

func tamperings(other tenantdb.TenantID) []tampering {
	const remove = "DELETE FROM avouch.audit_entry WHERE tenant_id = $1 AND seq "
	const update = "UPDATE avouch.audit_entry SET "
	const copyRow = `INSERT INTO avouch.audit_entry (tenant_id, seq, written_at, entry_id, request_id, body, leaf, prev, sealed)
  SELECT tenant_id, %s, written_at %s, entry_id, request_id, body, leaf, prev, sealed FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = %d`
	at := func(set string, seq int) string {
		return fmt.Sprintf("%s%s WHERE tenant_id = $1 AND seq = %d", update, set, seq)
	}
	return []tampering{
		{name: "body", sql: []string{flip("body", 5)}, bad: 5},
		{name: "first byte of the body", sql: []string{at("body = set_byte(body, 0, get_byte(body, 0) # 1)", 5)}, bad: 5},
		{name: "last byte of the body", sql: []string{at("body = set_byte(body, length(body) - 1, get_byte(body, length(body) - 1) # 1)", 5)}, bad: 5},
		{name: "body cut", sql: []string{at("body = substr(body, 1, length(body) - 1)", 5)}, bad: 5},
		{name: "body longer", sql: []string{at(`body = body || '\x00'`, 5)}, bad: 5},
		{name: "leaf", sql: []string{flip("leaf", 5)}, bad: 5, says: "leaf"},
		{name: "prev", sql: []string{flip("prev", 5)}, bad: 5, says: "prev"},
		{name: "first body", sql: []string{flip("body", 0)}, bad: 0},
		{name: "first prev", sql: []string{flip("prev", 0)}, bad: 0},
		{name: "last body", sql: []string{flip("body", 20)}, bad: 20},
		{name: "body and its leaf", sql: []string{flip("body", 5), at(`leaf = sha256('\x00'::bytea || body)`, 5)}, bad: 6, says: "prev"},
		{name: "an entry of another's words", sql: []string{at(`body = (SELECT body FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = 6), leaf = (SELECT leaf FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = 6)`, 5)}, bad: 5, says: "entry_id"},
		{name: "the same with its ids", sql: []string{at(`(body, leaf, entry_id, request_id, sealed) = (SELECT body, leaf, entry_id, request_id, sealed FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = 6)`, 5)}, bad: 6, says: "prev"},
		{name: "sealed", sql: []string{flip("sealed", 4)}, bad: 4, says: "private", blind: true},
		{name: "sealed header", sql: []string{at("sealed = set_byte(sealed, 0, 0)", 4)}, bad: 4, says: "private", blind: true},
		{name: "sealed of another key version", sql: []string{at("sealed = set_byte(sealed, 5, 9)", 4)}, bad: 4, says: "private", blind: true},
		{name: "sealed of another entry", sql: []string{at("sealed = (SELECT sealed FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = 7)", 4)}, bad: 4, blind: true},
		{name: "sealed removed", sql: []string{at("sealed = NULL", 4)}, bad: 4, says: "missing"},
		{name: "sealed added", sql: []string{at(`sealed = '\x00'`, 5)}, bad: 5, says: "did not commit"},
		{name: "entry_id", sql: []string{at("entry_id = gen_random_uuid()", 5)}, bad: 5, says: "entry_id"},
		{name: "request_id", sql: []string{at("request_id = gen_random_uuid()", 5)}, bad: 5, says: "request_id"},
		{name: "looked up by what it is not about", sql: []string{at("about = gen_random_uuid()", 5)}, bad: 5, says: "found by"},
		{name: "looked up by who did not act", sql: []string{at("person = gen_random_uuid()", 5)}, bad: 5, says: "found by"},
		{name: "seq", sql: []string{at("seq = 99", 5)}, bad: 5, says: "missing"},
		{name: "seq below zero", sql: []string{fmt.Sprintf(copyRow, "-7", "", 5)}, bad: int64(audit.Whole), says: "-7"},
		{name: "one deleted", sql: []string{remove + "= 5"}, bad: 5, says: "missing"},
		{name: "the first deleted", sql: []string{remove + "= 0"}, bad: 0, says: "missing"},
		{name: "the last deleted", sql: []string{remove + "= 20"}, bad: 20, says: "missing"},
		{name: "the tail deleted", sql: []string{remove + ">= 12"}, bad: 12, says: "missing"},
		{name: "all deleted", sql: []string{remove + ">= 0"}, bad: 0, says: "missing"},
		{name: "two swapped", sql: []string{at("seq = 100", 5), at("seq = 5", 6), at("seq = 6", 100)}, bad: 5},
		{name: "one twice", sql: []string{fmt.Sprintf(copyRow, "seq", "+ interval '1 second'", 5)}, bad: 5, says: "two entries"},
		{name: "the last twice", sql: []string{fmt.Sprintf(copyRow, "seq", "+ interval '1 second'", 20)}, bad: 20, says: "two entries"},
		{name: "a forged twin before", sql: []string{fmt.Sprintf(copyRow, "seq", "- interval '1 second'", 5), flip("body", 5)}, bad: 5},
		{name: "one added", sql: []string{fmt.Sprintf(copyRow, "21", "", 20)}, bad: 21, says: "21"},
		{name: "moved to another tenant", sql: []string{"UPDATE avouch.audit_entry SET tenant_id = '" + other.String() + "' WHERE tenant_id = $1 AND seq = 5"}, bad: 5, says: "missing"},
		{name: "head made shorter", sql: []string{"UPDATE avouch.audit_head SET size = 12 WHERE tenant_id = $1"}, bad: 12, says: "head"},
		{name: "head made longer", sql: []string{"UPDATE avouch.audit_head SET size = 22 WHERE tenant_id = $1"}, bad: 21, says: "missing"},
		{name: "head made very long", sql: []string{"UPDATE avouch.audit_head SET size = 500000000 WHERE tenant_id = $1"}, bad: 21, says: "missing"},
		{name: "head made impossibly long", sql: []string{"UPDATE avouch.audit_head SET size = 1::bigint << 61 WHERE tenant_id = $1"}, bad: int64(audit.Whole), says: "head"},
		{name: "head's link", sql: []string{"UPDATE avouch.audit_head SET chain = sha256('x') WHERE tenant_id = $1"}, bad: int64(audit.Whole), says: "link"},
		{name: "tail deleted and head made shorter", sql: []string{remove + ">= 12", "UPDATE avouch.audit_head SET size = 12 WHERE tenant_id = $1"}, bad: int64(audit.Whole), says: "link"},
		{name: "another log's name", sql: []string{"UPDATE avouch.audit_head SET log_id = gen_random_uuid() WHERE tenant_id = $1"}, bad: 0, says: "log"},
	}
}

// tamper does it, past the triggers, as whoever owns the database can.
func (s *scene) tamper(t testing.TB, how tampering, tenant tenantdb.TenantID) {
	t.Helper()
	s.Admin(t, "ALTER TABLE avouch.audit_entry DISABLE TRIGGER USER")
	for _, sql := range how.sql {
		s.Admin(t, sql, tenant)
	}
	s.Admin(t, "ALTER TABLE avouch.audit_entry ENABLE ALWAYS TRIGGER insert_only")
}

// check runs both checks of the database and returns what each says of a tenant.
func (s *scene) check(t testing.TB, sealer tenantdb.Sealer, tenant tenantdb.TenantID) (door, admin LogReport) {
	t.Helper()
	gather := func(into *LogReport) func(LogReport) error {
		return func(l LogReport) error {
			if l.Tenant == tenant {
				*into = l
			}
			return nil
		}
	}
	start := time.Now()
	must(t, CheckDatabase(t.Context(), s.DB, sealer, gather(&door)))
	must(t, CheckDatabaseAt(t.Context(), s.adminURL(t), sealer, gather(&admin)))
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("the checks took %v", took)
	}
	return door, admin
}

// TestTamperingIsFound does each tampering to a log of its own, and lets the verification pass and both checks of the
// database say where it shows.
func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	s := enter(t)
	all := tamperings(tenantdb.NewTenantID())
	tenants := make([]tenantdb.TenantID, len(all))
	for i, how := range all {
		tenants[i] = s.Tenant(t, how.name)
		s.fill(t, tenants[i], 20)
	}
	for i, how := range all {
		s.tamper(t, how, tenants[i])
	}
	door, admin, blind := map[tenantdb.TenantID]LogReport{}, map[tenantdb.TenantID]LogReport{}, map[tenantdb.TenantID]LogReport{}
	into := func(m map[tenantdb.TenantID]LogReport) func(LogReport) error {
		return func(l LogReport) error { m[l.Tenant] = l; return nil }
	}
	start := time.Now()
	must(t, CheckDatabase(t.Context(), s.DB, s.Ring, into(door)))
	must(t, CheckDatabaseAt(t.Context(), s.adminURL(t), s.Ring, into(admin)))
	must(t, CheckDatabase(t.Context(), s.DB, nil, into(blind)))
	must(t, s.room.Pass(t.Context()))
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	for i, how := range all {
		t.Run(how.name, func(t *testing.T) {
			for from, m := range map[string]map[tenantdb.TenantID]LogReport{"door": door, "administrator": admin} {
				if l := m[tenants[i]]; l.OK() || int64(l.Fault.Index) != how.bad || !strings.Contains(l.Fault.Reason, how.says) {
					t.Errorf("through the %s: %v, want index %d and %q", from, l.Fault, how.bad, how.says)
				}
			}
			if l := blind[tenants[i]]; l.OK() != how.blind {
				t.Errorf("without the keys: %v", l.Fault)
			}
			s.incident(t, how, tenants[i])
		})
	}
	for _, sound := range []tenantdb.TenantID{s.acme, s.other, tenantdb.Platform} {
		d, a := door[sound], admin[sound]
		if !d.OK() || !a.OK() || d.Size == 0 {
			t.Errorf("a sound log: %v, %v", d.Fault, a.Fault)
		}
	}
}

// incident checks that exactly one open incident of the tenant, and one of the platform about it, say what was found.
func (s *scene) incident(t testing.TB, how tampering, tenant tenantdb.TenantID) {
	t.Helper()
	where := fmt.Sprintf("from entry %d on", how.bad)
	if how.bad == int64(audit.Whole) {
		where = "does not verify:"
	}
	about := slices.DeleteFunc(s.opened(t, tenantdb.Platform), func(in incident.Incident) bool { return in.Subject != tenant.String() })
	for _, open := range [][]incident.Incident{s.opened(t, tenant), about} {
		if len(open) != 1 || open[0].Kind != kindBroken || !strings.Contains(open[0].Detail, where) {
			t.Errorf("incidents of %s: %+v, want %q", tenant, open, where)
		}
	}
}

// TestMovedEntryIsFoundElsewhere moves an entry to a tenant that exists, and to one that does not.
func TestMovedEntryIsFoundElsewhere(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 10)
	s.fill(t, s.other, 3)
	nowhere := tenantdb.NewTenantID()
	s.tamper(t, tampering{sql: []string{
		"UPDATE avouch.audit_entry SET tenant_id = '" + s.other.String() + "' WHERE tenant_id = $1 AND seq = 2",
		"UPDATE avouch.audit_entry SET tenant_id = '" + nowhere.String() + "' WHERE tenant_id = $1 AND seq = 4",
	}}, s.acme)
	if door, admin := s.check(t, s.Ring, s.other); door.OK() || admin.OK() || door.Fault.Index != 2 || admin.Fault.Index != 2 {
		t.Errorf("where it was moved to: %v, %v", door.Fault, admin.Fault)
	}
	if _, admin := s.check(t, nil, nowhere); admin.OK() || admin.Fault.Index != audit.Whole {
		t.Errorf("the tenant that does not exist: %v", admin.Fault)
	}
}

// TestSoundDatabaseIsFoundSound checks logs of the sizes where chunks and tiles end, and what is reported of them.
func TestSoundDatabaseIsFoundSound(t *testing.T) {
	t.Parallel()
	s := enter(t)
	for _, n := range []int{254, 255, 256, checkChunk - 1, checkChunk, checkChunk + 1, 2 * checkChunk} {
		tenant := s.Tenant(t, "sized")
		s.fill(t, tenant, n)
		door, admin := s.check(t, s.Ring, tenant)
		if !door.OK() || door.Size != int64(n)+1 || door.Checked != door.Size || door.Opened != int64(n+2)/3 || door.Unopened != 0 {
			t.Errorf("%d: %+v %v", n, door, door.Fault)
		}
		if admin != door {
			t.Errorf("%d: the administrator sees %+v", n, admin)
		}
		var tree audit.Tree
		for _, e := range s.Entries(t, tenant) {
			tree.Append(audit.Leaf(e.Body))
		}
		if door.Root != tree.Root() {
			t.Errorf("%d: the root is %x, want %x", n, door.Root, tree.Root())
		}
	}
	if door, _ := s.check(t, nil, s.acme); !door.OK() || door.Opened != 0 {
		t.Errorf("without keys: %+v", door)
	}
	seen := map[tenantdb.TenantID]bool{}
	must(t, CheckDatabase(t.Context(), s.DB, nil, func(l LogReport) error { seen[l.Tenant] = l.OK(); return nil }))
	if !seen[tenantdb.Platform] || !seen[s.acme] || !seen[s.other] || len(seen) != 10 {
		t.Errorf("%d logs were checked: %v", len(seen), seen)
	}
	var report map[string]any
	door, _ := s.check(t, s.Ring, s.acme)
	b, err := json.Marshal(door)
	must(t, err)
	must(t, json.Unmarshal(b, &report))
	if report["ok"] != true || report["root"] != fmt.Sprintf("%x", door.Root) || report["tenant_id"] != s.acme.String() || report["first_bad"] != nil {
		t.Errorf("the report is %s", b)
	}
}

// TestErasedIsNotTampered erases a subject: the check counts it, and finds nothing wrong.
func TestErasedIsNotTampered(t *testing.T) {
	t.Parallel()
	s := enter(t)
	person := audit.NewSubjectID()
	_, err := s.DB.Record(t.Context(), s.Caller(s.acme), audit.Event{Type: "person.joined", Subject: person, Private: []audit.Field{{Name: "name", Value: "Ada"}}})
	must(t, err)
	must(t, s.Ring.DestroySubject(t.Context(), s.acme, person))
	door, _ := s.check(t, s.Ring, s.acme)
	if !door.OK() || door.Erased != 1 || door.Opened != 0 {
		t.Errorf("%+v %v", door, door.Fault)
	}
	must(t, s.room.Pass(t.Context()))
	if open, err := s.incidents.Open(t.Context(), tenantdb.System(s.acme, "test")); err != nil || len(open) != 0 {
		t.Errorf("incidents: %v, %v", open, err)
	}
}

// TestKeyStoreAwayIsNotTampering checks with a key store that does not know the tenant: that says nothing of the log.
func TestKeyStoreAwayIsNotTampering(t *testing.T) {
	t.Parallel()
	s, elsewhere := enter(t), enter(t)
	s.fill(t, s.acme, 5)
	err := CheckDatabase(t.Context(), s.DB, elsewhere.Ring, func(l LogReport) error {
		if !l.OK() {
			t.Errorf("%s: %v", l.Tenant, l.Fault)
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), keyring.ErrUnknownTenant.Error()) {
		t.Errorf("error: %v", err)
	}
}

func TestAdministratorsAddressIsNotShown(t *testing.T) {
	t.Parallel()
	err := CheckDatabaseAt(t.Context(), "postgres://root:hunter2@%zz/", nil, nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error: %v", err)
	}
}

// FuzzRow gives the checks and the reader rows that somebody made up: nothing panics, and only a true one passes.
func FuzzRow(f *testing.F) {
	log := audit.LogID{1}
	e := audit.Entry{Version: audit.Version, Log: log, ID: audit.EntryID{2}, Time: time.Unix(1, 0), Type: "x.y", Request: audit.RequestID{3},
		Actor: audit.Actor{Kind: audit.ActorSystem}, How: "system", Outcome: audit.Done}
	body, err := e.Encode()
	if err != nil {
		f.Fatal(err)
	}
	leaf := audit.Leaf(body)
	f.Add(int64(0), body, leaf[:], make([]byte, 32), []byte(nil))
	f.Add(int64(1), body, leaf[:], make([]byte, 32), []byte{0})
	f.Add(int64(0), []byte{0xa0}, []byte{}, []byte{1}, []byte(nil))
	f.Fuzz(func(t *testing.T, seq int64, body, leaf, prev, sealed []byte) {
		v := row{seq: seq, entry: e.ID, request: e.Request, body: body, leaf: leaf, prev: prev, sealed: sealed}
		view, read := decode(v)
		k := newChecker(tenantdb.Platform, nil, audit.State{Log: log, Link: audit.Genesis})
		fault, err := k.add(t.Context(), &v)
		if err != nil {
			t.Fatal(err)
		}
		if hash := audit.Leaf(body); fault == nil && (seq != 0 || string(hash[:]) != string(leaf) || view.Fault != "" || (sealed == nil) != (private(&read) == nil)) {
			t.Errorf("a row passes that is none: %+v", v)
		}
	})
}
