package policy

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// house is an organisation with its rules, people, and a clock.
type house struct {
	*doortest.Door
	glass *Glass
	acme  tenantdb.TenantID
	clock *clock
	rules *rulebook
	log   *logReader
}

// start is a Wednesday.
var start = time.Date(2026, 11, 18, 9, 0, 0, 0, time.UTC)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) at() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rulebook is the organisations' room, as far as break-glass asks it.
type rulebook struct {
	mu     sync.Mutex
	rules  GlassRules
	owners []tenantdb.PersonID
	left   tenantdb.PersonID
}

func (r *rulebook) GlassRules(context.Context, *tenantdb.ReadTx) (GlassRules, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rules, nil
}

func (r *rulebook) Owners(context.Context, *tenantdb.ReadTx) ([]tenantdb.PersonID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owners, nil
}

// StillHolds refuses whoever has left.
func (r *rulebook) StillHolds(_ context.Context, tx *tenantdb.ReadTx, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, _ := tx.Caller().Person(); p.ID == r.left {
		return problem.New(problem.Denied, "You have left.")
	}
	return nil
}

func (r *rulebook) set(change func(*GlassRules)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.rules)
}

// logReader reads the log past the trail room, and keeps what it was asked.
type logReader struct {
	door  *doortest.Door
	asked []Slice
}

func (l *logReader) Slice(ctx context.Context, c tenantdb.Caller, s Slice) (found []SliceEntry, next *int64, err error) {
	if !c.May("audit:read") {
		return nil, nil, problem.New(problem.Denied, "Needs audit:read.")
	}
	l.asked = append(l.asked, s)
	var entries []audit.Entry
	var seqs []int64
	err = l.door.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		rows, err := tx.Query(ctx, `SELECT seq, body FROM avouch.audit_entry WHERE tenant_id = $1 ORDER BY seq`, c.Tenant())
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var seq int64
			var body []byte
			if err := rows.Scan(&seq, &body); err != nil {
				return err
			}
			e, err := audit.Decode(body)
			if err != nil {
				return err
			}
			entries, seqs = append(entries, e), append(seqs, seq)
		}
		return rows.Err()
	})
	for i, e := range entries {
		if e.Actor.ID == s.Actor && (s.After == nil || seqs[i] > *s.After) {
			found = append(found, SliceEntry{Seq: seqs[i], ID: e.ID.String(), Type: e.Type, How: e.How})
			if len(found) == s.Limit {
				return found, &seqs[i], err
			}
		}
	}
	return found, nil, err
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{Door: doortest.Open(t), clock: &clock{now: start}, rules: &rulebook{rules: GlassRules{
		MaxLife: 2 * time.Hour, Capabilities: []string{"agents:write", "keys:write", "audit:read", "*", "breakglass:approve", "no:such"},
	}}}
	h.Install(t)
	h.acme = h.Tenant(t, "Acme")
	h.log = &logReader{door: h.Door}
	h.glass = h.another(h.Door, http.DefaultClient)
	return h
}

func (h *house) another(d *doortest.Door, client *http.Client) *Glass {
	return NewGlass(GlassConfig{DB: d.DB, Ring: d.Ring, Rules: h.rules, Log: h.log, Client: client, URL: "https://avouch.test", Now: h.clock.at})
}

// someone is a person of the organisation, whose account is a day old.
type someone struct {
	h    *house
	id   tenantdb.PersonID
	caps []string
	lent []string
	// proved is how long ago the person was proved.
	proved time.Duration
}

func (h *house) person(t *testing.T, capabilities ...string) *someone {
	t.Helper()
	p := &someone{h: h, id: audit.NewSubjectID(), caps: capabilities}
	h.makePerson(t, p.id, h.clock.at().Add(-24*time.Hour))
	return p
}

func (h *house) makePerson(t *testing.T, id tenantdb.PersonID, at time.Time) {
	t.Helper()
	if err := h.DB.Change(t.Context(), tenantdb.System(h.acme, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `INSERT INTO avouch.person (tenant_id, person_id, profile, address, created_at) VALUES ($1, $2, '', substr(md5($2::uuid::text), 1, 26), $3)`, h.acme, id, at)
		return audit.Event{Type: "person.joined", Target: audit.Target{Kind: "person", ID: id.String()}}, err
	}); err != nil {
		t.Fatal(err)
	}
}

func (p *someone) caller() tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: p.h.acme, Actor: audit.Actor{Kind: audit.ActorPerson, ID: p.id.String()}, How: "session:password+totp", Scopes: p.caps, RequestID: audit.NewRequestID(),
		Person: &tenantdb.Person{ID: p.id, Session: "s", ProvedAt: p.h.clock.at().Add(-p.proved), Methods: []string{"password", "totp"}, Lent: p.lent},
	})
}

func (p *someone) target() audit.Target { return audit.Target{Kind: "person", ID: p.id.String()} }

func (h *house) asks(t *testing.T, p *someone, capabilities ...string) Use {
	t.Helper()
	if len(capabilities) == 0 {
		capabilities = []string{"keys:write"}
	}
	u, err := h.glass.Ask(t.Context(), p.caller(), Asked{"The pager went off at night", capabilities, time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// broken is a use of p's that approver has let open.
func (h *house) broken(t *testing.T, p, approver *someone) Use {
	t.Helper()
	u, err := h.glass.Approve(t.Context(), approver.caller(), h.asks(t, p).ID)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// lent is what p has lent in a session that was proved at the given time.
func (h *house) lent(t *testing.T, p *someone, proved time.Time) (lent []string) {
	t.Helper()
	if err := h.DB.Read(t.Context(), tenantdb.System(h.acme, "test"), func(tx *tenantdb.ReadTx) (err error) {
		lent, err = h.glass.Lent(t.Context(), tx, p.id, proved)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return lent
}

func (h *house) lends(t *testing.T, p *someone, want ...string) {
	t.Helper()
	if got := h.lent(t, p, h.clock.at()); !slices.Equal(got, want) {
		t.Errorf("lent is %v, not %v", got, want)
	}
}

func (h *house) settle(t *testing.T) {
	t.Helper()
	if err := h.glass.Settle(t.Context(), tenantdb.System(h.acme, "break-glass")); err != nil {
		t.Fatal(err)
	}
}

func (h *house) state(t *testing.T, use UseID) string {
	t.Helper()
	u, err := h.glass.find(t.Context(), tenantdb.System(h.acme, "test"), use)
	if err != nil {
		t.Fatal(err)
	}
	return u.State(h.clock.at())
}

// mails is how many mails of a template are asked for.
func (h *house) mails(t *testing.T, template string) string {
	t.Helper()
	return h.Text(t, `SELECT count(*)::text FROM avouch_jobs.river_job WHERE kind = 'mail.send' AND args->>'template' = $1`, template)
}

func refused(t *testing.T, what string, err error, kind problem.Kind) {
	t.Helper()
	if !problem.Is(err, kind) {
		t.Errorf("%s: want %s, got %v", what, kind, err)
	}
}

func done(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}
