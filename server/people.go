package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/outbound"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/signin/scim"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/signin/sso"
	"github.com/avouch-dev/avouch/tenantdb"
)

// openOutbound makes the client by which addresses are reached that organisations name.
func (s *Server) openOutbound(context.Context) error {
	networks, err := prefixes(s.cfg.OutboundNetworks)
	if err != nil {
		return fmt.Errorf("%w: AVOUCH_OUTBOUND_NETWORKS: %w", ErrConfig, err)
	}
	if s.outbound, err = outbound.Client(outbound.Config{Networks: networks, CAFile: s.cfg.OutboundCAFile}); err != nil {
		return fmt.Errorf("%w: AVOUCH_OUTBOUND_CA_FILE: %w", ErrConfig, err)
	}
	return nil
}

// openPeople makes the rooms that people sign in by. Rooms of one floor know of each other what is handed over here.
func (s *Server) openPeople() (err error) {
	lists := s.cfg.Breached
	lists.Log = s.log
	breached, err := password.OpenBreached(lists)
	if err != nil {
		return fmt.Errorf("%w: AVOUCH_BREACHED_URL, AVOUCH_BREACHED_FILE: %w", ErrConfig, err)
	}
	roots, models, err := s.hardware()
	if err != nil {
		return fmt.Errorf("%w: AVOUCH_HARDWARE_KEY_ROOTS_FILE, AVOUCH_HARDWARE_KEY_MODELS: %w", ErrConfig, err)
	}
	s.Factors = mfa.New(mfa.Config{
		HardwareRoots: roots, HardwareModels: models,
		DB: s.DB, Ring: s.Ring, People: factorRules{s.Org}, PublicURL: s.set.public, Sends: s.sends, TextsPerDay: s.cfg.TextsPerDay, Changed: s.factorsChanged, Locked: s.locked, Lasts: s.sessionLasts, Now: s.now,
	})
	s.Sessions, err = session.NewRoom(session.Config{
		DB: s.DB, Ring: s.Ring, Signing: s.Signing, People: standings{s.Org}, Glass: s.Glass, Vouches: s.vouches, Issuer: s.URL(), Refused: s.sessionRefused, Now: s.now,
	})
	if err != nil {
		return fmt.Errorf("%w: AVOUCH_PUBLIC_URL: %w", ErrConfig, err)
	}
	hashing := password.Config{Ring: s.Ring, Breached: breached, Now: s.now, Quick: s.cfg.quick}
	arriving := signin.Config{
		DB: s.DB, Ring: s.Ring, Org: s.Org, Factors: s.Factors, Sessions: s.Sessions, Links: s.Links, Provided: s.provided, Refused: s.signInRefused, Step: signin.DefaultStep, Now: s.now,
	}
	if s.cfg.Strangers != nil {
		s.cfg.Strangers(&hashing, &arriving)
	}
	s.Passwords = password.New(hashing)
	arriving.Passwords = s.Passwords
	s.SignIn = signin.New(arriving)
	txt, err := s.txt()
	if err != nil {
		return fmt.Errorf("%w: AVOUCH_DNS_SERVER: %w", ErrConfig, err)
	}
	s.SSO = sso.New(sso.Config{
		DB: s.DB, Ring: s.Ring, People: s.Org, Public: s.set.public, Client: s.outbound, Arrive: s.arrive, EndSessions: s.endVia, Lasts: s.sessionLasts, Tell: tellOwnersOfSSO(s.Org),
		LookupTXT: txt, DeviceOf: s.deviceIn, Refused: s.arrivalRefused, Takes: s.takes, Gain: s.gain, Now: s.now,
	})
	s.SCIM = scim.New(scim.Config{DB: s.DB, Ring: s.Ring, People: s.Org, Public: s.set.public, Owns: s.SSO.Owns, Gain: s.gain, Now: s.now})
	return nil
}

// txt asks a name server of the operator's choice: the system's may see a name inside that the internet does not. nil asks
// the system's.
func (s *Server) txt() (func(ctx context.Context, name string) ([]string, error), error) {
	at := s.cfg.DNSServer
	if at == "" || s.cfg.lookupTXT != nil {
		return s.cfg.lookupTXT, nil
	}
	if host, port, err := net.SplitHostPort(at); err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("%q is not host:port", at)
	}
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, at)
	}}
	return r.LookupTXT, nil
}

// deviceIn is what a device keeps that sent a Cookie header.
func (s *Server) deviceIn(cookies string) string {
	return s.Sessions.DeviceOf(&http.Request{Header: http.Header{"Cookie": {cookies}}})
}

// hardware reads whose passkeys count as hardware.
func (s *Server) hardware() (roots *x509.CertPool, models [][16]byte, err error) {
	if s.cfg.HardwareRootsFile == "" {
		if len(s.cfg.HardwareModels) > 0 {
			return nil, nil, errors.New("models are named, but no maker's certificate")
		}
		return nil, nil, nil
	}
	text, err := os.ReadFile(s.cfg.HardwareRootsFile)
	if err != nil {
		return nil, nil, err
	}
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, nil, errors.New("the file holds no certificate")
	}
	for _, m := range s.cfg.HardwareModels {
		id, err := tenantdb.ParseTenantID(m) // an AAGUID is written as every other UUID
		if err != nil {
			return nil, nil, fmt.Errorf("%q is no AAGUID", m)
		}
		models = append(models, id)
	}
	return roots, models, nil
}

// endings end what a removed person has in other rooms. The rooms are opened after org, which calls these later.
func (s *Server) endings() map[string]org.Ending {
	return map[string]org.Ending{
		org.EndSessions: func(ctx context.Context, tx *tenantdb.Tx, p org.PersonID, why string) (int, error) {
			return s.Sessions.End(ctx, tx, p, why)
		},
		"factors": func(ctx context.Context, tx *tenantdb.Tx, p org.PersonID, why string) (int, error) {
			return s.Factors.End(ctx, tx, p, why)
		},
		"passwords": func(ctx context.Context, tx *tenantdb.Tx, p org.PersonID, why string) (int, error) {
			return s.Passwords.End(ctx, tx, p, why)
		},
		"identities": func(ctx context.Context, tx *tenantdb.Tx, p org.PersonID, why string) (int, error) {
			return s.SSO.End(ctx, tx, p, why)
		},
		"api_keys": func(ctx context.Context, tx *tenantdb.Tx, p org.PersonID, why string) (int, error) {
			return s.Keys.EndOf(ctx, tx, p, why)
		},
		"vault_grants": func(ctx context.Context, tx *tenantdb.Tx, p org.PersonID, why string) (int, error) {
			return s.Vault.EndOfPerson(ctx, tx, p, why)
		},
		"break_glass": func(ctx context.Context, tx *tenantdb.Tx, p org.PersonID, why string) (int, error) {
			return s.Glass.End(ctx, tx, p, why)
		},
	}
}

// heldBy is what a person holds now: what their keys may do at most. Whose session was ended while the request was under way holds
// nothing by it.
func (s *Server) heldBy(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) ([]string, error) {
	if me, ok := tx.Caller().Person(); ok && me.ID == p && me.Session != "" {
		if lasts, err := s.sessionLasts(ctx, tx, me.Session); err != nil || !lasts {
			return nil, err
		}
	}
	o, err := s.Org.Standing(ctx, tx, p)
	if problem.Is(err, problem.Missing) || err == nil && !o.Active {
		return nil, nil
	}
	return o.Capabilities, err
}

// link makes the link of an invitation.
func (s *Server) link(ctx context.Context, tx *tenantdb.Tx, purpose string, subject [16]byte, life time.Duration) (string, error) {
	made, err := s.Links.Make(ctx, tx, link.Purpose(purpose), subject, life, nil)
	return made.String(), err
}

// factorsChanged ends the sessions of somebody whose factors an administrator took away: they may be a thief's.
func (s *Server) factorsChanged(ctx context.Context, tx *tenantdb.Tx, ch mfa.Change) error {
	if ch.What != "reset" {
		return nil
	}
	_, err := s.Sessions.End(ctx, tx, ch.Person, "factors_reset")
	return err
}

// standings tells sessions what people may do.
type standings struct{ org *org.Room }

// Standing is for session.People.
func (s standings) Standing(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (session.Standing, error) {
	o, err := s.org.Standing(ctx, tx, p)
	if err != nil {
		return session.Standing{}, err
	}
	return session.Standing{
		Active: o.Active, Why: o.Why, Roles: o.Roles, Capabilities: o.Capabilities, NeedsMFA: o.NeedsMFA, Factors: o.Factors, Addresses: o.Rules.Addresses,
		Algorithm: o.Rules.AccessAlgorithm, Idle: o.Rules.IdleTimeout, Life: o.Rules.SessionLifetime, ProgramLife: o.Rules.ProgramLifetime,
	}, nil
}

// factorRules tells factors what the organisations' rules are.
type factorRules struct{ org *org.Room }

// Allowed is for mfa.People.
func (f factorRules) Allowed(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (kinds []string, required bool, err error) {
	s, err := f.org.Standing(ctx, tx, p)
	return s.Factors, s.NeedsMFA, err
}

// Profile is for mfa.People.
func (f factorRules) Profile(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (name, address string, err error) {
	profile, err := f.org.Profile(ctx, tx, p)
	return profile.Name, profile.Address, err
}

// MayReset is for mfa.People.
func (f factorRules) MayReset(ctx context.Context, tx *tenantdb.ReadTx, _ tenantdb.Caller, member tenantdb.PersonID) ([]tenantdb.PersonID, error) {
	if err := f.org.MayDecide(ctx, tx, member); err != nil {
		return nil, err
	}
	return f.org.Owners(ctx, tx)
}

// sessionRefused records that a session was refused. Whoever has one that ended could otherwise write to its organisation's log
// for ever.
func (s *Server) sessionRefused(ctx context.Context, c tenantdb.Caller, ev audit.Event) error {
	return s.denials.record(ctx, c, ev, singleKeys)
}

// signInRefused records that somebody did not prove a factor, which anybody could do without end.
func (s *Server) signInRefused(ctx context.Context, c tenantdb.Caller, ev audit.Event) error {
	return s.denials.record(ctx, c, ev, singleRequests)
}

// arrivalRefused records that somebody came back from a provider in vain, who could do so for ever.
func (s *Server) arrivalRefused(ctx context.Context, c tenantdb.Caller, ev audit.Event) error {
	return s.denials.record(ctx, c, ev, singleKeys)
}

// roleUsed counts the connections that give a role.
func (s *Server) roleUsed(ctx context.Context, tx *tenantdb.ReadTx, role string) (int, error) {
	return s.SSO.RoleUsed(ctx, tx, role)
}

// restored lets go of the domains that others have proved since.
func (s *Server) restored(ctx context.Context, tx *tenantdb.Tx) ([]audit.Field, error) {
	return s.SSO.Restored(ctx, tx)
}

func (s *Server) demoted(ctx context.Context, tx *tenantdb.Tx, p org.PersonID, why string) (int, error) {
	return s.SSO.Demoted(ctx, tx, p, why)
}

// sessionLasts says whether a session is in force, of which another room knows the id alone.
func (s *Server) sessionLasts(ctx context.Context, tx *tenantdb.ReadTx, id string) (bool, error) {
	of, err := session.ParseID(id)
	if err != nil {
		return false, err
	}
	return s.Sessions.Lasts(ctx, tx, of)
}

// provided is the connection by which alone somebody signs in.
func (s *Server) provided(ctx context.Context, tx *tenantdb.ReadTx, address string, roles []string) ([16]byte, error) {
	return s.SSO.Required(ctx, tx, address, roles)
}

// arrive makes a session of whom a provider proved, or says where the browser goes to prove more.
func (s *Server) arrive(w http.ResponseWriter, req *http.Request, meta web.RequestMeta, a sso.Arrival) (next string, err error) {
	from := signin.Request{Meta: meta, Program: req.UserAgent(), Device: s.Sessions.DeviceOf(req)}
	if from.Device == "" { // which another site's page does not send along
		from.Device = a.Known
	}
	arrival := signin.Arrival{
		Tenant: a.Tenant, Person: a.Person, Method: a.Method, Connection: a.Connection, ProvedAt: a.ProvedAt, Until: a.Until, Strong: a.Strong,
		Session: signin.Wanted{Device: a.Device},
	}
	if a.Session != "" {
		id, err := session.ParseID(a.Session)
		if err != nil {
			return "", err
		}
		value, err := s.SignIn.Reproved(req.Context(), from, arrival, id)
		if err == nil && !value.IsZero() {
			s.Sessions.Cookie(w, session.Session{ExpiresAt: s.now().Add(session.DefaultLife)}, value)
		}
		return "", err
	}
	o, err := s.SignIn.Arrive(req.Context(), from, arrival)
	if err != nil {
		return "", err
	}
	if o.State != signin.SignedIn { // behind #: it reaches no server's log
		next := ""
		if a.Return != "" {
			next = "?next=" + url.QueryEscape(a.Return)
		}
		return "/sign-in" + next + "#attempt=" + o.Attempt.Expose() + "&state=" + string(o.State), nil
	}
	s.Sessions.Cookie(w, o.Started.Session, o.Started.Value)
	if !o.Started.Device.IsZero() {
		s.Sessions.Device(w, o.Started.Device)
	}
	return "", nil
}

// vouches is for sessions: whether the connection by which one began is still believed about its person.
func (s *Server) vouches(ctx context.Context, tx *tenantdb.ReadTx, via [16]byte, capabilities []string) (bool, error) {
	return s.SSO.Vouches(ctx, tx, via, capabilities)
}

// endVia ends the sessions of people, and what is to become one, by how they began.
func (s *Server) endVia(ctx context.Context, tx *tenantdb.Tx, e sso.Ended, why string) (int, error) {
	if err := s.SignIn.EndArrivals(ctx, tx, e.Person, e.Via, e.NotVia); err != nil {
		return 0, err
	}
	return s.Sessions.EndWhere(ctx, tx, session.Which{Person: e.Person, Via: e.Via, NotVia: e.NotVia}, why)
}

// tellOwnersOfSSO mails every owner.
func tellOwnersOfSSO(people *org.Room) func(context.Context, *tenantdb.Tx, sso.Notice) error {
	return func(ctx context.Context, tx *tenantdb.Tx, n sso.Notice) error {
		owners, err := people.Owners(ctx, &tx.ReadTx)
		if err != nil {
			return err
		}
		return mail.ToEach(ctx, tx, tx.Tenant().String(), owners, mail.SSOConfigurerLeft, map[string]string{"kind": n.Kind, "connection": n.Connection.String(), "domain": n.Domain})
	}
}
