package apikey

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Leak says where a key was seen.
type Leak struct {
	Where   string // for people: "in the address of a request"
	Via     string // how we know, a word: request, github
	URL     string // where it can be seen; may be empty
	Request audit.RequestID
	Revoke  bool // the whole world has it: it ends now
}

// toldAgain is how long after a key's mark its next leak is in the log alone, if the key does not end by it: whoever has a key, or
// had one, could else fill its owner's mailbox.
const toldAgain = 24 * time.Hour

// Leaked notes that a key was seen where no key may be, ends it if the leak is such, and tells its organisation: the entry, the
// mark and the mail's place in the queue are one commit. Of leaks that end nothing, it is told once a day. What came from the key
// goes on working, and entry and mail say how many: an alert must not be able to end all customers' keys. c is nobody, of the
// key's organisation.
func (r *Room) Leaked(ctx context.Context, c tenantdb.Caller, id string, l Leak) error {
	if err := r.cfg.Ring.Prepare(ctx, c.Tenant(), audit.SubjectID{}); err != nil {
		return fmt.Errorf("apikey.Leaked: %w", err)
	}
	err := r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		k, err := load(ctx, &tx.ReadTx, id)
		if err != nil {
			return audit.Event{}, err
		}
		ends := l.Revoke && k.RevokedAt.IsZero()
		if l.Revoke && !ends && !k.LeakedAt.IsZero() {
			return audit.Event{}, nil // said before: it is all done, and its owner knows
		}
		at := r.instant()
		told := !ends && k.LeakedAt.After(k.CreatedAt) && at.Sub(k.LeakedAt) < toldAgain // a mark from before it was made is its predecessor's
		if ends {
			k.RevokedAt = at
		}
		var left int
		if err := ofLine(ctx, tx, lineLeftSQL, k, at, MostLeft, &left); err != nil {
			return audit.Event{}, err
		}
		ev := leakEvent(c, k, l, left)
		if ev.Alters = ends; told {
			return ev, nil
		}
		k.LeakedAt = at
		k.Version++
		if err := update(ctx, tx, k); err != nil {
			return audit.Event{}, err
		}
		about := map[string]string{"key": id, "where": l.Where, "at": at.Format(time.RFC1123), "request": l.Request.String()}
		if left > 0 {
			about["left"] = fmt.Sprint(left)
		}
		return ev, tx.Enqueue(ctx, mail.Job{Tenant: tx.Tenant().String(), Template: mail.KeyLeaked, IDs: about})
	})
	if err != nil {
		return fmt.Errorf("apikey.Leaked: %w", err)
	}
	return nil
}

func leakEvent(c tenantdb.Caller, k Key, l Leak, left int) audit.Event {
	ev := audit.Event{
		Type: "key.leaked", Target: audit.Target{Kind: "key", ID: k.ID}, Outcome: audit.Denied,
		Public: []audit.Field{{Name: "where", Value: l.Via}, {Name: "revoked", Value: fmt.Sprint(!k.RevokedAt.IsZero())}},
	}
	if c.Address().IsValid() {
		ev.Private = append(ev.Private, audit.Field{Name: "address", Value: c.Address().String()})
	}
	if l.URL != "" {
		ev.Private = append(ev.Private, audit.Field{Name: "url", Value: l.URL})
	}
	if left > 0 {
		ev.Public = append(ev.Public, audit.Field{Name: "children_left", Value: fmt.Sprint(left)})
	}
	return ev
}

// heedAll does with each alert what has to be done; one that fails keeps none of the others from it. Unless all were heeded it
// fails: they are sent again.
func (r *Room) heedAll(ctx context.Context, alerts []Alert, request audit.RequestID) ([]Feedback, error) {
	out := make([]Feedback, 0, len(alerts))
	var failed error
	for _, a := range alerts {
		if err := ctx.Err(); err != nil { // nobody waits any more
			return out, unavailable(err)
		}
		ours, err := r.heed(ctx, a, request)
		if err != nil && failed == nil {
			failed = err
		}
		out = append(out, a.feedback(ours))
	}
	return out, failed
}

// heed does with an alert of GitHub's what has to be done, and says whether it is about a key of ours.
func (r *Room) heed(ctx context.Context, a Alert, request audit.RequestID) (ours bool, err error) {
	who, err := r.Identify(ctx, a.Token.Expose())
	if isRefused(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	where := "to a public place"
	if a.URL != "" {
		where += " (" + a.URL + ")"
	}
	c := tenantdb.NewCaller(tenantdb.CallerSpec{Tenant: who.Tenant, Actor: audit.Actor{Kind: audit.ActorNobody}, How: "github", RequestID: request})
	return true, r.Leaked(ctx, c, who.KeyID, Leak{Where: where, Via: "github", URL: a.URL, Request: request, Revoke: true})
}
