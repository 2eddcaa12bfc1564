package session

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// readPatience bounds a read that others with the same session wait for too.
const readPatience = 3 * time.Second

// Refused is the answer to every credential of a session that proves nothing, whatever the reason.
func Refused() error {
	return problem.New(problem.Unauthenticated, "You are not signed in: the session is missing, unknown, or over. Sign in again.")
}

func unavailable(err error) error {
	return problem.New(problem.Unavailable, "Sessions cannot be checked now. Try again shortly.").Because(err)
}

// presented is what a session is found by: the digest of a cookie, or what an access token says.
type presented struct {
	digest [32]byte
	tenant tenantdb.TenantID
	id     ID
}

// presence is a session and its person, as the database says at one instant.
type presence struct {
	record
	there  bool
	tenant tenantdb.TenantID
	st     Standing
	lent   []string
	beyond bool // the connection by which it began is not believed about the person any more
}

// Authenticate says who sends a request with a session's cookie or access token, from what the database says at this moment.
// Without such a credential it says false, and others may look for theirs: an agent's token is a JWT too, but neither its type
// nor its audience is that of a person's, so it is not looked at. A request with a session's credential and another one is refused.
func (r *Room) Authenticate(ctx context.Context, req *http.Request, meta web.RequestMeta) (tenantdb.Caller, bool, error) {
	cookie, err := r.cookieOf(req, cookieName)
	if err != nil {
		return tenantdb.Caller{}, true, err
	}
	token, others := r.accessTokenOf(req.Header)
	switch {
	case cookie == "" && token == "":
		return tenantdb.Caller{}, false, nil
	case others || cookie != "" && token != "":
		return tenantdb.Caller{}, true, problem.New(problem.Unauthenticated, "The request carries a session and another credential: which one is meant cannot be said. Send one.")
	case token != "":
		c, err := r.byToken(ctx, token, meta)
		return c, true, err
	}
	c, err := r.byCookie(ctx, req, cookie, meta)
	return c, true, err
}

func (r *Room) byCookie(ctx context.Context, req *http.Request, cookie string, meta web.RequestMeta) (tenantdb.Caller, error) {
	if err := r.SameOrigin(req); err != nil {
		return tenantdb.Caller{}, err
	}
	if !wellFormed(cookie) {
		return tenantdb.Caller{}, Refused()
	}
	p, err := r.look(ctx, presented{digest: [32]byte(digestOf(cookie))})
	if err != nil {
		return tenantdb.Caller{}, err
	}
	if p.Kind != Browser { // a refresh token's digest is in the same column
		return tenantdb.Caller{}, Refused()
	}
	return r.seen(ctx, p, meta, p.may())
}

// look reads a session. Requests with one share a read, but none that began before they came.
func (r *Room) look(ctx context.Context, q presented) (presence, error) {
	p, err := r.present.Begin(ctx, q, func(ctx context.Context) (presence, error) { return r.read(ctx, q) }).Wait(ctx)
	switch {
	case err != nil:
		return presence{}, unavailable(err)
	case !p.there:
		return presence{}, Refused()
	}
	return p, nil
}

func (r *Room) read(ctx context.Context, q presented) (p presence, err error) {
	p.tenant = q.tenant
	if q.digest != [32]byte{} {
		if p.tenant, q.id, err = r.lookup(ctx, q.digest[:]); err != nil || p.tenant.IsZero() {
			return p, err
		}
	}
	err = r.cfg.DB.Read(ctx, tenantdb.System(p.tenant, "session"), func(tx *tenantdb.ReadTx) error { return r.fill(ctx, tx, q.id, &p) })
	if problem.Is(err, problem.Missing) {
		return presence{}, nil
	}
	if q.digest != [32]byte{} && subtle.ConstantTimeCompare(q.digest[:], p.digest) != 1 {
		p.there = false // it was rotated since the look-up
	}
	return p, err
}

func (r *Room) fill(ctx context.Context, tx *tenantdb.ReadTx, id ID, p *presence) (err error) {
	if p.record, err = load(ctx, tx, id); err != nil || !p.endedAt.IsZero() {
		return err
	}
	if err := r.written(ctx, tx.Tenant(), &p.record); err != nil {
		if problem.Is(err, problem.Unauthenticated) {
			return nil
		}
		return fmt.Errorf("session: %w", err)
	}
	if p.st, err = r.cfg.People.Standing(ctx, tx, p.Person); err != nil {
		return fmt.Errorf("session: standing: %w", err)
	}
	p.there = true
	if r.cfg.Vouches != nil && p.Via != [16]byte{} {
		vouches, err := r.cfg.Vouches(ctx, tx, p.Via, p.st.Capabilities)
		if err != nil {
			return fmt.Errorf("session: connection: %w", err)
		}
		p.beyond = !vouches
	}
	if r.cfg.Glass != nil && p.st.Active {
		if p.lent, err = r.cfg.Glass.Lent(ctx, tx, p.Person, p.ProvedAt); err != nil {
			return fmt.Errorf("session: lent: %w", err)
		}
	}
	return nil
}

// seen is admit of a request that somebody sent: the session is not idle.
func (r *Room) seen(ctx context.Context, p presence, meta web.RequestMeta, scopes []string) (tenantdb.Caller, error) {
	c, err := r.admit(ctx, p, meta, scopes)
	if err == nil {
		r.note(ctx, c, p)
	}
	return c, err
}

// Again says whether the caller of a request that lasts, such as a stream, would be let in now, and what it may do now. It is no
// sign of life: what goes on by itself does not keep a session from being idle.
func (r *Room) Again(ctx context.Context, c tenantdb.Caller) (tenantdb.Caller, error) {
	who, id, err := person(c)
	if err != nil {
		return tenantdb.Caller{}, err
	}
	p, err := r.look(ctx, presented{tenant: c.Tenant(), id: id})
	if err != nil {
		return tenantdb.Caller{}, err
	}
	if p.Person != who.ID {
		return tenantdb.Caller{}, Refused()
	}
	return r.admit(ctx, p, web.RequestMeta{ID: web.RequestID(c.RequestID()), Address: c.Address()}, narrowed(c.Scopes(), p.st.Capabilities))
}

// Lasts reports whether a session is in force and counts, from wherever it is used: for what is done in its name after a while.
func (r *Room) Lasts(ctx context.Context, tx *tenantdb.ReadTx, id ID) (bool, error) {
	p := presence{tenant: tx.Tenant()}
	err := r.fill(ctx, tx, id, &p)
	if problem.Is(err, problem.Missing) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("session.Lasts: %w", err)
	}
	return p.there && !p.over(p.st, r.cfg.Now()) && p.reasonBut() == "", nil
}

// admit makes the caller of a session that counts now, or says why it does not.
func (r *Room) admit(ctx context.Context, p presence, meta web.RequestMeta, scopes []string) (tenantdb.Caller, error) {
	if p.over(p.st, r.cfg.Now()) {
		return tenantdb.Caller{}, Refused()
	}
	how := "session:"
	if p.Kind == Program {
		how = "access-token:"
	}
	spec := p.spec(meta, how)
	if reason := p.reason(meta); reason != "" {
		return tenantdb.Caller{}, r.refuse(ctx, tenantdb.NewCaller(spec), p.ID, reason)
	}
	spec.Scopes, spec.Person.Lent = slices.Clone(scopes), slices.Clone(p.lent)
	return tenantdb.NewCaller(spec), nil
}

func (p *presence) spec(meta web.RequestMeta, how string) tenantdb.CallerSpec {
	return tenantdb.CallerSpec{
		Tenant: p.tenant, Actor: audit.Actor{Kind: audit.ActorPerson, ID: p.Person.String()}, How: howOf(how, p.Methods),
		RequestID: audit.RequestID(meta.ID), CallerRequestID: meta.CallerRequestID, Address: meta.Address,
		Person: &tenantdb.Person{ID: p.Person, Session: p.ID.String(), Roles: slices.Clone(p.st.Roles), ProvedAt: p.ProvedAt, Methods: slices.Clone(p.Methods), Unproved: p.unproved()},
	}
}

// howOf names the methods, as many as an entry has room for.
func howOf(how string, methods []string) string {
	const most = 50
	for i, m := range methods {
		if i > 0 {
			m = "+" + m
		}
		if len(how)+len(m) > most {
			break
		}
		how += m
	}
	return how
}

// reason is why a session that is not over does not count; empty if it does.
func (p *presence) reason(meta web.RequestMeta) string {
	switch {
	case p.suspended:
		return "organisation_suspended"
	case !p.st.Active && p.st.Why != "":
		return p.st.Why
	case !p.st.Active:
		return "inactive"
	case !allowedFrom(p.st, meta.Address):
		return "address"
	case p.st.NeedsMFA && !strong(p.Methods, p.st.Factors):
		return "second_factor"
	case p.beyond:
		return "connection"
	}
	return ""
}

// refuse records that a session was used which is not over and does not count.
func (r *Room) refuse(ctx context.Context, c tenantdb.Caller, id ID, reason string) error {
	person, _ := c.Person()
	ev := audit.Event{
		Type: "session.refused", Target: audit.Target{Kind: "session", ID: id.String()}, Outcome: audit.Denied, Subject: person.ID,
		Public: []audit.Field{{Name: "reason", Value: reason}},
	}
	if c.Address().IsValid() {
		ev.Private = []audit.Field{{Name: "address", Value: c.Address().String()}}
	}
	if err := r.cfg.Refused(ctx, c, ev); err != nil {
		return fmt.Errorf("session.Authenticate: %w", err)
	}
	return Refused()
}

// noted are the sessions that this server noted as seen a moment ago.
type noted struct {
	mu sync.Mutex
	at map[ID]time.Time
}

const mostNoted = 10_000

// take reports whether a session is to be noted now, which nobody else does then.
func (n *noted) take(id ID, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, there := n.at[id]; there && now.Sub(at).Abs() < seenEvery {
		return false
	}
	if len(n.at) >= mostNoted {
		for id, at := range n.at {
			if now.Sub(at).Abs() >= seenEvery {
				delete(n.at, id)
			}
		}
	}
	n.at[id] = now
	return true
}

func (n *noted) drop(id ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.at, id)
}

// note writes down that a session was seen, once a minute. It is no part of the request: what cannot be written now ends the
// session the earlier, and the next request tries again.
func (r *Room) note(ctx context.Context, c tenantdb.Caller, p presence) {
	now := r.instant()
	if now.Sub(p.SeenAt) < seenEvery || !r.noted.take(p.ID, now) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readPatience)
	defer cancel()
	if err := r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) error { return saveSeen(ctx, tx, p.ID, now) }); err != nil {
		r.noted.drop(p.ID)
	}
}

// may is what the person can do now and could when proved last: what was given since counts from the next proof on, which rotates
// the session.
func (p *presence) may() []string { return narrowed(p.held, p.st.Capabilities) }

// unproved is what was given since.
func (p *presence) unproved() []string {
	if slices.Contains(p.held, tenantdb.Everything) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.st.Capabilities), func(c string) bool { return slices.Contains(p.held, c) })
}

// capabilitiesOf is what somebody can do, as a session's row has it.
func capabilitiesOf(st Standing) []string {
	if len(st.Capabilities) == 0 {
		return []string{}
	}
	return slices.Sorted(slices.Values(st.Capabilities))
}

// narrowed is what a token may do that was given some capabilities earlier: those that the person still has.
func narrowed(token, now []string) []string {
	switch {
	case slices.Contains(token, tenantdb.Everything):
		return now
	case slices.Contains(now, tenantdb.Everything):
		return token
	}
	return slices.DeleteFunc(slices.Clone(token), func(c string) bool { return !slices.Contains(now, c) })
}

// bearerOf is the value of an Authorization: Bearer header.
func bearerOf(v string) string {
	scheme, value, _ := strings.Cut(v, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(value)
}

// accessTokenOf is the access token of a person among a request's headers, and whether there is any other credential in them.
func (r *Room) accessTokenOf(h http.Header) (token string, others bool) {
	others = len(h.Values("X-Api-Key"))+len(h.Values("X-Agent-Token")) > 0
	for _, v := range h.Values("Authorization") {
		if raw := bearerOf(v); token == "" && r.ours(raw) {
			token = raw
			continue
		}
		others = true
	}
	return token, others
}
