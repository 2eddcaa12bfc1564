package doortest

import (
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Entry is an entry of a log, as stored and as read.
type Entry struct {
	audit.Entry
	Seq  audit.Seq
	Body []byte // the bytes in the log: what must hold no free text
	// Private is the private fields, opened.
	Private map[string]string
}

// Field is the value of a public field, or "".
func (e Entry) Field(name string) string {
	for _, f := range e.Public {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Entries is a tenant's whole log.
func (d *Door) Entries(t testing.TB, tenant tenantdb.TenantID) []Entry {
	t.Helper()
	var rows []row
	must(t, d.DB.Read(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.ReadTx) (err error) {
		rows, err = readEntries(t.Context(), tx)
		return err
	}))
	entries := make([]Entry, len(rows))
	for i, r := range rows {
		e, err := audit.Decode(r.Body)
		must(t, err)
		entries[i] = Entry{Entry: e, Seq: audit.Seq(r.Seq), Body: r.Body, Private: d.open(t, tenant, e, r)}
	}
	return entries
}

func (d *Door) open(t testing.TB, tenant tenantdb.TenantID, e audit.Entry, r row) map[string]string {
	t.Helper()
	private := map[string]string{}
	for _, c := range e.Commitments {
		plain, err := d.Ring.OpenFields(t.Context(), tenant, c.Subject, r.Sealed, r.Entry[:])
		must(t, err)
		fields, err := audit.Reveal(plain, c.Sum)
		must(t, err)
		for _, f := range fields {
			private[f.Name] = f.Value
		}
	}
	return private
}

// OfType is those of a tenant's entries that have the type.
func (d *Door) OfType(t testing.TB, tenant tenantdb.TenantID, typ string) []Entry {
	t.Helper()
	var found []Entry
	for _, e := range d.Entries(t, tenant) {
		if e.Type == typ {
			found = append(found, e)
		}
	}
	return found
}

// Last is the newest entry of a tenant's log.
func (d *Door) Last(t testing.TB, tenant tenantdb.TenantID) Entry {
	t.Helper()
	all := d.Entries(t, tenant)
	if len(all) == 0 {
		t.Fatal("the log is empty")
	}
	return all[len(all)-1]
}
