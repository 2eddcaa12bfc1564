package mfa

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// clock is one that tests set, of all servers.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// members stand for the organisations.
type members struct {
	mu       sync.Mutex
	kinds    []string
	required bool
	owners   []tenantdb.PersonID
	equals   bool // callers have no more power than members
	address  map[tenantdb.PersonID]string
}

func (m *members) Allowed(context.Context, *tenantdb.ReadTx, tenantdb.PersonID) ([]string, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kinds, m.required, nil
}

func (m *members) rule(required bool, kinds ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kinds, m.required = kinds, required
}

func (m *members) Profile(_ context.Context, _ *tenantdb.ReadTx, p tenantdb.PersonID) (string, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return "Ada", m.address[p], nil
}

func (m *members) MayReset(context.Context, *tenantdb.ReadTx, tenantdb.Caller, tenantdb.PersonID) ([]tenantdb.PersonID, error) {
	if m.equals {
		return nil, problem.New(problem.Denied, "The member has as much power as you.")
	}
	return m.owners, nil
}

// fixture is an organisation with a person, and two servers.
type fixture struct {
	*doortest.Door
	clock   *clock
	members *members
	tenant  tenantdb.TenantID
	ada     tenantdb.PersonID
	room    *Room
	other   *Room // of another server
	changes []Change
	cfg     Config
}

func open(t testing.TB, changes ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{Door: doortest.Open(t), clock: &clock{t: start}, members: &members{address: map[tenantdb.PersonID]string{}}}
	f.tenant = f.Tenant(t, "Acme")
	f.ada = f.person(t, f.tenant, "ada@example.com")
	f.cfg = Config{
		DB: f.DB, Ring: f.Ring, People: f.members, PublicURL: &url.URL{Scheme: "https", Host: "avouch.example"}, Now: f.clock.now,
		Changed: func(_ context.Context, _ *tenantdb.Tx, ch Change) error {
			f.changes = append(f.changes, ch)
			return nil
		},
	}
	for _, change := range changes {
		change(&f.cfg)
	}
	f.room = New(f.cfg)
	beside := f.Another(t)
	cfg := f.cfg
	cfg.DB, cfg.Ring = beside.DB, beside.Ring
	f.other = New(cfg)
	return f
}

func (f *fixture) person(t testing.TB, tenant tenantdb.TenantID, address string) tenantdb.PersonID {
	t.Helper()
	p := audit.NewSubjectID()
	f.members.mu.Lock()
	f.members.address[p] = address
	f.members.mu.Unlock()
	must(t, f.DB.Change(t.Context(), tenantdb.System(tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		return audit.Event{Type: "person.made"}, insertPerson(t.Context(), tx, p)
	}))
	return p
}

// as is a session that was proved just now, by methods.
func (f *fixture) as(p tenantdb.PersonID, methods ...string) tenantdb.Caller {
	return f.since(p, f.clock.now(), methods...)
}

func (f *fixture) since(p tenantdb.PersonID, proved time.Time, methods ...string) tenantdb.Caller {
	return f.caller(tenantdb.Person{ID: p, Session: "s", ProvedAt: proved, Methods: methods})
}

func (f *fixture) caller(p tenantdb.Person, capabilities ...string) tenantdb.Caller {
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: f.tenant, Actor: audit.Actor{Kind: audit.ActorPerson, ID: p.ID.String()}, How: "session:" + strings.Join(p.Methods, "+"),
		Scopes: capabilities, RequestID: audit.NewRequestID(), Person: &p,
	})
}

// add enrols a factor, by the strongest proof there is.
func (f *fixture) add(t testing.TB, p tenantdb.PersonID, w Wanted) (Factor, []byte) {
	t.Helper()
	b, err := f.room.Begin(t.Context(), f.as(p, Passkey), w)
	must(t, err)
	var answer Confirmation
	var seed []byte
	switch w.Kind {
	case TOTP:
		seed, err = base32.StdEncoding.DecodeString(strings.ReplaceAll(b.Secret.Expose(), " ", ""))
		must(t, err)
		answer.Code = secret.Text(f.totp(seed, 0))
	case Email, SMS:
		answer.Code = secret.Text(f.lastCode(t, w.Kind).Code)
	}
	made, err := f.room.Confirm(t.Context(), f.as(p, Passkey), b.ID, answer)
	must(t, err)
	return made, seed
}

// passkey enrols one.
func (f *fixture) passkey(t testing.TB, p tenantdb.PersonID, a *authenticator) Factor {
	t.Helper()
	made, err := f.register(t, f.as(p, Passkey), a)
	must(t, err)
	return made
}

func (f *fixture) register(t testing.TB, c tenantdb.Caller, a *authenticator) (Factor, error) {
	t.Helper()
	b, err := f.room.Begin(t.Context(), c, Wanted{Kind: Passkey})
	if err != nil {
		return Factor{}, err
	}
	return f.room.Confirm(t.Context(), c, b.ID, Confirmation{Credential: a.create(t, b.Options)})
}

// totp is the code of some steps from now.
func (f *fixture) totp(seed []byte, steps int64) string {
	s := otp.Usual()
	return s.Code(seed, uint64(s.Step(f.clock.now())+steps))
}

// mailed is what a job sends.
type mailed struct {
	To, Code, What, Whose string
}

// jobs are the arguments of all jobs of a kind, the oldest first.
func (f *fixture) jobs(t testing.TB, kind string) []json.RawMessage {
	t.Helper()
	var all []json.RawMessage
	must(t, json.Unmarshal([]byte(f.Text(t, `SELECT coalesce(json_agg(args ORDER BY id), '[]')::text FROM avouch_jobs.river_job WHERE kind = $1`, kind)), &all))
	return all
}

func (f *fixture) mails(t testing.TB, template mail.Template) []mailed {
	t.Helper()
	var out []mailed
	for _, raw := range f.jobs(t, "mail.send") {
		var j mail.Job
		must(t, json.Unmarshal(raw, &j))
		if j.Template != template {
			continue
		}
		to, data, err := f.other.Mail(t.Context(), j, "Acme")
		must(t, err)
		switch d := data.(type) {
		case mail.SignInCodeData:
			out = append(out, mailed{To: to, Code: d.Code})
		case mail.FactorChangedData:
			out = append(out, mailed{To: to, What: d.What, Whose: d.Whose})
		default:
			out = append(out, mailed{To: to})
		}
	}
	return out
}

func (f *fixture) lastCode(t testing.TB, kind string) mailed {
	t.Helper()
	last := func(of, template string, into any) {
		row := f.Text(t, `SELECT args::text FROM avouch_jobs.river_job WHERE kind = $1 AND ($2 = '' OR args->>'template' = $2) ORDER BY id DESC LIMIT 1`, of, template)
		must(t, json.Unmarshal([]byte(row), into))
	}
	if kind == Email {
		var j mail.Job
		last("mail.send", string(mail.SignInCode), &j)
		to, data, err := f.other.Mail(t.Context(), j, "Acme")
		must(t, err)
		d, _ := data.(mail.SignInCodeData) // none if nobody waits for it any more
		return mailed{To: to, Code: d.Code}
	}
	var j sms.Job
	last("sms.send", "", &j)
	m, err := f.other.Text(t.Context(), j)
	must(t, err)
	code, _, _ := strings.Cut(m.Text, " ")
	return mailed{To: m.To, Code: code}
}

func attempt(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return sum[:]
}

// ask puts a question in a Note, as sign-in does.
func (f *fixture) ask(t testing.TB, r *Room, a Asked) (q Question, state []byte, err error) {
	t.Helper()
	err = r.cfg.DB.Note(t.Context(), tenantdb.System(f.tenant, "test"), func(tx *tenantdb.Tx) (err error) {
		q, state, err = r.Ask(t.Context(), tx, a)
		return err
	})
	return q, state, err
}

// prove judges an answer as sign-in does: the try is counted before, the change has an entry.
func (f *fixture) prove(t testing.TB, r *Room, a Answer) (p Proof, err error) {
	t.Helper()
	c := tenantdb.System(f.tenant, "test")
	if err := r.cfg.DB.Note(t.Context(), c, func(tx *tenantdb.Tx) error { return r.Try(t.Context(), tx, a) }); err != nil {
		return Proof{}, err
	}
	err = r.cfg.DB.Change(t.Context(), c, func(tx *tenantdb.Tx) (audit.Event, error) {
		p, err = r.Prove(t.Context(), tx, a)
		return audit.Event{Type: "test.proved"}, err
	})
	if told := r.Tell(t.Context(), c, a.Person, err); told != nil {
		t.Error(told)
	}
	return p, err
}

func (f *fixture) read(t testing.TB, fn func(*tenantdb.ReadTx) error) {
	t.Helper()
	must(t, f.DB.Read(t.Context(), tenantdb.System(f.tenant, "test"), fn))
}

func (f *fixture) offered(t testing.TB, p tenantdb.PersonID) (o Offer) {
	t.Helper()
	f.read(t, func(tx *tenantdb.ReadTx) (err error) { o, err = f.room.Offered(t.Context(), tx, p); return err })
	return o
}

func (f *fixture) list(t testing.TB, p tenantdb.PersonID) (all []Factor, codes int) {
	t.Helper()
	f.read(t, func(tx *tenantdb.ReadTx) (err error) { all, codes, err = f.room.List(t.Context(), tx, p); return err })
	return all, codes
}

// exec changes a row past the room.
func (f *fixture) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	must(t, f.DB.Change(t.Context(), tenantdb.System(f.tenant, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), sql, args...)
		return audit.Event{Type: "test.changed"}, err
	}))
}

func refused(err error) bool {
	var r *Refusal
	return errors.As(err, &r)
}

func isKind(err error, k problem.Kind) bool { return err != nil && problem.Is(err, k) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sorted[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

const insertPersonSQL = `INSERT INTO avouch.person (tenant_id, person_id, profile, address, created_at) VALUES ($1, $2, '', $3, now())`

func insertPerson(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID) error {
	_, err := tx.Exec(ctx, insertPersonSQL, tx.Tenant(), p, strings.ReplaceAll(p.String(), "-", "")[6:])
	return err
}

func public(t testing.TB) *url.URL {
	u, err := url.Parse("https://avouch.example")
	must(t, err)
	return u
}
