package sso

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Connection is an identity provider of an organisation.
type Connection struct {
	ID           ID
	Kind, Name   string
	Settings     Settings
	Enabled      bool
	ConfiguredBy string // kind and id of who made it what it is
	CreatedAt    time.Time
	Version      int64
	Warnings     []string // WarnConfigurer

	sealed []byte
}

// WarnConfigurer is on a connection whose configurer was removed, or may not change connections any more.
const WarnConfigurer = "configured_by_left"

const maxConnections = 50

func noConnection() error { return problem.New(problem.Missing, "There is no such connection.") }

// seal binds the settings to the connection and its version: neither another row nor an older one opens in its place.
func (r *Room) seal(ctx context.Context, t tenantdb.TenantID, n *Connection) error {
	b, err := json.Marshal(n.Settings)
	if err != nil {
		return err
	}
	n.sealed, err = r.cfg.Ring.Seal(ctx, t, n.ID.String(), "connection", uint64(n.Version), b)
	return err
}

func (r *Room) open(ctx context.Context, t tenantdb.TenantID, n *Connection) error {
	b, err := r.cfg.Ring.Open(ctx, t, n.ID.String(), "connection", uint64(n.Version), n.sealed)
	if err == nil {
		err = json.Unmarshal(b, &n.Settings)
	}
	if err != nil {
		return fmt.Errorf("sso: settings: %w", err)
	}
	return nil
}

// configurer names who configures, for the row.
func configurer(c tenantdb.Caller) string { return string(c.Actor().Kind) + ":" + c.Actor().ID }

func (r *Room) load(ctx context.Context, tx *tenantdb.ReadTx, connection ID) (Connection, error) {
	n, err := findConnection(ctx, tx, connection)
	if err == nil {
		err = r.open(ctx, tx.Tenant(), &n)
	}
	return n, err
}

// Connect makes a connection, switched off. Whoever makes it must hold all that it gives away.
func (r *Room) Connect(ctx context.Context, c tenantdb.Caller, kind, name string, s Settings) (Connection, error) {
	if err := s.check(kind, name); err != nil {
		return Connection{}, err
	}
	s.Ceiling, s.Trust = c.Scopes(), c.Scopes()
	n := Connection{ID: id.At[connectionKind](r.cfg.Now()), Kind: kind, Name: name, Settings: s, ConfiguredBy: configurer(c), CreatedAt: r.instant(), Version: 1}
	if err := r.seal(ctx, c.Tenant(), &n); err != nil {
		return Connection{}, fmt.Errorf("sso.Connect: %w", err)
	}
	err := r.change(ctx, c, "Connect", func(tx *tenantdb.Tx) (audit.Event, error) {
		if count, err := countConnections(ctx, &tx.ReadTx); err != nil {
			return audit.Event{}, err
		} else if count >= maxConnections {
			return audit.Event{}, problem.New(problem.Conflict, "An organisation has at most %d connections.", maxConnections)
		}
		alone, err := r.mayGive(ctx, tx, c, n)
		if err != nil {
			return audit.Event{}, err
		}
		if err := mayTrust(c, n); err != nil {
			return audit.Event{}, err
		}
		return n.changed("connection.made", alone), insertConnection(ctx, tx, n)
	})
	return n, err
}

// mayTrust refuses a provider whose word counts as a second factor to everybody but owners: it asks less of all who come by it.
func mayTrust(c tenantdb.Caller, n Connection) error {
	if c.Actor().Kind == audit.ActorSystem || !n.Settings.trustsMFA() {
		return nil
	}
	if _, person := c.Person(); person && c.Holds(tenantdb.Everything) {
		return nil
	}
	return problem.New(problem.Denied, "Only an owner, signed in, says that a provider's word counts as a second factor (trust_mfa), and which provider that is.")
}

// mayGive refuses a connection that gives what its maker does not hold, and takes the groups that it fills.
func (r *Room) mayGive(ctx context.Context, tx *tenantdb.Tx, c tenantdb.Caller, n Connection) (alone bool, err error) {
	groups := make([]org.GroupID, 0, len(n.Settings.Admission.Groups))
	for _, g := range n.Settings.Admission.Groups {
		groups = append(groups, g)
	}
	roles, found, err := groupRoles(ctx, &tx.ReadTx, groups)
	if err != nil {
		return false, err
	}
	if found != countDistinct(groups) {
		return false, problem.New(problem.Invalid, "The connection names a group that is not there.")
	}
	if slices.Contains(roles, org.RoleOwner) {
		return false, problem.New(problem.Denied, "A group of owners is not filled by a provider: an owner is made by an owner.")
	}
	gives, err := r.cfg.People.CapabilitiesOf(ctx, &tx.ReadTx, slices.Concat(n.Settings.Admission.Roles, roles))
	if err != nil {
		return false, err
	}
	for _, capability := range gives {
		if !c.Holds(capability) && c.Actor().Kind != audit.ActorSystem {
			return false, problem.New(problem.Denied, "The connection would give %s, which you do not hold for good yourself.", capability)
		}
	}
	if alone, err = r.mayTake(ctx, tx, n.ID, groups); err != nil {
		return false, err
	}
	return alone, takeGroups(ctx, tx, n.ID, groups)
}

// mayTake refuses to let a connection decide about groups, of those that it does not decide about yet, whose members have what the caller
// could not give themselves.
func (r *Room) mayTake(ctx context.Context, tx *tenantdb.Tx, connection ID, groups []org.GroupID) (alone bool, err error) {
	if r.cfg.Takes == nil {
		return false, nil
	}
	others, err := groupsOfOthers(ctx, &tx.ReadTx, connection, groups)
	for _, g := range others {
		if err == nil {
			var one bool
			one, err = r.cfg.Takes(ctx, &tx.ReadTx, g)
			alone = alone || one
		}
	}
	return alone, err
}

func countDistinct(groups []org.GroupID) int {
	seen := map[org.GroupID]bool{}
	for _, g := range groups {
		seen[g] = true
	}
	return len(seen)
}

func (n Connection) event(typ string) audit.Event {
	e := event(typ, n.ID, field("kind", n.Kind), field("enabled", fmt.Sprint(n.Enabled)), field("jit", fmt.Sprint(n.Settings.Admission.JIT)))
	e.Private = []audit.Field{field("name", n.Name), field("provider", n.Settings.provider())}
	return e
}

// changed is an event that says, too, whether an organisation's only owner did what nobody does for themselves.
func (n Connection) changed(typ string, alone bool) audit.Event {
	e := n.event(typ)
	if alone {
		e.Public = append(e.Public, field("alone", "true"))
	}
	return e
}

// provider is what the provider calls itself.
func (s Settings) provider() string {
	switch {
	case s.OIDC != nil:
		return s.OIDC.Issuer
	case s.SAML != nil:
		return s.SAML.EntityID
	}
	return ""
}

// Reconfigure is what of a connection changes; nil stays.
type Reconfigure struct {
	Name      *string
	OIDC      *OIDC // without a client secret, the old one stays
	SAML      *SAML
	Admission *Admission
}

// Update changes a connection from the version that ifMatch names. Who changes it is its configurer from then on.
func (r *Room) Update(ctx context.Context, c tenantdb.Caller, connection ID, ifMatch string, ch Reconfigure) (Connection, error) {
	n, err := r.Get(ctx, c, connection)
	if err != nil {
		return Connection{}, err
	}
	if err := web.MustMatch(ifMatch, n.Version); err != nil {
		return Connection{}, err
	}
	read := n.Version
	if err := ch.apply(&n); err != nil {
		return Connection{}, err
	}
	if err := n.Settings.check(n.Kind, n.Name); err != nil {
		return Connection{}, err
	}
	n.Settings.Ceiling, n.ConfiguredBy = c.Scopes(), configurer(c)
	if ch.OIDC != nil || ch.SAML != nil {
		n.Settings.Trust = c.Scopes()
	}
	n.Version++
	n.Warnings = nil
	if err := r.seal(ctx, c.Tenant(), &n); err != nil {
		return Connection{}, fmt.Errorf("sso.Update: %w", err)
	}
	err = r.change(ctx, c, "Update", func(tx *tenantdb.Tx) (audit.Event, error) {
		now, err := findConnection(ctx, &tx.ReadTx, n.ID)
		if err != nil {
			return audit.Event{}, err
		}
		if err := web.MustMatch(web.ETag(read), now.Version); err != nil {
			return audit.Event{}, err
		}
		n.Enabled = now.Enabled
		alone, err := r.mayGive(ctx, tx, c, n)
		if err != nil {
			return audit.Event{}, err
		}
		if ch.OIDC != nil || ch.SAML != nil {
			if err := mayTrust(c, n); err != nil {
				return audit.Event{}, err
			}
		}
		return n.changed("connection.changed", alone), updateConnection(ctx, tx, n)
	})
	return n, err
}

func (ch Reconfigure) apply(n *Connection) error {
	if ch.Name != nil {
		n.Name = *ch.Name
	}
	if ch.Admission != nil {
		n.Settings.Admission = *ch.Admission
	}
	if ch.SAML != nil {
		n.Settings.SAML = ch.SAML
	}
	if ch.OIDC == nil {
		return nil
	}
	if old := n.Settings.OIDC; old != nil && ch.OIDC.ClientSecret == "" && old.ClientSecret != "" {
		// Whoever names another issuer would be sent the secret of the old one.
		if old.Issuer != ch.OIDC.Issuer || old.ClientID != ch.OIDC.ClientID {
			return problem.New(problem.Invalid, "With another issuer or client_id, give client_secret again: the old one is only for the old provider.")
		}
		ch.OIDC.ClientSecret = old.ClientSecret
	}
	n.Settings.OIDC = ch.OIDC
	return nil
}

// Switch switches a connection on or off. When it is off, the sessions that began by it have ended; when it is on, those that began
// without it of whoever must come by it. If that stops half way, switching it on again goes on.
func (r *Room) Switch(ctx context.Context, c tenantdb.Caller, connection ID, on bool) (n Connection, err error) {
	err = r.change(ctx, c, "Switch", func(tx *tenantdb.Tx) (audit.Event, error) {
		if n, err = r.load(ctx, &tx.ReadTx, connection); err != nil || n.Enabled == on {
			return audit.Event{}, err
		}
		if n.Enabled = on; on {
			if !within(c.Scopes(), n.Settings.Ceiling) {
				return audit.Event{}, problem.New(problem.Denied, "Who configured the connection held more than you do: update it, so that it is trusted as far as you are, or ask an owner.")
			}
			return n.event("connection.enabled"), switchConnection(ctx, tx, n)
		}
		ended, err := r.cfg.EndSessions(ctx, tx, Ended{Via: n.ID}, "connection_disabled")
		if err != nil {
			return audit.Event{}, err
		}
		e := n.event("connection.disabled")
		e.Public = append(e.Public, field("sessions", fmt.Sprint(ended)))
		return e, switchConnection(ctx, tx, n)
	})
	if err == nil && on {
		err = r.enforceAll(ctx, c, n.ID)
	}
	return n, err
}

// enforceAll enforces each domain that leads to a connection.
func (r *Room) enforceAll(ctx context.Context, c tenantdb.Caller, connection ID) error {
	var lead []Domain
	err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
		lead, err = domainsOf(ctx, tx, connection)
		return err
	})
	for _, d := range lead {
		if err == nil {
			err = r.enforce(ctx, c, d)
		}
	}
	if err != nil {
		return fmt.Errorf("sso.enforceAll: %w", err)
	}
	return nil
}

// Disconnect removes a connection, and whom its provider knows. Its domains must have been given to another, or removed.
func (r *Room) Disconnect(ctx context.Context, c tenantdb.Caller, connection ID) error {
	return r.change(ctx, c, "Disconnect", func(tx *tenantdb.Tx) (audit.Event, error) {
		n, err := r.load(ctx, &tx.ReadTx, connection)
		if err != nil {
			return audit.Event{}, err
		}
		if used, err := domainsOf(ctx, &tx.ReadTx, connection); err != nil {
			return audit.Event{}, err
		} else if len(used) > 0 {
			return audit.Event{}, problem.New(problem.Conflict, "Domains lead to the connection: give them another, or remove them first.")
		}
		ended, err := r.cfg.EndSessions(ctx, tx, Ended{Via: n.ID}, "connection_removed")
		if err != nil {
			return audit.Event{}, err
		}
		gone, err := deleteConnection(ctx, tx, connection)
		e := n.event("connection.removed")
		e.Public = append(e.Public, field("sessions", fmt.Sprint(ended)), field("identities", fmt.Sprint(gone)))
		return e, err
	})
}

// Get is one connection of the caller's organisation.
func (r *Room) Get(ctx context.Context, c tenantdb.Caller, connection ID) (n Connection, err error) {
	err = r.read(ctx, c, "Get", func(tx *tenantdb.ReadTx) error {
		if n, err = r.load(ctx, tx, connection); err != nil {
			return err
		}
		return r.warn(ctx, tx, &n)
	})
	return n, err
}

// List is the connections of the caller's organisation, the oldest first.
func (r *Room) List(ctx context.Context, c tenantdb.Caller) (all []Connection, err error) {
	err = r.read(ctx, c, "List", func(tx *tenantdb.ReadTx) error {
		if all, err = listConnections(ctx, tx); err != nil {
			return err
		}
		for i := range all {
			if err := r.open(ctx, c.Tenant(), &all[i]); err != nil {
				return err
			}
			if err := r.warn(ctx, tx, &all[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

// RoleUsed counts the connections that give a role to whomever they admit.
func (r *Room) RoleUsed(ctx context.Context, tx *tenantdb.ReadTx, role string) (n int, err error) {
	all, err := listConnections(ctx, tx)
	for i := range all {
		if err == nil {
			err = r.open(ctx, tx.Tenant(), &all[i])
		}
		if slices.Contains(all[i].Settings.Admission.Roles, role) {
			n++
		}
	}
	if err != nil {
		return 0, fmt.Errorf("sso.RoleUsed: %w", err)
	}
	return n, nil
}

// warn says what an owner should look after. A connection whose configurer left goes on working: to switch it off would shut
// everybody out because one person went.
func (r *Room) warn(ctx context.Context, tx *tenantdb.ReadTx, n *Connection) error {
	left, err := r.configurerLeft(ctx, tx, *n)
	if left {
		n.Warnings = append(n.Warnings, WarnConfigurer)
	}
	return err
}

func (r *Room) configurerLeft(ctx context.Context, tx *tenantdb.ReadTx, n Connection) (bool, error) {
	p, ok := personOf(n.ConfiguredBy)
	if !ok {
		return false, nil
	}
	s, err := r.cfg.People.Standing(ctx, tx, p)
	if problem.Is(err, problem.Missing) {
		return true, nil
	}
	return err == nil && (!s.Active || !within(s.Capabilities, []string{"sso:write"})), err
}

func groupTaken() error {
	return problem.New(problem.Conflict, "Another directory decides already who is in one of the groups.")
}
