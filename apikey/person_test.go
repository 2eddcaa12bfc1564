package apikey

import (
	"context"
	"net/http"
	"net/netip"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// session is of somebody who has signed in, with what they hold and what break-glass lends.
func session(tenant tenantdb.TenantID, p tenantdb.PersonID, lent []string, holds ...string) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: tenant, Actor: audit.Actor{Kind: audit.ActorPerson, ID: p.String()}, How: "session:password", Scopes: holds, RequestID: audit.NewRequestID(),
		Person: &tenantdb.Person{ID: p, Lent: lent},
	})
}

func (f fixture) endOf(t *testing.T, tenant tenantdb.TenantID, p tenantdb.PersonID) (ended int) {
	t.Helper()
	err := f.DB.Change(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.Tx) (_ audit.Event, err error) {
		ended, err = f.room.EndOf(t.Context(), tx, p, "removed")
		return audit.Event{Type: "person.removed", Alters: true}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ended
}

func TestKeysEndWithTheirPerson(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	ada, bob := audit.NewSubjectID(), audit.NewSubjectID()
	asAda, asBob := session(id, ada, nil, "keys:write", "verify"), session(id, bob, nil, "keys:write", "verify")
	mine := f.service(t, asAda, NewKey{Scopes: []string{"keys:write", "verify"}})
	child := f.service(t, f.as(t, mine), NewKey{Scopes: []string{"verify"}})
	taken := f.service(t, asBob, NewKey{Scopes: []string{"verify"}})
	given := f.service(t, asAda, NewKey{Scopes: []string{"verify"}})
	others := f.service(t, owner, NewKey{Scopes: []string{"verify"}})
	rotate := func(by tenantdb.Caller, k Created, whose tenantdb.PersonID) Created {
		t.Helper()
		made, err := f.room.Rotate(t.Context(), by, k.ID, 0)
		if err != nil || made.Person != whose {
			t.Fatalf("rotated: %+v, %v", made.Key, err)
		}
		return made
	}
	inherited := rotate(owner, child, ada)
	taken = rotate(asAda, taken, ada) // who has it in hand now
	given = rotate(asBob, given, bob)
	if mine.Person != ada || child.Person != ada || !others.Person.IsZero() {
		t.Errorf("made by %v, %v, %v", mine.Person, child.Person, others.Person)
	}
	api := f.API(doortest.As(owner))
	f.room.Routes(api)
	if a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: "/api/v1/keys?status=active&person=" + ada.String()}); a.Status != http.StatusOK || len(a.Body["keys"].([]any)) != 3 ||
		a.Body["keys"].([]any)[0].(map[string]any)["person"] != ada.String() {
		t.Errorf("hers: %d %s", a.Status, a.Raw)
	}
	if a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: "/api/v1/keys?person=ada"}); a.Status != http.StatusBadRequest {
		t.Errorf("a person of no form: %d", a.Status)
	}
	other := on(f.Another(t))
	for _, k := range []Created{mine, inherited, taken, given, others} {
		other.as(t, k)
	}
	if n := f.endOf(t, id, ada); n != 3 {
		t.Errorf("%d ended", n)
	}
	for _, k := range []Created{mine, child, inherited, taken} {
		_, err := other.room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{})
		want(t, err, problem.Unauthenticated, "a key of hers")
	}
	other.as(t, given)
	other.as(t, others)
	if n := f.endOf(t, id, ada); n != 0 {
		t.Errorf("once more, %d ended", n)
	}
}

// TestPersonsKeysComeFromWhereTheyMay: what a person made works from where the organisation lets people come, and from where the key
// does; a data key is its customer's, and what no person made is nobody's.
func TestPersonsKeysComeFromWhereTheyMay(t *testing.T) {
	t.Parallel()
	some, other := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25"), netip.MustParsePrefix("198.51.100.0/24")}
	for _, c := range []struct {
		what  string
		k     Key
		from  string
		works bool
	}{
		{"a person's, inside", Key{Kind: Service, peoples: some}, "192.0.2.7", true},
		{"a person's, inside, as v6 writes it", Key{Kind: Service, peoples: some}, "::ffff:192.0.2.7", true},
		{"a person's, outside", Key{Kind: Service, peoples: some}, "198.51.100.9", false},
		{"a person's owner key, outside", Key{Kind: Owner, peoples: some}, "198.51.100.9", false},
		{"a person's, from nowhere", Key{Kind: Service, peoples: some}, "", false},
		{"bound to both, inside both", Key{Kind: Service, peoples: some, AllowedCIDRs: other}, "192.0.2.200", true},
		{"bound to both, inside the key's alone", Key{Kind: Service, peoples: some, AllowedCIDRs: other}, "198.51.100.9", false},
		{"bound to both, inside the people's alone", Key{Kind: Service, peoples: some, AllowedCIDRs: other}, "192.0.2.7", false},
		{"a customer's", Key{Kind: Data, peoples: some}, "198.51.100.9", true},
		{"a person's, without a rule", Key{Kind: Service}, "198.51.100.9", true},
	} {
		from, _ := netip.ParseAddr(c.from)
		if c.k.AllowedFrom(from) != c.works {
			t.Errorf("%s: works: %t", c.what, !c.works)
		}
	}
}

func TestPersonsKeysReachNoFurther(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	ada := audit.NewSubjectID()
	made := f.service(t, owner, NewKey{Scopes: []string{"agents:write"}})
	for what, by := range map[string]tenantdb.Caller{
		"somebody without": session(id, ada, nil, "keys:write"), "somebody who was lent it": session(id, ada, []string{"agents:write"}, "keys:write"),
		"somebody who was lent everything": session(id, ada, []string{"*"}, "keys:write"),
	} {
		for _, n := range []NewKey{{Name: "k", Kind: Service, Scopes: []string{"agents:write"}}, {Name: "k", Kind: Owner, Scopes: []string{"keys:write"}}} {
			_, err := f.room.Create(t.Context(), by, n)
			want(t, err, problem.Denied, what)
		}
		_, err := f.room.Rotate(t.Context(), by, made.ID, 0)
		want(t, err, problem.Denied, what+" rotates")
	}
	lent := session(id, ada, []string{"keys:write"}, "verify")
	for _, n := range []NewKey{{Name: "k", Kind: Service, Scopes: []string{"verify"}}, {Name: "k", Kind: Data}} {
		_, err := f.room.Create(t.Context(), lent, n)
		want(t, err, problem.Denied, "by what is lent")
	}
	_, err := f.room.Rotate(t.Context(), lent, f.service(t, owner, NewKey{Scopes: []string{"verify"}}).ID, 0)
	want(t, err, problem.Denied, "rotated by what is lent")
	holds := []string{"keys:write", "agents:write"}
	f.room.cfg.HeldBy = func(context.Context, *tenantdb.ReadTx, tenantdb.PersonID) ([]string, error) { return holds, nil }
	by := session(id, ada, nil, "keys:write", "agents:write", "audit:read")
	f.service(t, by, NewKey{Scopes: []string{"agents:write"}})
	_, err = f.room.Create(t.Context(), by, NewKey{Name: "k", Kind: Service, Scopes: []string{"audit:read"}})
	want(t, err, problem.Denied, "what they have lost since")
	holds = nil
	_, err = f.room.Create(t.Context(), by, NewKey{Name: "k", Kind: Service, Scopes: []string{"agents:write"}})
	want(t, err, problem.Denied, "somebody who has left")
	by = session(id, ada, []string{"*"}, "keys:write")
	_, err = f.room.Create(t.Context(), by, NewKey{Name: "k", Kind: Service})
	want(t, err, problem.Denied, "somebody who has left, whatever was lent")
}
