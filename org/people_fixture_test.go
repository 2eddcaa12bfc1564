package org

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// company is an organisation with people, a clock that stands still, and the room of keys beside.
type company struct {
	fixture
	id    tenantdb.TenantID
	key   string          // of its first owner key
	owner tenantdb.Caller // the first owner key
	clock *atomic.Int64   // microseconds
	with  Config
}

func openCompany(t *testing.T) *company {
	t.Helper()
	c := &company{clock: new(atomic.Int64)}
	c.clock.Store(time.Now().UnixMicro())
	c.Door = doortest.Open(t)
	c.Install(t)
	c.keys = apikey.New(apikey.Config{DB: c.DB, Ring: c.Ring, HeldBy: c.heldBy, Now: c.now})
	c.with = Config{
		DB: c.DB, Ring: c.Ring, FirstKey: c.keys, SignUp: true, SignUpsPerHour: -1, Regions: []string{"eu", "us"}, Now: c.now, Link: c.link,
		KeysOf: c.keys.KeysOf, KeyHolds: c.keys.Holds,
		Endings: map[string]Ending{"api_keys": c.keys.EndOf, EndSessions: endRows(`UPDATE avouch.session SET ended_at = now(), ended_why = 'test' WHERE tenant_id = $1 AND person_id = $2 AND ended_at IS NULL`), "passwords": endRows(`DELETE FROM avouch.password WHERE tenant_id = $1 AND person_id = $2`)},
	}
	c.room = New(c.with)
	made, owner := c.create(t, "Acme", "")
	c.id, c.owner, c.key = made.ID, owner, made.OwnerKeyID
	return c
}

func (c *company) heldBy(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) ([]string, error) {
	s, err := c.room.Standing(ctx, tx, p)
	if problem.Is(err, problem.Missing) || err == nil && !s.Active {
		return nil, nil
	}
	return s.Capabilities, err
}

func (c *company) now() time.Time          { return time.UnixMicro(c.clock.Load()).UTC() }
func (c *company) later(d time.Duration)   { c.clock.Add(d.Microseconds()) }
func (c *company) system() tenantdb.Caller { return tenantdb.System(c.id, "operator") }
func (c *company) events(t *testing.T, typ string) []doortest.Entry {
	t.Helper()
	return c.OfType(t, c.id, typ)
}

// link makes a link as a server does.
func (c *company) link(ctx context.Context, tx *tenantdb.Tx, purpose string, subject [16]byte, life time.Duration) (string, error) {
	made, err := link.New(c.DB, c.Ring, c.now).Make(ctx, tx, link.Purpose(purpose), subject, life, nil)
	return made.String(), err
}

func endRows(sql string) Ending {
	return func(ctx context.Context, tx *tenantdb.Tx, p PersonID, _ string) (int, error) {
		n, err := tx.Exec(ctx, sql, tx.Tenant(), p)
		return int(n), err
	}
}

func (c *company) person(t *testing.T, name string, roles ...string) PersonID {
	t.Helper()
	return c.admit(t, c.id, name, roles...)
}

// as is a person's session as it would be now, proved a moment ago.
func (c *company) as(t *testing.T, p PersonID) tenantdb.Caller {
	t.Helper()
	s := c.standing(t, c.id, p)
	return c.session(s, tenantdb.Person{ID: p, Session: "test", Roles: s.Roles, ProvedAt: c.now(), Methods: []string{"password", "totp"}})
}

// stale is a session whose last proof is old.
func (c *company) stale(t *testing.T, p PersonID) tenantdb.Caller {
	t.Helper()
	return c.session(c.standing(t, c.id, p), tenantdb.Person{ID: p, Session: "test", ProvedAt: c.now().Add(-tenantdb.FreshProof - time.Second)})
}

func (c *company) session(s Standing, p tenantdb.Person) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: c.id, Actor: audit.Actor{Kind: audit.ActorPerson, ID: p.ID.String()}, How: "session:password+totp", Scopes: s.Capabilities,
		RequestID: audit.NewRequestID(), Address: netip.MustParseAddr("192.0.2.7"), Person: &p,
	})
}

func (c *company) setRoles(t *testing.T, by tenantdb.Caller, p PersonID, roles ...string) error {
	t.Helper()
	_, err := c.room.UpdatePerson(t.Context(), by, p, "", PersonChange{Roles: &roles})
	return err
}

func (c *company) group(t *testing.T, by tenantdb.Caller, name string, roles ...string) GroupID {
	t.Helper()
	g, err := c.room.CreateGroup(t.Context(), by, NewGroup{name, roles})
	if err != nil {
		t.Fatal(err)
	}
	return g.ID
}

// join accepts an invitation, as the room of sign-in does.
func (c *company) join(t *testing.T, which InvitationID, name string) (PersonID, error) {
	t.Helper()
	n := NewPerson{ID: audit.NewSubjectID(), Name: name}
	if err := c.room.Prepare(t.Context(), c.id, n.ID); err != nil {
		t.Fatal(err)
	}
	err := c.DB.Change(t.Context(), tenantdb.System(c.id, "sign-in"), func(tx *tenantdb.Tx) (e audit.Event, err error) {
		_, e, err = c.room.Join(t.Context(), tx, which, n)
		return e, err
	})
	return n.ID, err
}

// mailed are the people or invitations of the mails that wait, by template.
func (c *company) mailed(t *testing.T, template string) []string {
	t.Helper()
	text := c.Text(t, `SELECT coalesce(string_agg(coalesce(args->'ids'->>'person', args->'ids'->>'invitation'), ' ' ORDER BY id), '') FROM avouch_jobs.river_job
WHERE kind = 'mail.send' AND args->>'template' = $1 AND args->>'tenant' = $2`, template, c.id.String())
	return strings.Fields(text)
}

func ok(t *testing.T, err error, what string) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// unchanged fails if the log has grown: whatever was refused changed nothing.
func (c *company) unchanged(t *testing.T, do func()) {
	t.Helper()
	before := len(c.Entries(t, c.id))
	do()
	if after := c.Entries(t, c.id); len(after) != before {
		t.Errorf("%d entries were made: %v", len(after)-before, after[before].Type)
	}
}

func same[T comparable](a, b []T) bool { return slices.Equal(a, b) }
