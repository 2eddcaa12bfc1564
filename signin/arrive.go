package signin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Arrival is a person whom an organisation's provider has proved.
type Arrival struct {
	Tenant     tenantdb.TenantID
	Person     tenantdb.PersonID
	Method     string   // "oidc" or "saml"
	Connection [16]byte // which, so that its end can end the session
	// ProvedAt is when the provider proved the person: a sign-in is as fresh as the provider says. Zero is long ago.
	ProvedAt time.Time
	Until    time.Time // when the provider's session ends; zero is unsaid
	Strong   bool      // the provider asked for a second factor, and the connection trusts it so far
	Session  Wanted
}

// Arrive starts the session of a person whom a provider has proved, or asks for what is wanted beside.
func (r *Room) Arrive(ctx context.Context, req Request, a Arrival) (Outcome, error) {
	who := account{a.Tenant, a.Person}
	var known bool
	err := r.cfg.DB.Read(ctx, tenantdb.System(a.Tenant, "sign-in"), func(tx *tenantdb.ReadTx) (err error) {
		known, err = r.cfg.Sessions.KnownDevice(ctx, tx, a.Person, req.Device)
		return err
	})
	if err != nil {
		return Outcome{}, err
	}
	at := a.ProvedAt
	if now := r.instant(); at.IsZero() {
		at = now.Add(-24 * time.Hour)
	} else if at.After(now) {
		at = now
	}
	proofs := []string{a.Method}
	if a.Strong {
		proofs = append(proofs, "mfa") // RFC 8176's word
	}
	return r.change(ctx, req, who, a.Connection, func(tx *tenantdb.Tx, s org.Standing) (Outcome, audit.Event, error) {
		return r.advance(ctx, tx, s, progress{
			req: req, who: who, known: known, proofs: proofs, via: a.Connection, until: a.Until, provedAt: at, wanted: a.Session,
		})
	})
}

// EndArrivals ends sign-ins that are under way, by how they began: by a connection, or not by it. Zero is anybody, and any.
func (r *Room) EndArrivals(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, via, notVia [16]byte) error {
	if err := endArrivals(ctx, tx, p, via, notVia, r.instant()); err != nil {
		return fmt.Errorf("signin.EndArrivals: %w", err)
	}
	return nil
}

// weak is what does not suffice by itself where a second factor is wanted.
var weak = []string{"password", "link", "oidc", "saml"}

// strong is whether the proofs are enough where more than a password is wanted.
func (p progress) strong() bool {
	return slices.ContainsFunc(p.proofs, func(s string) bool { return !slices.Contains(weak, s) })
}

// own is whether a factor of the person's own was proved just now, and not at a provider.
func (p progress) own() bool {
	return slices.ContainsFunc(p.proofs, func(s string) bool { return s != "mfa" && !slices.Contains(weak, s) })
}
