package vault

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/fetch"
)

// A policy holds those back who may use an item. So none of them takes it away, and who sends the secret elsewhere than it goes now could
// as well export it.

// looser reports whether a policy allows a use that another does not. What cannot be compared is looser. Where a secret goes is for
// redirects to say.
func (p *Policy) looser(than *Policy) bool {
	strict := map[Uses]int{OnceEach: 1, Once: 2}
	switch {
	case than.Approval && !p.Approval, strict[p.Uses] < strict[than.Uses]:
		return true
	case than.Hours != nil && (p.Hours == nil || !p.Hours.within(than.Hours)):
		return true
	case len(than.CIDRs) == 0:
		return false
	}
	return len(p.CIDRs) == 0 || slices.ContainsFunc(p.CIDRs, func(c netip.Prefix) bool {
		return !slices.ContainsFunc(than.CIDRs, func(o netip.Prefix) bool { return o.Bits() <= c.Bits() && o.Contains(c.Addr()) })
	})
}

// within reports whether hours hold at no minute of the week at which others do not.
func (h *Hours) within(other *Hours) bool {
	if h.Zone != other.Zone {
		return false
	}
	week := time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC) // a Monday
	for m := range 7 * 24 * 60 {
		if at := week.Add(time.Duration(m) * time.Minute); h.on(at) && !other.on(at) {
			return false
		}
	}
	return true
}

// redirects reports whether a policy sends a secret anywhere, or in any way, that another does not. What is neither fewer hosts, methods
// or paths, nor the same, is another way: also what this does not know of.
func redirects(to, from *fetch.Policy) bool {
	if to == nil {
		return false
	}
	if from == nil {
		return true
	}
	narrow := *to
	if within(to.Hosts, from.Hosts, nil, func(a, b string) bool { return a == b }) {
		narrow.Hosts = from.Hosts
	}
	if within(to.Methods, from.Methods, []string{http.MethodGet, http.MethodHead}, func(a, b string) bool { return a == b }) {
		narrow.Methods = from.Methods
	}
	below := func(a, b string) bool {
		a, b = strings.TrimRight(a, "/"), strings.TrimRight(b, "/")
		return a == b || strings.HasPrefix(a, b+"/")
	}
	if within(to.Paths, from.Paths, []string{"/"}, below) {
		narrow.Paths = from.Paths
	}
	narrow.Cookies = narrow.Cookies || from.Cookies
	return !reflect.DeepEqual(narrow, *from)
}

// within reports whether each of all is in one of others; none of either are those that stand for none.
func within(all, others, none []string, in func(a, b string) bool) bool {
	if len(all) == 0 {
		all = none
	}
	if len(others) == 0 {
		others = none
	}
	return !slices.ContainsFunc(all, func(a string) bool { return !slices.ContainsFunc(others, func(b string) bool { return in(a, b) }) })
}

// mayLoosen refuses a looser policy from whoever may use the item: to them it would be a grant.
func (r *Room) mayLoosen(ctx context.Context, tx *tenantdb.ReadTx, i *Item) (alone bool, err error) {
	now, users := r.now(), []Actor{}
	grants, err := readGrants(ctx, tx, i.ID)
	if err != nil {
		return false, err
	}
	lent, err := readLent(ctx, tx, i.ID)
	if err != nil {
		return false, err
	}
	for k := range grants {
		if grants[k].live(now) {
			users = append(users, grants[k].To)
		}
	}
	for k := range lent {
		if lent[k].lends(now) {
			users = append(users, lent[k].By)
		}
	}
	asker := actorOf(tx.Caller().Actor())
	me, err := r.self(ctx, tx, asker, users)
	if err != nil || !slices.ContainsFunc(users, me.is) {
		return false, err
	}
	return r.alone(ctx, tx, "You may use this item, and nobody loosens for themselves what narrows that: have somebody else do it who decides about the item, or end what was granted to you first.")
}

// putIn is who put in the secret that an item has now. The log says it, which says what is true of the item.
func putIn(ctx context.Context, tx *tenantdb.ReadTx, i *Item) (by Actor, err error) {
	version := fmt.Sprint(i.secretVersion)
	err = changesOf(ctx, tx, i.ID, func(l last) bool { // the last of a version is the one that made it
		if l.says("secret_version") != version {
			return false
		}
		by = actorOf(l.entry.Actor)
		return true
	})
	return by, err
}

// saidWhere is who said last where an item's secret is sent: all of it, also what was there before. Who left out some of it said nothing.
func saidWhere(ctx context.Context, tx *tenantdb.ReadTx, i *Item) (by Actor, err error) {
	err = changesOf(ctx, tx, i.ID, func(l last) bool {
		is := l.entry.Type == redirected || l.entry.Type == added
		if is {
			by = actorOf(l.entry.Actor)
		}
		return !is
	})
	return by, err
}

// changesOf goes through the entries about an item, the newest first, as long as its reader goes on.
func changesOf(ctx context.Context, tx *tenantdb.ReadTx, item ID, goOn func(last) bool) error {
	for before := int64(0); ; {
		rows, err := readUses(ctx, tx, item, time.Time{}, before, readChunk)
		if err != nil {
			return err
		}
		for _, v := range rows {
			before = v.seq
			e, err := audit.Decode(v.body)
			if err != nil {
				return altered()
			}
			if !goOn(last{v.seq, e}) {
				return nil
			}
		}
		if len(rows) < readChunk {
			return nil
		}
	}
}

// sentOn takes from an item's policy where its secret is sent, for another secret that is put in its place, unless who puts that in has said
// it: somebody who pointed it elsewhere, with a secret of their own or while they could export it, would have the next one too.
func (r *Room) sentOn(ctx context.Context, tx *tenantdb.ReadTx, i *Item) (did, error) {
	d := did{typ: replaced}
	if i.Policy.Fetch == nil {
		return d, nil
	}
	by, err := saidWhere(ctx, tx, i)
	if err != nil {
		return d, err
	}
	me, err := r.self(ctx, tx, actorOf(tx.Caller().Actor()), []Actor{by})
	if err == nil && !me[by] {
		d.public, d.private = append(d.public, field("fetch", "ended")), append(d.private, field("hosts", strings.Join(i.Policy.Fetch.Hosts, " ")))
		i.Policy.Fetch = nil
	}
	return d, err
}

// mayRedirect refuses a policy that sends the secret elsewhere from whoever could not have it otherwise: who put it in does it, and who
// could export it now. A person proves themselves for it; a key, or an agent, never does it with what it did not put in.
func (r *Room) mayRedirect(ctx context.Context, tx *tenantdb.ReadTx, i *Item) error {
	c := tx.Caller()
	asker := actorOf(c.Actor())
	by, err := putIn(ctx, tx, i)
	if err != nil {
		return err
	}
	if asker.Kind != APerson {
		if by == asker {
			return nil
		}
		return problem.New(problem.Denied, "Where a secret is sent is changed by a person, or by the key that put the secret in.")
	}
	if _, err := r.proved(c); err != nil {
		return err
	}
	me, err := r.self(ctx, tx, asker, []Actor{by})
	if err != nil || me[by] {
		return err
	}
	f := &facts{now: r.now(), asker: asker, address: c.Address(), item: i}
	if err := f.anew(ctx, tx); err != nil {
		return err
	}
	if bad := judge(f, ForSeed); bad != nil {
		return problem.New(problem.Denied, "Whoever decides where this secret is sent can have it: that takes who put it in, or who may export it now (the level seed). Put in another one, or have it granted.").Because(bad)
	}
	return nil
}

// revised judges another policy of an item, in the transaction that puts it in the place of the one before, and says what the log does.
func (r *Room) revised(ctx context.Context, tx *tenantdb.Tx, i *Item, to *Policy) (did, error) {
	d := did{typ: changed}
	if to.looser(&i.Policy) {
		alone, err := r.mayLoosen(ctx, &tx.ReadTx, i)
		if err != nil {
			return d, err
		}
		d.public = append(d.public, field("loosened", "true"))
		if alone {
			d.public = append(d.public, field("alone", "true"))
		}
	}
	if !redirects(to.Fetch, i.Policy.Fetch) {
		return d, nil
	}
	if err := r.mayRedirect(ctx, &tx.ReadTx, i); err != nil {
		return d, err
	}
	d.typ = redirected
	d.private = append(d.private, field("hosts", strings.Join(to.Fetch.Hosts, " ")))
	ids := map[string]string{"by": actorOf(tx.Caller().Actor()).String(), "item": i.ID.String(), "at": r.now().Format(time.RFC3339)}
	return d, r.tellOwners(ctx, tx, mail.VaultRedirected, ids)
}

// did is what the log says of a change of an item, beside the item.
type did struct {
	typ             string // "" is no change
	public, private []audit.Field
}

// The entries of an item's change.
const (
	changed    = "vault.item_changed"
	redirected = "vault.secret_redirected"
)
