package vault

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/fetch"
)

func nets(all ...string) (out []netip.Prefix) {
	for _, c := range all {
		out = append(out, netip.MustParsePrefix(c))
	}
	return out
}

// TestLooser holds what counts as looser, each way, to a table.
func TestLooser(t *testing.T) {
	t.Parallel()
	at := func(from, to string, days ...int) Policy {
		return Policy{Hours: &Hours{Days: days, From: from, To: to, Zone: "Europe/Berlin"}}
	}
	utc := Policy{Hours: &Hours{From: "08:00", To: "18:00", Zone: "UTC"}}
	for says, c := range map[string]struct {
		a, b           Policy
		aLooser, bMore bool // than the other
	}{
		"nothing":            {Policy{}, Policy{}, false, false},
		"approval":           {Policy{}, Policy{Approval: true}, true, false},
		"hours":              {Policy{}, at("08:00", "18:00"), true, false},
		"shorter hours":      {at("08:00", "18:00"), at("09:00", "17:59"), true, false},
		"the same hours":     {at("08:00", "18:00"), at("08:00", "18:00", 1, 2, 3, 4, 5, 6, 7), false, false},
		"fewer days":         {at("08:00", "18:00"), at("08:00", "18:00", 1, 5), true, false},
		"other hours":        {at("08:00", "18:00"), at("09:00", "19:00"), true, true},
		"a part of a night":  {at("22:00", "06:00"), at("23:00", "05:00"), true, false},
		"a night of one day": {at("22:00", "06:00"), at("22:00", "06:00", 7), true, false},
		"another zone":       {utc, at("09:00", "17:00"), true, true},
		"a network":          {Policy{}, Policy{CIDRs: nets("10.0.0.0/8")}, true, false},
		"a smaller network":  {Policy{CIDRs: nets("10.0.0.0/8", "2001:db8::/32")}, Policy{CIDRs: nets("10.1.0.0/16")}, true, false},
		"another network":    {Policy{CIDRs: nets("10.0.0.0/8")}, Policy{CIDRs: nets("192.0.2.0/24")}, true, true},
		"the other version":  {Policy{CIDRs: nets("::/0")}, Policy{CIDRs: nets("10.0.0.0/8")}, true, true},
		"once":               {Policy{}, Policy{Uses: Once}, true, false},
		"once each":          {Policy{}, Policy{Uses: OnceEach}, true, false},
		"once and once each": {Policy{Uses: OnceEach}, Policy{Uses: Once}, true, false},
	} {
		if a, b := c.a.looser(&c.b), c.b.looser(&c.a); a != c.aLooser || b != c.bMore {
			t.Errorf("%s: %v, %v", says, a, b)
		}
	}
}

// TestRedirects holds what counts as sending a secret elsewhere to a table: all that is not the same, or less of it.
func TestRedirects(t *testing.T) {
	t.Parallel()
	from := fetch.Policy{Hosts: []string{"a.example", "b.example"}, Methods: []string{"GET", "POST"}, Paths: []string{"/repos/acme"}, Header: "Authorization", Value: "Bearer {secret}"}
	for says, c := range map[string]struct {
		change func(*fetch.Policy)
		is     bool
	}{
		"the same": {func(*fetch.Policy) {}, false}, "a host less": {func(p *fetch.Policy) { p.Hosts = p.Hosts[1:] }, false}, "a host more": {func(p *fetch.Policy) { p.Hosts = []string{"a.example", "b.example", "c.example"} }, true},
		"another port": {func(p *fetch.Policy) { p.Hosts = []string{"a.example:8443"} }, true}, "all below": {func(p *fetch.Policy) { p.Hosts = []string{"*.a.example"} }, true},
		"a method less": {func(p *fetch.Policy) { p.Methods = []string{"GET"} }, false}, "those that stand for none": {func(p *fetch.Policy) { p.Methods = nil }, true},
		"another method": {func(p *fetch.Policy) { p.Methods = []string{"DELETE"} }, true}, "a path below": {func(p *fetch.Policy) { p.Paths = []string{"/repos/acme/site/", "/repos/acme"} }, false},
		"a path beside": {func(p *fetch.Policy) { p.Paths = []string{"/repos/acme2"} }, true}, "a path above": {func(p *fetch.Policy) { p.Paths = []string{"/repos"} }, true}, "every path": {func(p *fetch.Policy) { p.Paths = nil }, true},
		"another header": {func(p *fetch.Policy) { p.Header = "X-Note" }, true}, "another value": {func(p *fetch.Policy) { p.Value = "{secret}" }, true}, "cookies": {func(p *fetch.Policy) { p.Cookies = true }, true},
	} {
		to := from
		c.change(&to)
		if is := redirects(&to, &from); is != c.is {
			t.Errorf("%s: %v", says, is)
		}
	}
	every, cookies := from, from
	every.Paths, every.Methods, cookies.Cookies = nil, nil, true
	if gets := every; redirects(&from, nil) != true || redirects(nil, &from) || redirects(&from, &cookies) || !redirects(&from, &every) {
		t.Errorf("none, nowhere, no cookies, or more methods: %+v", gets)
	}
	all := every
	all.Methods, all.Paths = []string{"HEAD"}, []string{"/"}
	if redirects(&all, &every) {
		t.Error("HEAD alone is elsewhere")
	}
}

// TestNobodyLoosensForThemselves: who may use an item, themselves, by a group, a key or a loan, takes away nothing that narrows that; who
// may not use it does, and makes it tighter whoever wants. An organisation's only owner does, and the log says so.
func TestNobodyLoosensForThemselves(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	tight := Policy{Approval: true, Hours: &Hours{From: "00:00", To: "23:59", Zone: "UTC"}, CIDRs: nets("127.0.0.0/8"), Uses: Once}
	decides := []string{"vault:read", "vault:code", "vault:manage"}
	for says, give := range map[string]func(i ID, p *someone) tenantdb.Caller{
		"granted":  func(i ID, p *someone) tenantdb.Caller { h.grant(t, i, p.actor(), ForCode); return p.caller() },
		"the seed": func(i ID, p *someone) tenantdb.Caller { h.grant(t, i, p.actor(), ForSeed); return p.caller() },
		"a group":  func(i ID, p *someone) tenantdb.Caller { h.grant(t, i, h.group(t, p), ForCode); return p.caller() },
		"their key": func(i ID, p *someone) tenantdb.Caller {
			h.grant(t, i, actorOf(h.key(t, p, decides...).Actor()), ForCode)
			return p.caller()
		},
		"by a key": func(i ID, p *someone) tenantdb.Caller {
			h.grant(t, i, p.actor(), ForCode)
			return h.key(t, p, decides...)
		},
		"lent": func(i ID, p *someone) tenantdb.Caller {
			h.lend(t, p.caller(), i, ForCode, time.Hour)
			return p.caller()
		},
		"an owner, and a key of nobody": func(i ID, p *someone) tenantdb.Caller {
			h.rules.set(func(b *rulebook) { b.owners = append(b.owners, p.id) })
			_, err := h.Grant(ctx, h.guard.caller(), i, actorOf(h.key(t, nil, decides...).Actor()), ForCode, nil) // who is no owner
			must(t, err)
			return p.caller()
		},
	} {
		n := seedOf(TOTP)
		n.Policy = tight
		i, p := h.put(t, n).ID, h.person(t, decides...)
		c := give(i, p)
		for what, loosen := range map[string]func(*Policy){
			"approval": func(p *Policy) { p.Approval = false }, "hours": func(p *Policy) { p.Hours = nil }, "networks": func(p *Policy) { p.CIDRs = nil }, "uses": func(p *Policy) { p.Uses = OnceEach },
		} {
			to := tight
			loosen(&to)
			before := len(h.Entries(t, h.acme))
			_, err := h.Update(ctx, c, i, "", Change{Policy: &to})
			refused(t, says+", "+what, err, problem.Denied, "nobody loosens for themselves")
			if n := len(h.Entries(t, h.acme)); n != before {
				t.Errorf("%s, %s: %d entries", says, what, n-before)
			}
		}
		tighter := tight
		tighter.CIDRs = nets("127.0.0.0/16")
		_, err := h.Update(ctx, c, i, "", Change{Policy: &tighter, About: func(a *About) { a.Notes = "tighter" }})
		must(t, err)
		if e := h.Last(t, h.acme); e.Type != changed || e.Field("loosened") != "" {
			t.Errorf("tighter: %s", e.Body)
		}
		_, err = h.Update(ctx, h.guard.caller(), i, "", Change{Policy: &Policy{}})
		must(t, err)
		if e := h.Last(t, h.acme); e.Type != changed || e.Field("loosened") != "true" || e.Field("alone") != "" {
			t.Errorf("looser: %s", e.Body)
		}
	}
	p := h.person(t, decides...)
	n := seedOf(TOTP)
	n.Policy = tight
	i := h.put(t, n).ID
	g := h.grant(t, i, p.actor(), ForCode)
	h.rules.set(func(b *rulebook) { b.owners = []tenantdb.PersonID{p.id} })
	to := tight
	to.Uses = ""
	_, err := h.Update(ctx, p.caller(), i, "", Change{Policy: &to})
	must(t, err)
	if e := h.Last(t, h.acme); e.Field("loosened") != "true" || e.Field("alone") != "true" {
		t.Errorf("the only owner: %s", e.Body)
	}
	h.rules.set(func(b *rulebook) { b.owners = append(b.owners, h.guard.id) })
	_, err = h.Revoke(ctx, p.caller(), i, g.ID)
	must(t, err)
	_, err = h.Update(ctx, p.caller(), i, "", Change{Policy: &Policy{}})
	must(t, err) // and it is nothing to them any more
	_, err = h.Code(ctx, p.caller(), i, "")
	refused(t, "without the grant", err, problem.Denied, "has not been granted")
}

// TestNobodyRedirects: where a secret is sent changes who put it in, or could export it, proved a moment ago; no other who decides about
// the item, and no key but the one that put it in. It has an entry of its own, and every owner is mailed.
func TestNobodyRedirects(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	loot := ""
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { loot += r.Header.Get("X-Loot") }))
	defer srv.Close()
	decides := []string{"vault:read", "vault:write", "vault:code", "vault:use", "vault:manage"}
	theirs := Policy{Fetch: &fetch.Policy{Hosts: []string{"api.example.com"}, Header: "Authorization", Value: "Bearer {secret}"}}
	mine := Policy{Fetch: &fetch.Policy{Hosts: []string{srv.URL}, Header: "X-Loot", Value: "{secret}"}}
	n := seedOf(Secret)
	n.Policy = theirs
	i := h.put(t, n).ID
	p := h.person(t, decides...)
	h.grant(t, i, p.actor(), ForCode)
	stale := *p
	stale.proved = tenantdb.FreshProof + time.Second
	to := func(c tenantdb.Caller, i ID, p Policy) error {
		_, err := h.Update(ctx, c, i, "", Change{Policy: &p})
		return err
	}
	const whoever = "Whoever decides where this secret is sent can have it"
	refused(t, "who decides about it", to(p.caller(), i, mine), problem.Denied, whoever)
	refused(t, "on an old proof", to(stale.caller(), i, mine), problem.Denied, "Prove yourself again")
	refused(t, "a key of theirs", to(h.key(t, p, decides...), i, mine), problem.Denied, "by a person, or by the key that put the secret in")
	refused(t, "a key of who put it in", to(h.key(t, &someone{h: h, id: h.rules.owners[0]}, decides...), i, mine), problem.Denied, "by a person, or by the key")
	none := h.put(t, seedOf(Secret)).ID
	refused(t, "one that is sent nowhere", to(p.caller(), none, mine), problem.Denied, whoever)
	if _, err := h.Use(ctx, p.caller(), i, fetch.Request{URL: srv.URL}); err == nil || loot != "" {
		t.Errorf("the host has %q, %v", loot, err)
	}
	mails := func() string {
		return h.Text(t, `SELECT count(*)::text FROM avouch_jobs.river_job WHERE args->>'template' = 'vault_redirected'`)
	}
	if h.given(t, redirected) != 0 || mails() != "0" {
		t.Errorf("%s mails of what was refused", mails())
	}
	must(t, to(p.caller(), i, Policy{})) // nowhere
	refused(t, "back to where it was", to(p.caller(), i, theirs), problem.Denied, whoever)

	// Who may export it now.
	h.grant(t, i, p.actor(), ForSeed)
	refused(t, "the seed, on an old proof", to(stale.caller(), i, mine), problem.Denied, "Prove yourself again")
	must(t, to(p.caller(), i, mine))
	if e := h.Last(t, h.acme); e.Type != redirected || !strings.Contains(e.Private["hosts"], srv.URL) || e.Field("digest") == "" || mails() != "2" {
		t.Errorf("%s mails, and the log says %s", mails(), e.Body)
	}
	_, err := h.Use(ctx, p.caller(), i, fetch.Request{URL: srv.URL})
	if err != nil || loot == "" {
		t.Errorf("it is used: %v", err)
	}
	h.policy(t, i, Policy{Approval: true, Fetch: mine.Fetch})
	refused(t, "not approved", to(p.caller(), i, Policy{Approval: true, Fetch: theirs.Fetch}), problem.Denied, whoever)

	// Who put it in, and no longer when another did.
	h.clock.pass(tenantdb.FreshProof + time.Second)
	refused(t, "who put it in, on an old proof", to(h.boss, i, Policy{Approval: true, Fetch: theirs.Fetch}), problem.Denied, "Prove yourself again")
	must(t, to(h.fresh(), i, Policy{Approval: true, Fetch: theirs.Fetch}))
	other := h.person(t, decides...)
	_, err = h.Replace(ctx, other.caller(), i, "", content{Text: []byte("zT9q_Lw3vKx7RmB2nHc5")}, 0)
	must(t, err)
	refused(t, "who put in the one before", to(h.fresh(), i, Policy{Approval: true, Fetch: mine.Fetch}), problem.Denied, whoever)
	must(t, to(other.caller(), i, Policy{Approval: true, Fetch: mine.Fetch}))

	// A key does it with what it put in, and so does its person.
	key := h.key(t, p, decides...)
	k, err := h.Add(ctx, key, seedOf(Secret))
	must(t, err)
	must(t, to(key, k.ID, theirs))
	must(t, to(p.caller(), k.ID, mine))
	refused(t, "another key of theirs", to(h.key(t, p, decides...), k.ID, theirs), problem.Denied, "by a person, or by the key")
	nobodys := h.key(t, nil, decides...)
	k, err = h.Add(ctx, nobodys, seedOf(Secret))
	must(t, err)
	refused(t, "an owner, of what a key of nobody put in", to(h.fresh(), k.ID, theirs), problem.Denied, whoever)
}

// TestNextSecretGoesNowhereElse: who pointed a secret of an item elsewhere, with one that they had put in themselves or could export, does not
// have the next one, which somebody else puts in: it is sent nowhere until that one says it. Who had said it before is not asked again, nor for
// what others made less of since.
func TestNextSecretGoesNowhereElse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	decides := []string{"vault:read", "vault:write", "vault:code", "vault:use", "vault:manage"}
	sends := func(hosts ...string) Policy {
		return Policy{Fetch: &fetch.Policy{Hosts: hosts, Header: "Authorization", Value: "Bearer {secret}"}}
	}
	put := func(c tenantdb.Caller, i ID, text string) Item {
		t.Helper()
		got, err := h.Replace(ctx, c, i, "", content{Text: []byte(text)}, 0)
		must(t, err)
		return got
	}
	point := func(c tenantdb.Caller, i ID, p Policy) {
		t.Helper()
		_, err := h.Update(ctx, c, i, "", Change{Policy: &p})
		must(t, err)
	}
	const junk, token, next = "jU9q_Lw3vKx7RmB2nHc5", "zT9q_Lw3vKx7RmB2nHc5", "aB9q_Lw3vKx7RmB2nHc5"
	mal, bob := h.person(t, decides...), h.person(t, decides...)
	for says, elsewhere := range map[string]func(ID){
		"junk of their own": func(i ID) {
			if got := put(mal.caller(), i, junk); got.Policy.Fetch != nil {
				t.Errorf("their junk is sent to %v", got.Policy.Fetch.Hosts)
			}
			point(mal.caller(), i, sends("api.example.com", "evil.example.com"))
		},
		"who could export it": func(i ID) {
			g := h.grant(t, i, mal.actor(), ForSeed)
			point(mal.caller(), i, sends("api.example.com", "evil.example.com"))
			_, err := h.Revoke(ctx, h.boss, i, g.ID)
			must(t, err)
		},
	} {
		for who, c := range map[string]tenantdb.Caller{"another": bob.caller(), "who made it": h.fresh()} {
			n := seedOf(Secret)
			n.Policy = sends("api.example.com")
			i := h.put(t, n).ID
			elsewhere(i)
			got := put(c, i, token)
			if read, err := h.Get(ctx, h.boss, i); err != nil || got.Policy.Fetch != nil || read.Policy.Fetch != nil {
				t.Errorf("%s, %s: %+v, %v", says, who, got.Policy.Fetch, err)
			}
			_, err := h.Use(ctx, h.boss, i, fetch.Request{URL: "https://evil.example.com/"})
			refused(t, says+", "+who, err, problem.Conflict, "has no fetch")
		}
	}

	n := seedOf(Secret)
	n.Policy = sends("api.example.com", "old.example.com")
	i := h.put(t, n).ID
	key := h.key(t, &someone{h: h, id: h.rules.owners[0]}, decides...)
	for k, c := range []tenantdb.Caller{h.fresh(), key} {
		says := []string{"who said it", "a key of theirs"}[k]
		if got := put(c, i, []string{next, token}[k]); got.Policy.Fetch == nil || h.Last(t, h.acme).Field("fetch") != "" {
			t.Errorf("%s says it again: %+v", says, got.Policy)
		}
	}
	point(mal.caller(), i, sends("api.example.com")) // less of it
	if got := put(h.fresh(), i, next); got.Policy.Fetch == nil || len(got.Policy.Fetch.Hosts) != 1 {
		t.Errorf("less of it: %+v", got.Policy)
	}
	got := put(bob.caller(), i, next)
	if e := h.Last(t, h.acme); e.Type != replaced || got.Policy.Fetch != nil || e.Field("fetch") != "ended" || e.Private["hosts"] != "api.example.com" || strings.Contains(string(e.Body), "api.example.com") {
		t.Errorf("another: %+v, %s", got.Policy, e.Body)
	}
	point(bob.caller(), i, sends("api.example.com"))
	if got := put(bob.caller(), i, token); got.Policy.Fetch == nil {
		t.Error("who said it again is asked again")
	}
	must(t, h.Check(ctx, h.boss))
	if a := h.alarms(t, h.acme); a != "" {
		t.Errorf("a check finds %s", a)
	}
}
