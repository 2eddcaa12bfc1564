package sso

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Domain is a domain of e-mail addresses that an organisation says is its own.
type Domain struct {
	Name       string // in ASCII
	Token      string // which the record at Record must be
	Connection ID     // by which its people sign in; zero is none
	Required   bool   // whether they must
	CreatedAt  time.Time
	ProvedAt   time.Time // zero if it is not proved
	LapsedAt   time.Time // since when the record is gone; zero if it is there
}

// Record is the name of the TXT record that proves the domain.
func (d Domain) Record() string { return "_avouch-challenge." + d.Name }

const (
	maxDomains   = 100
	tokenPrefix  = "avouch-domain-proof="
	recheckAfter = 7 * 24 * time.Hour
	lapseAfter   = 14 * 24 * time.Hour
)

func noDomain() error { return problem.New(problem.Missing, "There is no such domain.") }

// NormalDomain is the one form of a domain's name. A public suffix is refused: whoever proves co.uk owns nobody's mail.
func NormalDomain(name string) (string, error) {
	bad := problem.New(problem.Invalid, "This is not a domain that mail goes to.")
	if !utf8.ValidString(name) { // what idna puts in its place, it refuses the next time
		return "", bad
	}
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(strings.TrimSpace(name), "."))
	if err != nil || len(ascii) > 253 || !strings.Contains(ascii, ".") || strings.Trim(ascii, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return "", bad
	}
	if _, err := netip.ParseAddr(ascii); err == nil {
		return "", bad
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return "", bad
		}
	}
	if suffix, _ := publicsuffix.PublicSuffix(ascii); suffix == ascii {
		return "", problem.New(problem.Invalid, "%s is a public suffix: everybody's domains are below it, and it is nobody's own.", ascii)
	}
	return ascii, nil
}

// AddDomain says that a domain is the organisation's own. The token is to be proved in DNS.
func (r *Room) AddDomain(ctx context.Context, c tenantdb.Caller, name string, connection ID) (d Domain, err error) {
	name, err = NormalDomain(name)
	if err != nil {
		return Domain{}, err
	}
	d = Domain{Name: name, Token: tokenPrefix + strings.ToLower(rand.Text()), Connection: connection, CreatedAt: r.instant()}
	err = r.change(ctx, c, "AddDomain", func(tx *tenantdb.Tx) (audit.Event, error) {
		all, err := listDomains(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		if len(all) >= maxDomains {
			return audit.Event{}, problem.New(problem.Conflict, "An organisation has at most %d domains.", maxDomains)
		}
		if slices.ContainsFunc(all, func(o Domain) bool { return o.Name == name }) {
			return audit.Event{}, problem.New(problem.Conflict, "The domain is there already.")
		}
		if err := r.leadsSomewhere(ctx, tx, d); err != nil {
			return audit.Event{}, err
		}
		return d.event("domain.added"), insertDomain(ctx, tx, d)
	})
	return d, err
}

func (d Domain) event(typ string, public ...audit.Field) audit.Event {
	return audit.Event{Type: typ, Target: audit.Target{Kind: "domain", ID: d.Name}, Public: append(public, field("required", fmt.Sprint(d.Required)))}
}

func (r *Room) leadsSomewhere(ctx context.Context, tx *tenantdb.Tx, d Domain) error {
	if d.Connection.IsZero() {
		return nil
	}
	_, err := findConnection(ctx, &tx.ReadTx, d.Connection)
	return err
}

// Prove looks for the record. Whoever proves a domain first has it, until its record is gone.
func (r *Room) Prove(ctx context.Context, c tenantdb.Caller, name string) (d Domain, err error) {
	if err := errors.Join(need(c, "sso:write"), r.fresh(c)); err != nil {
		return Domain{}, err
	}
	if d, err = r.GetDomain(ctx, c, name); err != nil {
		return Domain{}, err
	}
	switch found, err := r.recordThere(ctx, d); {
	case err != nil:
		return Domain{}, problem.New(problem.Unavailable, "DNS did not answer for %s. Try again shortly.", d.Record()).Because(err)
	case !found:
		return Domain{}, problem.New(problem.Conflict, "There is no TXT record at %s that is the token. DNS can take hours to show a new one.", d.Record())
	}
	if holder, err := r.holder(ctx, d.Name); err != nil {
		return Domain{}, err
	} else if holder != c.Tenant() && !holder.IsZero() {
		return Domain{}, problem.New(problem.Conflict, "Another organisation has proved this domain. When its record is gone from DNS, it loses it within three weeks.")
	}
	err = r.change(ctx, c, "Prove", func(tx *tenantdb.Tx) (audit.Event, error) {
		now, err := findDomain(ctx, &tx.ReadTx, d.Name)
		if err != nil || now.Token != d.Token {
			return audit.Event{}, errors.Join(err, noDomainIf(err == nil))
		}
		d = now
		d.LapsedAt = time.Time{}
		if d.ProvedAt.IsZero() {
			d.ProvedAt = r.instant()
		}
		return d.event("domain.proved"), updateDomain(ctx, tx, d, r.instant())
	})
	if err == nil { // while it was lost, passwords began sessions
		err = r.enforce(ctx, c, d)
	}
	return d, err
}

func noDomainIf(gone bool) error {
	if gone {
		return noDomain()
	}
	return nil
}

// recordThere asks DNS. An error says that nothing is known, which is not that the record is gone.
func (r *Room) recordThere(ctx context.Context, d Domain) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	found, err := r.cfg.LookupTXT(ctx, d.Record()+".")
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false, nil
	}
	return slices.ContainsFunc(found, func(s string) bool { return strings.TrimSpace(s) == d.Token }), err
}

// holder is the organisation that has a domain; zero if it is nobody's.
func (r *Room) holder(ctx context.Context, name string) (tenantdb.TenantID, error) {
	t, _, err := lookupDomain(ctx, r.cfg.DB, name)
	if err != nil {
		return t, fmt.Errorf("sso.holder: %w", err)
	}
	return t, nil
}

// Redirect is what of a domain changes; nil stays.
type Redirect struct {
	Connection *ID
	Required   *bool
}

// SetDomain says by which connection the people of a domain sign in, and whether they must. If they must, the sessions end that
// did not begin so. Owners may go on with password and second factor: a provider that fails must not shut out those who
// could mend it.
func (r *Room) SetDomain(ctx context.Context, c tenantdb.Caller, name string, ch Redirect) (d Domain, err error) {
	err = r.change(ctx, c, "SetDomain", func(tx *tenantdb.Tx) (audit.Event, error) {
		if d, err = findDomain(ctx, &tx.ReadTx, name); err != nil {
			return audit.Event{}, err
		}
		if ch.Connection != nil {
			d.Connection = *ch.Connection
		}
		if ch.Required != nil {
			d.Required = *ch.Required
		}
		if err := r.leadsSomewhere(ctx, tx, d); err != nil {
			return audit.Event{}, err
		}
		if d.Required {
			if d.ProvedAt.IsZero() || d.Connection.IsZero() {
				return audit.Event{}, problem.New(problem.Conflict, "Only a proved domain that leads to a connection can require it.")
			}
			if n, err := findConnection(ctx, &tx.ReadTx, d.Connection); err != nil || !n.Enabled {
				return audit.Event{}, errors.Join(err, problem.New(problem.Conflict, "The connection is switched off: nobody could sign in."))
			}
		}
		return d.event("domain.changed", field("connection", d.Connection.String())), updateDomain(ctx, tx, d, time.Time{})
	})
	if err == nil {
		err = r.enforce(ctx, c, d)
	}
	return d, err
}

// enforce ends the sessions that a domain does not allow, from whenever its connection was not required of its people.
func (r *Room) enforce(ctx context.Context, c tenantdb.Caller, d Domain) error {
	if !d.Required || d.ProvedAt.IsZero() || d.Connection.IsZero() {
		return nil
	}
	if n, err := r.connection(ctx, c.Tenant(), d.Connection); err != nil || !n.Enabled {
		return err
	}
	_, err := r.endOthers(ctx, c, d)
	return err
}

// The people whose sessions end in one commit.
const endedAtOnce = 200

// endOthers ends the sessions of a domain's people that did not begin by its connection. The rule holds already, so no new ones
// come; if this stops half way, setting the rule again goes on.
func (r *Room) endOthers(ctx context.Context, c tenantdb.Caller, d Domain) (ended int, err error) {
	var after PersonID
	for {
		var people []PersonID
		var last PersonID
		if err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
			people, last, err = r.peopleOf(ctx, tx, d, after)
			return err
		}); err != nil {
			return ended, fmt.Errorf("sso.endOthers: %w", err)
		}
		if last.IsZero() {
			return ended, nil
		}
		after = last
		err := r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
			n := 0
			for _, p := range people {
				k, err := r.cfg.EndSessions(ctx, tx, Ended{Person: p, NotVia: d.Connection}, "connection_required")
				if err != nil {
					return audit.Event{}, err
				}
				n += k
			}
			if ended += n; n == 0 {
				return audit.Event{}, nil
			}
			return d.event("domain.sessions_ended", field("sessions", fmt.Sprint(n))), nil
		})
		if err != nil {
			return ended, fmt.Errorf("sso.endOthers: %w", err)
		}
	}
}

// Demoted ends the sessions that somebody's domain does not allow, now that they are no owner; why is a word for the log.
func (r *Room) Demoted(ctx context.Context, tx *tenantdb.Tx, p PersonID, why string) (ended int, err error) {
	f, err := r.cfg.People.Profile(ctx, &tx.ReadTx, p)
	if err != nil {
		return 0, err
	}
	n, err := r.Required(ctx, &tx.ReadTx, f.Address, nil)
	if err != nil || n.IsZero() {
		return 0, err
	}
	return r.cfg.EndSessions(ctx, tx, Ended{Person: p, NotVia: n}, why)
}

// peopleOf is those of a stretch of the organisation's people who have sessions, are of the domain and are no owners. The
// addresses are sealed, so each is opened.
func (r *Room) peopleOf(ctx context.Context, tx *tenantdb.ReadTx, d Domain, after PersonID) (found []PersonID, last PersonID, err error) {
	people, err := peopleWithSessions(ctx, tx, after, endedAtOnce)
	if err != nil || len(people) == 0 {
		return nil, last, err
	}
	for _, p := range people {
		f, err := r.cfg.People.Profile(ctx, tx, p)
		if err != nil {
			return nil, last, err
		}
		s, err := r.cfg.People.Standing(ctx, tx, p)
		if err != nil {
			return nil, last, err
		}
		if DomainOf(f.Address) == d.Name && !slices.Contains(s.Roles, org.RoleOwner) {
			found = append(found, p)
		}
	}
	return found, people[len(people)-1], nil
}

// DomainOf is the domain of a normalised address.
func DomainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// RemoveDomain gives a domain up.
func (r *Room) RemoveDomain(ctx context.Context, c tenantdb.Caller, name string) error {
	return r.change(ctx, c, "RemoveDomain", func(tx *tenantdb.Tx) (audit.Event, error) {
		d, err := findDomain(ctx, &tx.ReadTx, name)
		if err != nil {
			return audit.Event{}, err
		}
		return d.event("domain.removed"), deleteDomain(ctx, tx, name)
	})
}

// GetDomain is one domain of the caller's organisation.
func (r *Room) GetDomain(ctx context.Context, c tenantdb.Caller, name string) (d Domain, err error) {
	err = r.read(ctx, c, "GetDomain", func(tx *tenantdb.ReadTx) error {
		d, err = findDomain(ctx, tx, name)
		return err
	})
	return d, err
}

// Domains is those of the caller's organisation, by name.
func (r *Room) Domains(ctx context.Context, c tenantdb.Caller) (all []Domain, err error) {
	err = r.read(ctx, c, "Domains", func(tx *tenantdb.ReadTx) error {
		all, err = listDomains(ctx, tx)
		return err
	})
	return all, err
}

// Required is the connection by which somebody must sign in, whatever else they can prove; zero if none. Owners need none.
func (r *Room) Required(ctx context.Context, tx *tenantdb.ReadTx, address string, roles []string) (ID, error) {
	if slices.Contains(roles, org.RoleOwner) {
		return ID{}, nil
	}
	d, err := findDomain(ctx, tx, DomainOf(address))
	if problem.Is(err, problem.Missing) {
		return ID{}, nil
	}
	if err != nil || !d.Required || d.ProvedAt.IsZero() || d.Connection.IsZero() {
		return ID{}, err
	}
	n, err := findConnection(ctx, tx, d.Connection)
	if err != nil || !n.Enabled {
		return ID{}, err
	}
	return n.ID, nil
}

// Recheck looks at what can have changed by itself: each proved domain's record once a week, and who configured the
// connections. A record that is gone makes a notice; gone for two weeks, the domain counts as proved no more. DNS that does not
// answer changes nothing. Run it daily for each organisation, on any number of servers.
func (r *Room) Recheck(ctx context.Context, c tenantdb.Caller) error {
	var due []Domain
	if err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		due, err = dueDomains(ctx, tx, r.instant().Add(-recheckAfter))
		return err
	}); err != nil {
		return fmt.Errorf("sso.Recheck: %w", err)
	}
	for _, d := range due {
		there, err := r.recordThere(ctx, d)
		if err != nil {
			continue
		}
		if err := r.rechecked(ctx, c, d, there); err != nil {
			return fmt.Errorf("sso.Recheck: %w", err)
		}
	}
	return nil
}

func (r *Room) rechecked(ctx context.Context, c tenantdb.Caller, d Domain, there bool) error {
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return err
	}
	return r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		now, err := findDomain(ctx, &tx.ReadTx, d.Name)
		if err != nil || now.Token != d.Token || now.ProvedAt.IsZero() {
			return audit.Event{}, err
		}
		kind, at := "", r.instant()
		switch {
		case there:
			now.LapsedAt, kind = time.Time{}, "domain.rechecked"
		case now.LapsedAt.IsZero():
			now.LapsedAt, kind = at, "domain.lapsing"
			err = r.cfg.Tell(ctx, tx, Notice{Kind: NoticeDomainLapsing, Domain: d.Name})
		case at.Sub(now.LapsedAt) >= lapseAfter:
			now.ProvedAt, now.LapsedAt, kind = time.Time{}, time.Time{}, "domain.lost"
			err = r.cfg.Tell(ctx, tx, Notice{Kind: NoticeDomainLost, Domain: d.Name})
		default:
			kind = "domain.rechecked"
		}
		if err != nil {
			return audit.Event{}, err
		}
		return now.event(kind, field("record", map[bool]string{true: "there", false: "gone"}[there])), updateDomain(ctx, tx, now, at)
	})
}

// Restored lets go of the domains that others have proved while the organisation was deleted (org.Config.Restored): its earlier proof
// would win again. What is let go can be proved anew, as anybody's can.
func (r *Room) Restored(ctx context.Context, tx *tenantdb.Tx) ([]audit.Field, error) {
	lost, err := letGo(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("sso.Restored: %w", err)
	}
	for _, name := range lost {
		if err := r.cfg.Tell(ctx, tx, Notice{Kind: NoticeDomainLost, Domain: name}); err != nil {
			return nil, fmt.Errorf("sso.Restored: %w", err)
		}
	}
	return []audit.Field{field("domains_lost", fmt.Sprint(len(lost)))}, nil
}

// Owns says whether the organisation has proved a domain, and which roles new people of it get from whoever configured its
// connection: none without one.
func (r *Room) Owns(ctx context.Context, tx *tenantdb.ReadTx, domain string) (roles []string, owned bool, err error) {
	d, err := findDomain(ctx, tx, domain)
	if problem.Is(err, problem.Missing) || err == nil && d.ProvedAt.IsZero() {
		return nil, false, nil
	}
	if err != nil || d.Connection.IsZero() {
		return nil, err == nil, err
	}
	n, err := r.load(ctx, tx, d.Connection)
	if err != nil {
		return nil, false, err
	}
	gives, err := r.cfg.People.CapabilitiesOf(ctx, tx, n.Settings.Admission.Roles)
	if err != nil || !within(n.Settings.Ceiling, gives) {
		return nil, err == nil, err
	}
	return n.Settings.Admission.Roles, true, nil
}
