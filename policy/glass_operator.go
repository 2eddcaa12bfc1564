package policy

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// operatorPrefix begins the actor's id of an operator that has a name.
const operatorPrefix = "operator/"

var operatorSyntax = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,31}$`)

// Operator is an operator of the installation, by the name of an account, in a tenant.
func Operator(t tenantdb.TenantID, name string) (tenantdb.Caller, error) {
	if !operatorSyntax.MatchString(name) {
		return tenantdb.Caller{}, problem.New(problem.Invalid, "An operator's name is 1 to 32 of a-z, 0-9, dot, underscore and hyphen, and begins with a letter or a digit.")
	}
	return tenantdb.System(t, operatorPrefix+name), nil
}

// operatorName is who a caller that Operator made is.
func operatorName(by tenantdb.Caller) (string, error) {
	if a := by.Actor(); a.Kind == audit.ActorSystem && len(a.ID) > len(operatorPrefix) && a.ID[:len(operatorPrefix)] == operatorPrefix {
		return a.ID[len(operatorPrefix):], nil
	}
	return "", problem.New(problem.Denied, "Only an operator of the installation does this.")
}

// OperatorOpen breaks the glass for an operator with a shell: by is that operator, in the organisation (see Operator). Nobody
// lets the operator, who could take more than this gives; but it is first in the log of the platform and then in the
// organisation's, its owners are told, and it is reviewed like any other use. If the organisation's log cannot be written,
// nothing is open, and the platform's log says that it was tried.
func (g *Glass) OperatorOpen(ctx context.Context, by tenantdb.Caller, reason string, life time.Duration) (Use, error) {
	name, err := operatorName(by)
	if err != nil {
		return Use{}, err
	}
	reason, err = sentence("reason", reason)
	if err != nil {
		return Use{}, err
	}
	if by.Tenant() == tenantdb.Platform {
		return Use{}, problem.New(problem.Invalid, "The installation's own organisation is the operator's: it needs no break-glass.")
	}
	if _, err := g.cfg.DB.Head(ctx, by.Tenant()); err != nil { // an id that was mistyped is missing, and not a fault of the key store
		return Use{}, wrapped("OperatorOpen", err)
	}
	now := g.now()
	u := Use{
		ID: id.At[useKind](now), Operator: name, Capabilities: []string{}, Life: life, Approval: byOperator, AskedAt: now, DueAt: now,
		DecidedAt: now, OpenedAt: now, ExpiresAt: now.Add(life), Reason: reason,
	}
	if u.reason, err = g.seal(ctx, by.Tenant(), &u, "reason", reason); err != nil {
		return Use{}, wrapped("OperatorOpen", err)
	}
	if err := g.recordForPlatform(ctx, by, "operator_opening", &u); err != nil {
		return Use{}, err
	}
	err = g.cfg.DB.ChangeAll(ctx, by, func(tx *tenantdb.Tx) ([]audit.Event, error) {
		rules, err := g.rules(ctx, &tx.ReadTx)
		if err != nil {
			return nil, err
		}
		if life < time.Minute || life > rules.MaxLife {
			return nil, problem.New(problem.Invalid, "A use lasts from 1 to %d minutes in this organisation.", int(rules.MaxLife/time.Minute))
		}
		closing, err := g.clear(ctx, tx, &u)
		if err != nil {
			return nil, err
		}
		if err := insertUse(ctx, tx, &u); err != nil {
			return nil, err
		}
		e := u.event("opened", u.terms()...)
		e.Private = []audit.Field{{Name: "reason", Value: reason}}
		return append(closing, e), g.tell(ctx, tx, mail.GlassOpened, map[string]string{"use": u.ID.String()})
	})
	return u, wrapped("OperatorOpen", err)
}

// recordForPlatform writes of an operator's use into the log of the platform.
func (g *Glass) recordForPlatform(ctx context.Context, by tenantdb.Caller, what string, u *Use) error {
	platform, err := Operator(tenantdb.Platform, u.Operator)
	if err != nil {
		return err
	}
	e := u.event(what, audit.Field{Name: "organisation", Value: by.Tenant().String()}, audit.Field{Name: "minutes", Value: fmt.Sprint(int(u.Life / time.Minute))})
	e.Subject = audit.SubjectID{}
	if u.Reason != "" {
		e.Private = []audit.Field{{Name: "reason", Value: u.Reason}}
	}
	_, err = g.cfg.DB.Record(ctx, platform, e)
	return wrapped("recordForPlatform", err)
}

// OperatorEnd ends a use of an operator's before its time. by is any operator, in the organisation.
func (g *Glass) OperatorEnd(ctx context.Context, by tenantdb.Caller, use UseID) error {
	if _, err := operatorName(by); err != nil {
		return err
	}
	var u Use
	err := g.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (e audit.Event, err error) {
		if u, err = loadUse(ctx, &tx.ReadTx, use); err != nil {
			return audit.Event{}, err
		}
		if u.Operator == "" {
			return audit.Event{}, noUse()
		}
		return g.end(ctx, tx, &u)
	})
	if err != nil {
		return wrapped("OperatorEnd", err)
	}
	return g.recordForPlatform(ctx, by, "operator_ended", &u)
}

// OperatorList is the uses of operators in the organisation of by that are open or not reviewed, the newest first.
func (g *Glass) OperatorList(ctx context.Context, by tenantdb.Caller) (uses []Use, err error) {
	if _, err := operatorName(by); err != nil {
		return nil, err
	}
	err = g.cfg.DB.Read(ctx, by, func(tx *tenantdb.ReadTx) error {
		uses, err = operatorUses(ctx, tx)
		return err
	})
	return uses, wrapped("OperatorList", err)
}

// clear makes room for a new use of whoever opens u: it closes what has expired, and refuses if something is open or waits, or
// if too much was asked for.
func (g *Glass) clear(ctx context.Context, tx *tenantdb.Tx, u *Use) (closing []audit.Event, err error) {
	live, asked, err := readLive(ctx, &tx.ReadTx, u, u.AskedAt.Add(-24*time.Hour))
	if err != nil {
		return nil, err
	}
	for i := range live {
		e, closed, err := g.settle(ctx, tx, &live[i], u.AskedAt)
		switch {
		case err != nil:
			return nil, err
		case !closed:
			return nil, problem.New(problem.Conflict, "The use %s is %s already: end it first.", live[i].ID, live[i].State(u.AskedAt))
		}
		closing = append(closing, e)
	}
	if asked >= mostAsked {
		p := problem.New(problem.TooMany, "There were %d uses in a day, and that is the most.", mostAsked)
		p.RetryAfter = time.Hour
		return nil, p
	}
	return closing, nil
}
