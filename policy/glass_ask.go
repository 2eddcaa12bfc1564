package policy

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Asked is what a person asks for.
type Asked struct {
	Reason       string
	Capabilities []string
	Life         time.Duration
}

// Ask asks for capabilities. Whoever must let it does, or not: see Approve, Refuse, Settle and Answer.
func (g *Glass) Ask(ctx context.Context, c tenantdb.Caller, a Asked) (Use, error) {
	p, err := holder(c, "breakglass:write")
	if err == nil {
		err = p.Fresh(g.now())
	}
	if err == nil {
		a.Reason, err = sentence("reason", a.Reason)
	}
	if err != nil {
		return Use{}, err
	}
	now := g.now()
	u := Use{ID: id.At[useKind](now), Person: p.ID, Capabilities: slices.Compact(slices.Sorted(slices.Values(a.Capabilities))), Life: a.Life, AskedAt: now, Reason: a.Reason}
	if u.reason, err = g.seal(ctx, c.Tenant(), &u, "reason", a.Reason); err != nil {
		return Use{}, wrapped("Ask", err)
	}
	err = g.cfg.DB.ChangeAll(ctx, c, func(tx *tenantdb.Tx) ([]audit.Event, error) {
		if err := g.cfg.Rules.StillHolds(ctx, &tx.ReadTx, "breakglass:write"); err != nil {
			return nil, err
		}
		rules, err := g.rules(ctx, &tx.ReadTx)
		if err != nil {
			return nil, err
		}
		if err := u.ask(rules); err != nil {
			return nil, err
		}
		closing, err := g.clear(ctx, tx, &u)
		if err == nil {
			err = insertUse(ctx, tx, &u)
		}
		if err == nil && u.Approval == ByExternal {
			err = g.enqueueHook(ctx, tx, rules, &u)
		}
		if err != nil {
			return nil, err
		}
		e := u.event("asked", u.terms()...)
		e.Private = []audit.Field{{Name: "reason", Value: u.Reason}}
		return append(closing, e), g.tell(ctx, tx, mail.GlassAsked, map[string]string{"use": u.ID.String()})
	})
	if err != nil {
		return Use{}, wrapped("Ask", err)
	}
	return u, nil
}

// ask holds what is asked for against the rules, and says who lets it.
func (u *Use) ask(r GlassRules) error {
	if len(u.Capabilities) == 0 {
		return field("capabilities", "must name one at least")
	}
	for _, c := range u.Capabilities {
		if !slices.Contains(r.Capabilities, c) {
			return problem.New(problem.Denied, "Your organisation's rules do not lend the capability %s.", strings.ToValidUTF8(c[:min(len(c), 64)], ""))
		}
	}
	if u.Life < time.Minute || u.Life > r.MaxLife {
		p := problem.New(problem.Invalid, "A use lasts from 1 to %d minutes in your organisation.", int(r.MaxLife/time.Minute))
		p.Fields = []problem.Field{{Location: "body.minutes", Message: "is outside these"}}
		return p
	}
	u.Approval, u.DueAt = r.Approval, u.AskedAt.Add(patience)
	if r.Approval == ByDelay {
		u.DueAt = u.AskedAt.Add(r.Delay)
	}
	return nil
}

// sentence is a text of a person's, of 10 to 1000 characters.
func sentence(name, text string) (string, error) {
	text = strings.TrimSpace(text)
	if n := utf8.RuneCountInString(text); !utf8.ValidString(text) || strings.ContainsRune(text, 0) || n < 10 || n > 1000 {
		return "", field(name, "must have 10 to 1000 characters")
	}
	return text, nil
}

func field(name, says string) error {
	p := problem.New(problem.Invalid, "The request does not fit its description. See `errors`.")
	p.Fields = []problem.Field{{Location: "body." + name, Message: says}}
	return p
}
