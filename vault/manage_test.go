package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/fetch"
	"github.com/avouch-dev/avouch/vault/portable"
)

// operations are all that can be done with an item and a request for it, by their names.
func operations(h *house) map[string]func(context.Context, tenantdb.Caller, ID, RequestID) error {
	return map[string]func(context.Context, tenantdb.Caller, ID, RequestID) error{
		"get": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error {
			_, err := h.Get(ctx, c, i)
			return err
		},
		"list": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error {
			all, err := h.List(ctx, c, Filter{}, ID{}, 1000)
			for _, s := range all {
				if s.ID == i {
					return err
				}
			}
			if err == nil {
				err = noItem()
			}
			return err
		},
		"code": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error {
			_, err := h.Code(ctx, c, i, "")
			return err
		},
		"add": func(ctx context.Context, c tenantdb.Caller, _ ID, _ RequestID) error {
			_, err := h.Add(ctx, c, seedOf(TOTP))
			return err
		},
		"import": func(ctx context.Context, c tenantdb.Caller, _ ID, _ RequestID) error {
			_, err := h.Import(ctx, c, Import{Data: []byte("otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP"), DryRun: true})
			return err
		},
		"change": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error {
			_, err := h.Update(ctx, c, i, "", Change{About: func(a *About) { a.Notes = "changed" }})
			return err
		},
		"replace": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error {
			_, err := h.Replace(ctx, c, i, "", content{Key: []byte(audit.NewSubjectID().String()), Algorithm: "SHA1", Digits: 6, Period: 30}, 0)
			return err
		},
		"grant": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error {
			_, err := h.Grant(ctx, c, i, Actor{APerson, h.rules.owners[1].String()}, ForCode, nil)
			return err
		},
		"grants": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error {
			_, err := h.Grants(ctx, c, i)
			return err
		},
		"uses": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error {
			_, err := h.Uses(ctx, c, i, time.Time{}, 0, 10)
			return err
		},
		"request": func(ctx context.Context, c tenantdb.Caller, _ ID, q RequestID) error {
			_, err := h.Request(ctx, c, q)
			return err
		},
		"decide": func(ctx context.Context, c tenantdb.Caller, _ ID, q RequestID) error {
			_, err := h.Decide(ctx, c, q, true)
			return err
		},
		"report": func(ctx context.Context, c tenantdb.Caller, _ ID, _ RequestID) error {
			_, err := h.Left(ctx, c, h.rules.owners[1])
			return err
		},
		"export": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error {
			_, _, err := h.Export(ctx, c, Export{[]ID{i}, portable.FormatURI, portable.Protection{Clear: true}, "r"})
			return err
		},
		"delete": func(ctx context.Context, c tenantdb.Caller, i ID, _ RequestID) error { return h.Delete(ctx, c, i, "") },
	}
}

// TestWhoMay is a table of every operation by every sort of caller, on an item that somebody else made or that they made.
func TestWhoMay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	use := []string{"vault:read", "vault:code"}
	write := append([]string{"vault:write"}, use...)
	all := "get list code add import change replace grant grants uses request decide report export delete"
	for says, c := range map[string]struct {
		caps []string
		to   func(i ID, p *someone)
		made bool
		may  string
	}{
		"nobody":                         {nil, nil, false, ""},
		"a member to whom it is nothing": {use, nil, false, ""},
		"one who writes others":          {write, nil, false, "add import"},
		"one with codes":                 {use, func(i ID, p *someone) { h.grant(t, i, p.actor(), ForCode) }, false, "get list code"},
		"one with the seed":              {use, func(i ID, p *someone) { h.grant(t, i, p.actor(), ForSeed) }, false, "get list code export"},
		"one to whom it is lent":         {use, func(i ID, p *someone) { h.lend(t, p.caller(), i, ForCode, time.Hour) }, false, "get list code"},
		"one who writes, with the seed":  {write, func(i ID, p *someone) { h.grant(t, i, p.actor(), ForSeed) }, false, "get list code add import export"},
		"one who sees what is listed": {use, func(i ID, _ *someone) {
			yes := true
			_, err := h.Update(ctx, h.boss, i, "", Change{Listed: &yes})
			must(t, err)
		}, false, "get list"},
		"an auditor":                      {[]string{"audit:read"}, nil, false, "uses"},
		"who made it":                     {write, nil, true, "get list code add import change replace grant grants uses request decide delete"},
		"who made it and lost the right":  {use, nil, true, "get list code"},
		"who made it and may read only":   {[]string{"vault:read"}, nil, true, "get list"},
		"who decides about all":           {[]string{"vault:read", "vault:manage"}, nil, false, "get list change replace grant grants uses request decide report delete"},
		"who may everything but the seed": {append([]string{"vault:manage"}, write...), nil, true, strings.Replace(all, " export", "", 1)},
	} {
		for name, do := range operations(h) {
			p := h.person(t, write...)
			maker := h.boss
			if c.made {
				maker = p.caller()
			}
			i, err := h.Add(ctx, maker, seedOf(TOTP))
			must(t, err)
			q, err := h.Ask(ctx, h.member(t).caller(), i.ID, ForCode, "r", time.Hour)
			must(t, err)
			if c.to != nil {
				c.to(i.ID, p)
			}
			p.caps = c.caps
			may := strings.Contains(" "+c.may+" ", " "+name+" ")
			err = do(ctx, p.caller(), i.ID, q.ID)
			if (err == nil) != may {
				t.Errorf("%s, %s: %v", says, name, err)
			}
			if err != nil && !problem.Is(err, problem.Denied) && !problem.Is(err, problem.Missing) {
				t.Errorf("%s, %s is refused as %v", says, name, err)
			}
			if knows := strings.Contains(" "+c.may, " get"); err != nil && (name == "grants" || name == "uses") && slices.Contains(c.caps, "vault:read") && problem.Is(err, problem.Denied) != knows {
				t.Errorf("%s, who may know of it: %v, %s is refused as %v", says, knows, name, err)
			}
		}
	}
}

// TestLostSinceTheRequest: who lost a capability since their request came changes nothing and takes nothing.
func TestLostSinceTheRequest(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i := h.put(t, seedOf(HOTP))
	q, err := h.Ask(t.Context(), h.member(t).caller(), i.ID, ForCode, "r", time.Hour)
	must(t, err)
	c := h.fresh()
	h.rules.set(func(b *rulebook) { b.lost = append(b.lost, c.Actor().ID) })
	before := len(h.Entries(t, h.acme))
	for _, name := range []string{"code", "add", "change", "grant", "decide", "delete"} {
		if err := operations(h)[name](t.Context(), c, i.ID, q.ID); !problem.Is(err, problem.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(h.Entries(t, h.acme)); n != before {
		t.Errorf("%d entries more", n-before)
	}
}

// TestNothingIsOpenedForOthers: who does not decide about an item learns nothing of its secret by what a change would be refused for.
func TestNothingIsOpenedForOthers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	n := seedOf(Secret)
	n.content.Text = []byte("short")
	i := h.put(t, n)
	p := Policy{Fetch: &fetch.Policy{Hosts: []string{"api.example.com"}, Header: "Authorization", Value: "{secret}"}}
	_, err := h.Update(t.Context(), h.boss, i.ID, "", Change{Policy: &p})
	refused(t, "who decides", err, problem.Invalid, "can be kept")
	_, err = h.Update(t.Context(), h.member(t).caller(), i.ID, "", Change{Policy: &p})
	refused(t, "another", err, problem.Denied, "Who made the item decides about it")
	_, err = h.Resync(t.Context(), h.member(t).caller(), i.ID, []string{"1", "2"}, nil)
	refused(t, "another", err, problem.Denied, "Who made the item decides about it")
}

// TestNobodyGrantsToThemselves: not to their person, their group or a key of theirs, nor a key of theirs to them; and not a higher level,
// or a longer time in its place; nor in two steps, to a group into which they go then. A key of nobody may be any owner's. An organisation's
// only owner does, and the log says so.
func TestNobodyGrantsToThemselves(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	decides := []string{"vault:read", "vault:code", "vault:manage"}
	p, owner := h.person(t, decides...), h.person(t, decides...)
	h.rules.set(func(b *rulebook) { b.owners = append(b.owners, owner.id) })
	key, second := h.key(t, p, decides...), h.key(t, p, decides...)
	nobodys, another := h.key(t, nil, decides...), h.key(t, nil, decides...)
	ours := h.group(t, p, h.member(t))
	theirs := h.group(t, h.member(t))
	to := func(c tenantdb.Caller) Actor { return actorOf(c.Actor()) }
	for says, c := range map[string]struct {
		by    tenantdb.Caller
		to    Actor
		level Level
	}{
		"to themselves": {p.caller(), p.actor(), ForCode}, "the seed": {p.caller(), p.actor(), ForSeed}, "to a group of theirs": {p.caller(), ours, ForCode},
		"to a key of theirs": {p.caller(), to(key), ForCode}, "a key to its person": {key, p.actor(), ForCode}, "a key to its person's group": {key, ours, ForCode},
		"a key to itself": {key, to(key), ForCode}, "a key to another of the same person": {key, to(second), ForCode}, "a key of nobody to itself": {nobodys, to(nobodys), ForCode},
		"a key of nobody to an owner": {nobodys, owner.actor(), ForCode}, "a key of nobody to a group of an owner": {nobodys, h.group(t, owner), ForCode},
		"a key of nobody to a key of an owner": {nobodys, to(h.key(t, owner, decides...)), ForCode}, "a key of nobody to another": {nobodys, to(another), ForCode},
		"an owner to a key of nobody": {owner.caller(), to(nobodys), ForCode}, "a key of an owner to a key of nobody": {h.key(t, owner, decides...), to(nobodys), ForCode},
	} {
		i := h.put(t, seedOf(TOTP)).ID
		_, err := h.Grant(ctx, c.by, i, c.to, c.level, nil)
		refused(t, says, err, problem.Denied, "Nobody grants an item to themselves: have somebody else do it who decides about the item.")
		if h.Last(t, h.acme).Type == "vault.granted" {
			t.Errorf("%s is in the log", says)
		}
	}
	i := h.put(t, seedOf(TOTP)).ID
	for says, by := range map[string]tenantdb.Caller{"a key": key, "a key of nobody": nobodys} {
		_, err := h.Grant(ctx, by, i, h.member(t).actor(), ForSeed, nil)
		refused(t, says+" grants a seed", err, problem.Denied, "Only a person who is signed in")
	}
	p.proved = tenantdb.FreshProof + time.Second
	_, err := h.Grant(ctx, p.caller(), i, h.member(t).actor(), ForSeed, nil)
	refused(t, "a seed on an old proof", err, problem.Denied, "Prove yourself again")
	p.proved = 0
	_, err = h.Grant(ctx, p.caller(), i, theirs, ForSeed, nil)
	must(t, err)
	h.twoSteps(t, p, owner, nobodys)
	h.grant(t, i, p.actor(), ForCode)
	_, err = h.Grant(ctx, p.caller(), i, p.actor(), ForSeed, nil)
	refused(t, "more than they have", err, problem.Denied, "Nobody grants")
	soon, brief := h.clock.at().Add(time.Minute), h.put(t, seedOf(TOTP)).ID
	_, err = h.Grant(ctx, h.boss, brief, p.actor(), ForCode, &soon)
	must(t, err)
	_, err = h.Grant(ctx, p.caller(), brief, to(key), ForCode, nil)
	refused(t, "a key of theirs for longer than they have", err, problem.Denied, "Nobody grants")
	_, err = h.Grant(ctx, p.caller(), brief, p.actor(), ForCode, nil)
	refused(t, "for longer than they have", err, problem.Denied, "Nobody grants")
	h.noHeirs(t, p, key)
	ended := h.put(t, seedOf(TOTP)).ID
	h.grant(t, ended, to(second), ForCode)
	h.set(t, `UPDATE avouch.api_key SET revoked_at = now() WHERE tenant_id = $1 AND key_id = $2`, h.acme, to(second).ID)
	_, err = h.Grant(ctx, p.caller(), ended, p.actor(), ForCode, nil)
	refused(t, "what an ended key of theirs had", err, problem.Denied, "Nobody grants")

	h.rules.set(func(b *rulebook) { b.owners = []tenantdb.PersonID{p.id} })
	_, err = h.Grant(ctx, key, brief, p.actor(), ForCode, nil)
	refused(t, "a key of the only owner", err, problem.Denied, "Nobody grants")
	_, err = h.Grant(ctx, p.caller(), i, p.actor(), ForSeed, nil)
	must(t, err)
	if e := h.Last(t, h.acme); e.Type != "vault.granted" || e.Field("alone") != "true" || e.Field("replaces") == "" {
		t.Errorf("the log says %s", e.Body)
	}
	_, err = h.Grant(ctx, p.caller(), i, h.member(t).actor(), ForSeed, nil)
	must(t, err)
	if e := h.Last(t, h.acme); e.Field("alone") != "" {
		t.Errorf("a grant to another is marked: %s", e.Body)
	}
	if alone, err := h.joins(t, p.caller(), theirs, p); err != nil || !alone {
		t.Errorf("the only owner joins: %v, %v", alone, err)
	}
}

// noHeirs: what somebody has by a group, or by a key, is not granted to them, nor what they have to a key of theirs: taken away, it is gone.
// What is shorter is theirs to make so.
func (h *house) noHeirs(t testing.TB, p *someone, key tenantdb.Caller) {
	t.Helper()
	ctx, i := t.Context(), h.put(t, seedOf(TOTP)).ID
	ours, its := h.group(t, p), actorOf(key.Actor())
	soon := h.clock.at().Add(time.Minute)
	for says, c := range map[string]struct {
		has, to Actor
		level   Level
	}{
		"what a group has": {ours, p.actor(), ForSeed}, "what a group has to a key": {ours, its, ForCode}, "what they have to a key": {p.actor(), its, ForCode}, "what they have to a group": {p.actor(), ours, ForCode},
		"what a key has": {its, p.actor(), ForCode},
	} {
		g := h.grant(t, i, c.has, c.level)
		for _, until := range []*time.Time{nil, &soon} {
			_, err := h.Grant(ctx, p.caller(), i, c.to, c.level, until)
			refused(t, says, err, problem.Denied, "Nobody grants")
		}
		_, err := h.Revoke(ctx, h.boss, i, g.ID)
		must(t, err)
		for what, by := range map[string]tenantdb.Caller{"they": p.caller(), "their key": key} {
			_, err := h.Code(ctx, by, i, "")
			refused(t, says+", then "+what, err, problem.Denied, "has not been granted")
		}
	}
	other := seedOf(TOTP).content
	other.Key = []byte("another twenty bytes")
	_, err := h.Replace(ctx, p.caller(), i, "", other, 0)
	must(t, err)
	_, err = h.Grant(ctx, p.caller(), i, its, ForCode, nil)
	refused(t, "what they put in, and may not use", err, problem.Denied, "Nobody grants")
	mine := h.grant(t, i, p.actor(), ForSeed)
	_, err = h.Grant(ctx, p.caller(), i, its, ForSeed, nil)
	if err == nil {
		t.Error("a key has a seed")
	}
	_, err = h.Grant(ctx, p.caller(), i, its, ForCode, nil)
	must(t, err)
	_, err = h.Revoke(ctx, h.boss, i, mine.ID)
	must(t, err)
	h.grant(t, i, p.actor(), ForSeed)
	_, err = h.Grant(ctx, p.caller(), i, p.actor(), ForCode, &soon)
	must(t, err)
	_, err = h.Grant(ctx, p.caller(), i, p.actor(), ForCode, nil)
	refused(t, "what was longer before", err, problem.Denied, "Nobody grants")
}

// joins asks whether somebody may be put into a group, as the room of organisations does.
func (h *house) joins(t testing.TB, by tenantdb.Caller, group Actor, p *someone) (alone bool, err error) {
	t.Helper()
	bad := h.DB.Read(t.Context(), by, func(tx *tenantdb.ReadTx) error {
		alone, err = h.Joins(t.Context(), tx, group.ID, p.id)
		return nil
	})
	must(t, bad)
	return alone, err
}

// twoSteps: to a group to which items are granted nobody adds themselves, by a key either; while that lasts.
func (h *house) twoSteps(t testing.TB, p, owner *someone, nobodys tenantdb.Caller) {
	t.Helper()
	ctx, empty, i, j := t.Context(), h.group(t), h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(TOTP)).ID
	if _, err := h.joins(t, p.caller(), empty, p); err != nil {
		t.Errorf("into a group that has nothing: %v", err)
	}
	soon := h.clock.at().Add(time.Minute)
	g, err := h.Grant(ctx, p.caller(), i, empty, ForSeed, nil)
	must(t, err)
	_, err = h.Grant(ctx, p.caller(), j, empty, ForCode, &soon)
	must(t, err)
	for says, c := range map[string]struct {
		by  tenantdb.Caller
		who *someone
	}{"themselves": {p.caller(), p}, "a key of theirs": {h.key(t, p, "vault:read"), p}, "a key of nobody an owner": {nobodys, owner}} {
		_, err := h.joins(t, c.by, empty, c.who)
		refused(t, says, err, problem.Denied, "nobody grants to themselves: have somebody else put you in")
	}
	for says, c := range map[string]struct {
		by  tenantdb.Caller
		who *someone
	}{"somebody else": {p.caller(), owner}, "a key of somebody else": {h.key(t, owner, "vault:read"), p}, "a key of nobody a member": {nobodys, p}} {
		if alone, err := h.joins(t, c.by, empty, c.who); err != nil || alone {
			t.Errorf("%s: %v, %v", says, alone, err)
		}
	}
	_, err = h.Revoke(ctx, p.caller(), i, g.ID)
	must(t, err)
	_, err = h.joins(t, p.caller(), empty, p)
	refused(t, "what is granted for a minute", err, problem.Denied, "have somebody else put you in")
	h.clock.pass(time.Minute)
	if _, err := h.joins(t, p.caller(), empty, p); err != nil {
		t.Errorf("when nothing is granted any more: %v", err)
	}
}

// TestGrants: to whom, of which level, until when; one of each in force.
func TestGrants(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	i := h.put(t, seedOf(TOTP)).ID
	p, b := h.member(t), h.robot(t, "read:codes")
	key := actorOf(h.key(t, h.member(t), "vault:code").Actor())
	gone := h.clock.at()
	for says, c := range map[string]struct {
		to    Actor
		level Level
		until *time.Time
		kind  problem.Kind
		text  string
	}{
		"an agent and the seed": {b.actor(), ForSeed, nil, problem.Denied, "Only people may have a seed"}, "a key and the seed": {key, ForSeed, nil, problem.Denied, "Only people may have a seed"},
		"no level": {p.actor(), "all", nil, problem.Invalid, "code"}, "until now": {p.actor(), ForCode, &gone, problem.Invalid, "expires_at has passed"},
		"a person who is none": {Actor{APerson, tenantdb.NewTenantID().String()}, ForCode, nil, problem.Missing, "no such person"},
		"an agent as a person": {Actor{APerson, b.id.String()}, ForCode, nil, problem.Missing, "no such person"},
		"a group that is none": {Actor{AGroup, "x'; DROP TABLE avouch.vault_item"}, ForCode, nil, problem.Missing, "no such group"},
	} {
		_, err := h.Grant(ctx, h.boss, i, c.to, c.level, c.until)
		refused(t, says, err, c.kind, c.text)
	}
	for _, to := range []Actor{p.actor(), b.actor(), key, h.group(t)} {
		first, second := h.grant(t, i, to, ForCode), h.grant(t, i, to, ForCode)
		all, err := h.Grants(ctx, h.boss, i)
		must(t, err)
		n := 0
		for _, g := range all {
			if g.To == to {
				n++
			}
		}
		if e := h.Last(t, h.acme); n != 1 || e.Field("replaces") != first.ID.String() {
			t.Errorf("%s has %d grants", to, n)
		}
		_, err = h.Revoke(ctx, h.boss, i, second.ID)
		must(t, err)
		before := len(h.Entries(t, h.acme))
		again, err := h.Revoke(ctx, h.boss, i, second.ID)
		if err != nil || again.EndedAt == nil || len(h.Entries(t, h.acme)) != before {
			t.Errorf("revoked again: %+v, %v", again, err)
		}
	}
	other := h.put(t, seedOf(TOTP)).ID
	_, err := h.Revoke(ctx, h.boss, other, h.grant(t, i, p.actor(), ForCode).ID)
	refused(t, "another item's grant", err, problem.Missing, "no such grant")
	_, err = h.Code(ctx, h.Caller(h.Tenant(t, "Other"), tenantdb.Everything), i, "")
	refused(t, "another organisation", err, problem.Missing, "no such item")
}

// TestItems: what is kept is as it was given, in its bounds; a change names the version that it is of.
func TestItems(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	for says, change := range map[string]func(*Wanted){
		"no name": func(n *Wanted) { n.About.Name = "" }, "a long name": func(n *Wanted) { n.About.Name = strings.Repeat("é", 201) }, "a name of two lines": func(n *Wanted) { n.About.Name = "a\nb" },
		"a name that turns around": func(n *Wanted) { n.About.Name = "a\u202eb" }, "many tags": func(n *Wanted) {
			for k := range 21 {
				n.About.Tags = append(n.About.Tags, fmt.Sprint(k))
			}
		},
		"no seed": func(n *Wanted) { n.content.Key = nil }, "a long seed": func(n *Wanted) { n.content.Key = make([]byte, 513) }, "11 digits": func(n *Wanted) { n.content.Digits = 11 },
		"5 digits": func(n *Wanted) { n.content.Digits = 5 }, "no period": func(n *Wanted) { n.content.Period = 0 }, "MD5": func(n *Wanted) { n.content.Algorithm = "MD5" },
		"a counter": func(n *Wanted) { n.Counter = 1 }, "no kind": func(n *Wanted) { n.Kind = "note" },
	} {
		n := seedOf(TOTP)
		change(&n)
		_, err := h.Add(ctx, h.boss, n)
		refused(t, says, err, problem.Invalid, "not one that can be kept")
	}
	n := seedOf(TOTP)
	n.About.Tags, n.About.Folder = []string{"root", "aws", "root"}, "/cloud/aws/"
	i := h.put(t, n)
	got, err := h.Get(ctx, h.boss, i.ID)
	must(t, err)
	if a := got.About; fmt.Sprint(a.Tags) != "[aws root]" || a.Folder != "cloud/aws" || got.Level != ForCode || !got.Manages || got.Version != 1 {
		t.Errorf("%+v", got)
	}
	_, err = h.Update(ctx, h.boss, i.ID, `"2"`, Change{About: func(a *About) { a.Name = "Other" }})
	if err == nil {
		t.Error("a change of another version was made")
	}
	anew, err := h.Update(ctx, h.boss, i.ID, `"1"`, Change{About: func(a *About) { a.Name = "Other" }})
	must(t, err)
	if e := h.Last(t, h.acme); anew.Version != 2 || e.Private["name"] != "Other" || e.Field("version") != "2" || strings.Contains(string(e.Body), "Other") {
		t.Errorf("%+v: %s", anew, e.Body)
	}
	if err := h.Delete(ctx, h.boss, i.ID, `"1"`); err == nil {
		t.Error("an older version was deleted")
	}
	must(t, h.Delete(ctx, h.boss, i.ID, `"2"`))
	if n := h.Text(t, `SELECT (SELECT count(*) FROM avouch.vault_item)::text || (SELECT count(*) FROM avouch.vault_grant)::text`); n != "00" {
		t.Errorf("%s are left of it", n)
	}
}

// TestList: by name, page by page, filtered, and what nobody may know of is not there.
func TestList(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	for _, c := range [][3]string{{"delta", "cloud", "x"}, {"Alpha", "cloud/aws", "x"}, {"bravo", "cloudy", "y"}, {"Charlie", "", "y"}} {
		n := seedOf(TOTP)
		n.About = About{Name: c[0], Folder: c[1], Tags: []string{c[2]}, Account: "of " + c[0]}
		h.put(t, n)
	}
	h.put(t, seedOf(Secret))
	for want, f := range map[string]Filter{
		"Alpha bravo Charlie delta Token": {}, "Alpha delta": {Folder: "cloud"}, "bravo Charlie": {Tag: "y"}, "Token": {Kind: Secret}, "Charlie": {Text: "OF CHAR"}, "": {Text: "nothing"},
	} {
		var got []string
		for after := (ID{}); ; {
			page, err := h.List(ctx, h.boss, f, after, 2)
			must(t, err)
			for _, s := range page {
				got = append(got, s.About.Name)
			}
			if len(page) < 2 {
				break
			}
			after = page[1].ID
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%+v lists %v, want %s", f, got, want)
		}
	}
	if all, err := h.List(ctx, h.member(t).caller(), Filter{}, ID{}, 100); err != nil || len(all) != 0 {
		t.Errorf("a member sees %v, %v", all, err)
	}
	_, err := h.List(ctx, h.boss, Filter{}, ID(tenantdb.NewTenantID()), 10)
	refused(t, "behind what is gone", err, problem.Conflict, "Begin anew")
}
