package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

type sessionKind struct{}

// ID names a session. It is no secret.
type ID = id.ID[sessionKind]

// ParseID reads a session's canonical name.
func ParseID(s string) (ID, error) { return id.Parse[sessionKind](s) }

// Kind says what a session's credential is.
type Kind string

// The kinds of session.
const (
	Browser Kind = "browser" // a cookie
	Program Kind = "program" // refresh and access tokens
)

// New is a session to be started, for somebody who has been proved.
type New struct {
	Person     tenantdb.PersonID
	Kind       Kind
	Methods    []string  // "password", "totp", "email", "sms", "passkey", "recovery", "oidc", "saml"; "mfa" where a provider proved a second factor
	Via        [16]byte  // the connection that proved the person
	Until      time.Time // when the provider's own session ends; zero is unsaid
	Device     string    // a name that the client chose
	Program    string    // the User-Agent
	Address    netip.Addr
	ProvedAt   time.Time     // zero is now
	Idle, Life time.Duration // at most; zero is what the rules say
	Binding    string        // a client id that a program chose: its refresh tokens are worth nothing without it
}

// Session is a session as people see it.
type Session struct {
	ID        ID
	Person    tenantdb.PersonID
	Kind      Kind
	Device    string
	Program   string // "Firefox on Linux"
	Address   netip.Addr
	Methods   []string
	Via       [16]byte
	CreatedAt time.Time
	ProvedAt  time.Time
	SeenAt    time.Time // to the minute
	ExpiresAt time.Time
	Idle      time.Duration
	// Displaced are the sessions that Start ended, because the person had as many as one may.
	Displaced []ID
}

// Event is the entry of a session's start. Whoever starts one returns it from its change, or puts its fields into an event of its
// own: displaced sessions are in no other entry.
func (s Session) Event() audit.Event {
	ev := audit.Event{
		Type: "session.started", Target: audit.Target{Kind: "session", ID: s.ID.String()}, Subject: s.Person,
		Public: []audit.Field{
			{Name: "person", Value: s.Person.String()}, {Name: "kind", Value: string(s.Kind)}, {Name: "methods", Value: strings.Join(s.Methods, "+")},
			{Name: "expires_at", Value: s.ExpiresAt.Format(time.RFC3339)},
		},
		Private: []audit.Field{{Name: "program", Value: s.Program}},
	}
	if s.Via != [16]byte{} {
		ev.Public = append(ev.Public, audit.Field{Name: "connection", Value: tenantdb.TenantID(s.Via).String()})
	}
	for i, d := range s.Displaced {
		ev.Public = append(ev.Public, audit.Field{Name: "ended_" + strconv.Itoa(i+1), Value: d.String()})
	}
	if s.Device != "" {
		ev.Private = append(ev.Private, audit.Field{Name: "device", Value: s.Device})
	}
	if s.Address.IsValid() {
		ev.Private = append(ev.Private, audit.Field{Name: "address", Value: s.Address.String()})
	}
	return ev
}

// described is what is sealed of a session.
type described struct {
	Device  string `json:"device,omitempty"`
	Program string `json:"program"`
	Address string `json:"address,omitempty"`
}

func descriptionPlace(of ID) []byte { return []byte("session/description/" + of.String()) }

// open reads a session's description. Whoever was erased has none any more, and the session is listed all the same.
func (r *Room) open(ctx context.Context, t tenantdb.TenantID, s record) Session {
	plain, err := r.cfg.Ring.OpenFields(ctx, t, s.Person, s.description, descriptionPlace(s.ID))
	var d described
	if err == nil && json.Unmarshal(plain, &d) == nil {
		s.Device, s.Program = d.Device, d.Program
		s.Address, _ = netip.ParseAddr(d.Address)
	}
	return s.Session
}

// second are the methods that prove a second factor, or two at once. "mfa" is a provider's word for it (RFC 8176), which counts
// only where the connection trusts the provider so far and the rules name no kinds: it says not of which kind they were.
var second = []string{"totp", "email", "sms", "passkey", "recovery", "mfa"}

// strong reports whether one of the methods is a second factor that the rules allow. That a passkey was of hardware, the methods do
// not tell: a session by another, which began before such a rule, goes on to its end.
func strong(methods, allowed []string) bool {
	return slices.ContainsFunc(methods, func(m string) bool {
		switch {
		case allowed == nil:
			return slices.Contains(second, m)
		case m == "passkey":
			return slices.Contains(allowed, m) || slices.Contains(allowed, "hardware")
		case m == "recovery": // it stands in for what is as weak
			return slices.Contains(allowed, "email") || slices.Contains(allowed, "sms")
		}
		return slices.Contains(second, m) && slices.Contains(allowed, m)
	})
}

// value is a new secret of 256 bits and what is kept of it.
func value() (secret.String, []byte) {
	var b [32]byte
	rand.Read(b[:]) // never fails
	v := base64.RawURLEncoding.EncodeToString(b[:])
	return secret.Text(v), digestOf(v)
}

func digestOf(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// Start begins a session, in the transaction of the sign-in: Prepare comes before. The secret is a browser's cookie or a program's
// first refresh token. Nothing that the client sent becomes it. It is refused to who may not sign in from there, or has not
// proved a second factor and must.
func (r *Room) Start(ctx context.Context, tx *tenantdb.Tx, n New) (Session, secret.String, error) {
	st, err := r.cfg.People.Standing(ctx, &tx.ReadTx, n.Person)
	if err != nil {
		return Session{}, secret.String{}, fmt.Errorf("session.Start: %w", err)
	}
	if err := n.admitted(st); err != nil {
		return Session{}, secret.String{}, fmt.Errorf("session.Start: %w", err)
	}
	now := r.instant()
	s := record{Session: n.session(st, now), held: capabilitiesOf(st)}
	if s.description, err = r.describe(ctx, tx.Tenant(), s.Session); err != nil {
		return Session{}, secret.String{}, fmt.Errorf("session.Start: %w", err)
	}
	var v secret.String
	if n.Kind == Browser {
		v, s.digest = value()
	} else {
		if v, err = r.refreshToken(ctx, tx.Tenant(), s.ID, 1); err != nil {
			return Session{}, secret.String{}, fmt.Errorf("session.Start: %w", err)
		}
		s.digest, s.client = digestOf(v.Expose()), client(n.Binding, n.Program)
	}
	if s.mac, err = r.mac(ctx, tx.Tenant(), &s); err != nil {
		return Session{}, secret.String{}, fmt.Errorf("session.Start: %w", err)
	}
	if s.Displaced, err = r.makeRoom(ctx, tx, st, n.Person, now); err != nil {
		return Session{}, secret.String{}, fmt.Errorf("session.Start: %w", err)
	}
	if err := insert(ctx, tx, s); err != nil {
		return Session{}, secret.String{}, fmt.Errorf("session.Start: %w", err)
	}
	return s.Session, v, nil
}

func (n *New) admitted(st Standing) error {
	switch {
	case n.Kind != Browser && n.Kind != Program || len(n.Methods) == 0 || n.Person.IsZero():
		return fmt.Errorf("a session of kind %q with %d methods", n.Kind, len(n.Methods))
	case !st.Active:
		return problem.New(problem.Denied, "This account cannot sign in.")
	case st.NeedsMFA && !strong(n.Methods, st.Factors):
		return problem.New(problem.Denied, "Your organisation asks for a second factor.")
	case !allowedFrom(st, n.Address):
		return problem.New(problem.Denied, "Your organisation does not let you in from this address.")
	}
	return nil
}

func (n *New) session(st Standing, now time.Time) Session {
	s := Session{
		ID: id.At[sessionKind](now), Person: n.Person, Kind: n.Kind, Device: line(n.Device, 100), Program: ProgramName(n.Program), Address: n.Address,
		Methods: slices.Compact(slices.Sorted(slices.Values(n.Methods))), Via: n.Via, CreatedAt: now, ProvedAt: n.ProvedAt.UTC().Truncate(time.Microsecond), SeenAt: now,
	}
	if n.ProvedAt.IsZero() || n.ProvedAt.After(now) {
		s.ProvedAt = now
	}
	life, idle := st.bounds(n.Kind)
	s.Idle = least(n.Idle, idle)
	s.ExpiresAt = now.Add(least(n.Life, life))
	if !n.Until.IsZero() && n.Until.Before(s.ExpiresAt) {
		s.ExpiresAt = n.Until.UTC().Truncate(time.Microsecond)
	}
	return s
}

// least is the lesser of a wish, of which zero and less is none, and what there is at most; a second at least.
func least(wish, most time.Duration) time.Duration {
	if wish <= 0 {
		return most
	}
	return max(min(wish, most), time.Second)
}

// bounds are how long sessions of a kind last now.
func (st Standing) bounds(k Kind) (life, idle time.Duration) {
	if k == Program {
		life = least(st.ProgramLife, DefaultProgramLife)
		return life, min(life, ProgramIdle)
	}
	return least(st.Life, DefaultLife), least(st.Idle, DefaultIdle)
}

// over reports whether a session has ended: by itself, by its own bounds, or by the rules as they are now.
func (s *record) over(st Standing, now time.Time) bool {
	absolute, idle := s.ends(st)
	return !s.endedAt.IsZero() || !now.Before(absolute) || !now.Before(idle)
}

// ends are when a session ends whatever is done with it, and when it ends if nothing is.
func (s *record) ends(st Standing) (absolute, idle time.Time) {
	life, most := st.bounds(s.Kind)
	absolute = s.ExpiresAt
	if end := s.CreatedAt.Add(life); end.Before(absolute) {
		absolute = end
	}
	seen := s.SeenAt
	if s.rotatedAt.After(seen) {
		seen = s.rotatedAt
	}
	return absolute, seen.Add(min(s.Idle, most))
}

func (r *Room) describe(ctx context.Context, t tenantdb.TenantID, s Session) ([]byte, error) {
	d := described{Device: s.Device, Program: s.Program}
	if s.Address.IsValid() {
		d.Address = s.Address.String()
	}
	b, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return r.cfg.Ring.SealFields(ctx, t, s.Person, b, descriptionPlace(s.ID))
}

// makeRoom ends those sessions that were seen longest ago, until there is room for one more, and forgets what was over long ago.
func (r *Room) makeRoom(ctx context.Context, tx *tenantdb.Tx, st Standing, p tenantdb.PersonID, now time.Time) ([]ID, error) {
	if err := forget(ctx, tx, p, now.Add(-forgetAfter)); err != nil {
		return nil, err
	}
	all, err := ofPerson(ctx, &tx.ReadTx, p)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s record) bool { return s.over(st, now) })
	if len(all) < Most {
		return nil, nil
	}
	var ended []ID
	for _, s := range all[Most-1:] {
		ended = append(ended, s.ID)
	}
	return ended, endRows(ctx, tx, ended, now, "displaced")
}

func allowedFrom(st Standing, a netip.Addr) bool {
	if len(st.Addresses) == 0 {
		return true
	}
	a = a.Unmap().WithZone("")
	return a.IsValid() && slices.ContainsFunc(st.Addresses, func(p netip.Prefix) bool { return p.Contains(a) })
}

// line makes one line of what a client sent, of so many bytes at most.
func line(s string, most int) string {
	s = strings.TrimSpace(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == utf8.RuneError {
			return -1
		}
		return c
	}, s))
	for len(s) > most {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
