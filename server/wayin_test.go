package server

import (
	"encoding/base32"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// wayIn is an organisation with one owner, who has an authenticator app and no other factor.
type wayIn struct {
	*house
	acme party
	ada  *somebody
}

func newWayIn(t *testing.T) *wayIn {
	t.Helper()
	w := &wayIn{house: newHouse(t, func(c *Config) { c.PublicURL = "http://localhost:8080" })}
	w.acme, w.ada = w.owner(t, "Acme")
	return w
}

func base32Of(key []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
}

// key is the seed of somebody's app.
func (p *somebody) key(t testing.TB) []byte {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(p.seed, " ", ""))
	must(t, err)
	return key
}

// keep puts a seed into the vault.
func (p *somebody) keep(t testing.TB, key []byte) reply {
	t.Helper()
	return p.ask(t, "POST", "/api/v1/vault/items", object{"name": "Avouch", "type": "totp", "secret": base32Of(key)})
}

// items counts what somebody sees of the vault.
func (p *somebody) items(t testing.TB) int {
	t.Helper()
	return len(p.ask(t, "GET", "/api/v1/vault/items", nil).want(t, 200)["items"].([]any))
}

// drop takes an item out of the vault.
func (p *somebody) drop(t testing.TB, item string) {
	t.Helper()
	got := p.ask(t, "GET", "/api/v1/vault/items/"+item, nil)
	got.want(t, 200)
	p.match(t, "DELETE", "/api/v1/vault/items/"+item, got.header.Get("ETag"), nil).want(t, 204)
}

// factors are somebody's, by their kind.
func (p *somebody) factors(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, f := range p.ask(t, "GET", "/api/v1/factors", nil).want(t, 200)["factors"].([]any) {
		out[f.(object)["kind"].(string)] = f.(object)["factor_id"].(string)
	}
	return out
}

func (p *somebody) removes(t testing.TB, kind string) reply {
	t.Helper()
	return p.ask(t, "DELETE", "/api/v1/factors/"+p.factors(t)[kind], nil)
}

// shut holds an answer to a refusal that says what to do.
func (r reply) shut(t testing.TB, what, words string) {
	t.Helper()
	if r.status != http.StatusConflict || !strings.Contains(r.text, words) {
		t.Errorf("%s: status %d, want 409 with %q: %s", what, r.status, words, r.text)
	}
}

const addPasskey = "such as a passkey"

// TestOwnSeedInVault: the only owner keeps the seed by which alone they sign in neither as a new item, nor in an item's place, nor by an
// import, in whatever form; beside a passkey they do, and its code signs in.
func TestOwnSeedInVault(t *testing.T) {
	t.Parallel()
	w := newWayIn(t)
	ada, own := w.ada, w.ada.key(t)
	ada.keep(t, own).shut(t, "one's own seed", addPasskey)
	ada.keep(t, append(ada.key(t), 0, 0)).shut(t, "with zeros behind, which make the same codes", addPasskey)
	for _, uri := range []string{"otpauth://totp/x?digits=8&secret=", "otpauth://hotp/x?counter=1&secret="} {
		ada.ask(t, "POST", "/api/v1/vault/items", object{"name": "x", "uri": uri + base32Of(own)}).shut(t, uri, addPasskey)
	}
	made := ada.keep(t, []byte("12345678901234567890"))
	item := "/api/v1/vault/items/" + made.want(t, 201)["item_id"].(string)
	ada.match(t, "PUT", item+"/secret", made.header.Get("ETag"), object{"secret": base32Of(own)}).shut(t, "in the place of another", addPasskey)
	if tag := ada.ask(t, "GET", item, nil).header.Get("ETag"); tag != made.header.Get("ETag") {
		t.Errorf("the item is %s", tag)
	}

	file := "otpauth://totp/fine?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP\notpauth://totp/own?secret=" + base32Of(own) + "\n"
	dry := ada.ask(t, "POST", "/api/v1/vault/import", object{"data": file, "dry_run": true})
	faults := dry.want(t, 200)["faults"].([]any)
	if len(faults) != 1 || faults[0].(object)["place"] != "entry 2" || !strings.Contains(dry.text, addPasskey) {
		t.Errorf("a dry run says %s", dry.text)
	}
	in := ada.ask(t, "POST", "/api/v1/vault/import", object{"data": file})
	in.shut(t, "an import", addPasskey)
	if !strings.Contains(in.text, "entry 2") || ada.items(t) != 1 {
		t.Errorf("%d items after %s", ada.items(t), in.text)
	}

	ada.passkey(t)
	out := ada.ask(t, "POST", "/api/v1/vault/import", object{"data": file}).want(t, 200)
	kept := out["items"].([]any)[1].(object)["item_id"].(string)
	w.later(time.Minute)
	code := ada.ask(t, "POST", "/api/v1/vault/items/"+kept+"/code", nil).want(t, 200)["code"]
	again := w.stranger(t, ada)
	step := again.ask(t, "POST", "/api/v1/sign-in", object{"address": ada.address, "password": goodPassword}).want(t, 200)
	again.ask(t, "POST", "/api/v1/sign-in/continue", object{"attempt": step["attempt"], "do": "prove", "factor": ada.factors(t)["totp"], "code": code}).want(t, 200)
	again.ask(t, "GET", "/api/v1/session", nil).want(t, 200)
}

// TestOthersBringTheSeed: whoever else puts the only owner's seed in is refused too, and not told whose it is; the log has it. Seeds of
// others are theirs to keep.
func TestOthersBringTheSeed(t *testing.T) {
	t.Parallel()
	w := newWayIn(t)
	bob := w.member(t, w.ada, "bob@acme.example", "admin")
	own := w.ada.key(t)
	file := object{"data": "otpauth://totp/own?secret=" + base32Of(own), "dry_run": false}
	dry := object{"data": file["data"], "dry_run": true}
	tells := func(r reply) {
		t.Helper()
		for _, word := range []string{"sign", "passkey", "factor", "ada@"} {
			if strings.Contains(r.text, word) {
				t.Errorf("it says %q: %s", word, r.text)
			}
		}
	}
	for what, r := range map[string]reply{"an item": bob.keep(t, own), "an import": bob.ask(t, "POST", "/api/v1/vault/import", file)} {
		r.shut(t, what, "Ask your organisation's owner")
		tells(r)
	}
	seen := bob.ask(t, "POST", "/api/v1/vault/import", dry)
	if faults := seen.want(t, 200)["faults"].([]any); len(faults) != 1 {
		t.Errorf("a dry run says %s", seen.text)
	}
	tells(seen)
	if n := len(w.entries(t, w.acme.id, "vault.seed_refused")); n != 3 {
		t.Errorf("a dry run is told of by %d entries", n-2)
	}
	key := w.call(t, ask{Method: "POST", Path: "/api/v1/vault/items", Key: w.acme.key, Body: object{"name": "x", "type": "totp", "secret": base32Of(own)}})
	if key.want(t, http.StatusConflict); !strings.Contains(key.Raw, "Ask your organisation's owner") {
		t.Errorf("a key is told %s", key.Raw)
	}
	if n := len(w.entries(t, w.acme.id, "vault.seed_refused")); n != 4 {
		t.Errorf("%d entries", n)
	}
	bob.keep(t, bob.key(t)).want(t, 201)
	w.ada.keep(t, bob.key(t)).want(t, 201)
}

// TestFactorBesideTheVault: the only owner whose seed is in the vault keeps the other factor; recovery codes are none. Codes by mail are.
// With the item gone, the passkey may go.
func TestFactorBesideTheVault(t *testing.T) {
	t.Parallel()
	w := newWayIn(t)
	ada := w.ada
	ada.byPasskey(t, ada.passkey(t)).want(t, 200)
	item := ada.keep(t, ada.key(t)).want(t, 201)["item_id"].(string)
	ada.removes(t, "passkey").shut(t, "the passkey", addPasskey)
	mailed := ada.ask(t, "POST", "/api/v1/factors", object{"kind": "email"}).want(t, 201)
	code := sixDigits.FindString(w.mailed(t, ada.address, "code"))
	ada.ask(t, "POST", "/api/v1/factors/"+mailed["factor_id"].(string)+"/confirm", object{"code": code}).want(t, 200)
	ada.removes(t, "passkey").want(t, 204)
	ada.prove(t)
	ada.removes(t, "email").shut(t, "the mailbox", addPasskey)
	ada.drop(t, item)
	ada.removes(t, "email").want(t, 204)
	ada.keep(t, ada.key(t)).shut(t, "the seed once more", addPasskey)
}

// TestSeedOfWhatIsEnrolled: a seed that was put into the vault between the beginning of its enrolment and the end is not confirmed where
// it would be the only factor of the only owner; beside another it is, and that stays then.
func TestSeedOfWhatIsEnrolled(t *testing.T) {
	t.Parallel()
	w := newWayIn(t)
	ada := w.ada
	begun := ada.ask(t, "POST", "/api/v1/factors", object{"kind": "totp"}).want(t, 201)
	app := &somebody{n: w.house, seed: begun["secret"].(string)}
	ada.keep(t, app.key(t)).want(t, 201)
	first := ada.factors(t)["totp"]
	ada.ask(t, "POST", "/api/v1/factors/"+begun["factor_id"].(string)+"/confirm", object{"code": app.code(t)}).want(t, 200)
	ada.ask(t, "DELETE", "/api/v1/factors/"+first, nil).shut(t, "the app whose seed is not there", addPasskey)
	ada.keep(t, ada.key(t)).shut(t, "the other app's seed too", addPasskey)

	beta := w.organisation(t, "Beta")
	in, err := w.Org.InviteOwner(t.Context(), tenantdb.System(beta.id, "operator"), "eve@beta.example", "Eve")
	must(t, err)
	eve := newBrowser(t, w.house, in.Address)
	step := eve.ask(t, "POST", "/api/v1/join", object{"do": "join", "link": w.linkOf(t, beta.id, in.ID), "name": "Eve", "password": goodPassword}).want(t, 200)
	enrol := func() (id, seed string) {
		begun := eve.ask(t, "POST", "/api/v1/sign-in/continue", object{"attempt": step["attempt"], "do": "enrol", "kind": "totp"}).want(t, 200)["enrolment"].(object)
		return begun["id"].(string), begun["secret"].(string)
	}
	id, seed := enrol()
	w.call(t, ask{Method: "POST", Path: "/api/v1/vault/items", Key: beta.key, Body: object{"name": "x", "type": "totp", "secret": strings.ReplaceAll(seed, " ", "")}}).want(t, 201)
	eve.seed = seed
	confirm := func(id string) reply {
		return eve.ask(t, "POST", "/api/v1/sign-in/continue", object{"attempt": step["attempt"], "do": "confirm", "factor": id, "code": eve.code(t)})
	}
	confirm(id).shut(t, "the first factor", "out of the vault")
	id, eve.seed = enrol()
	confirm(id).want(t, 200)
	w.call(t, ask{Method: "POST", Path: "/api/v1/vault/items", Key: beta.key, Body: object{"name": "x", "type": "totp", "secret": base32Of(eve.key(t))}}).want(t, http.StatusConflict)
}

// TestLastOtherOwner: where there are two owners, one may keep their seed in the vault; the other is then not demoted, suspended, removed,
// by whomever, until the first has another factor. Nobody is made the only owner by a transfer whose seed is there.
func TestLastOtherOwner(t *testing.T) {
	t.Parallel()
	w := newWayIn(t)
	ada := w.ada
	bob := w.member(t, ada, "bob@acme.example", "admin")
	member := "/api/v1/members/" + bob.id(t)
	bob.keep(t, bob.key(t)).want(t, 201)
	ada.prove(t)
	ada.ask(t, "POST", "/api/v1/organisation/transfer", object{"to": bob.id(t)}).shut(t, "a transfer", addPasskey)
	ada.ask(t, "PATCH", member, object{"roles": []string{"owner"}}).want(t, 200)
	ada.keep(t, ada.key(t)).want(t, 201)
	bob.signIn(t, nil)
	doors := func(says func(what string, r reply)) {
		says("who demotes themselves", bob.ask(t, "PATCH", member, object{"roles": []string{"admin"}}))
		ada.prove(t)
		says("demoted", ada.ask(t, "PATCH", member, object{"roles": []string{"admin"}}))
		says("suspended", ada.ask(t, "POST", member+"/suspend", nil))
		says("removed", ada.ask(t, "POST", member+"/remove", nil))
	}
	doors(func(what string, r reply) { r.shut(t, what, addPasskey) })
	if roles := ada.ask(t, "GET", member, nil).want(t, 200); fmt.Sprint(roles["roles"]) != "[owner]" || roles["suspended_at"] != nil {
		t.Errorf("bob is %v", roles)
	}
	ada.byPasskey(t, ada.passkey(t)).want(t, 200)
	ada.ask(t, "POST", member+"/suspend", nil).want(t, 200)
	ada.removes(t, "passkey").shut(t, "the passkey of who is alone now", addPasskey)
	ada.ask(t, "POST", member+"/resume", nil).want(t, 200)
	ada.removes(t, "passkey").want(t, 204)
}

// TestRulesLeaveAWayIn: neither rules of factors, nor a role, nor a group takes from the only owner the factor beside the vault; a change
// of rules that waited and would is cancelled.
func TestRulesLeaveAWayIn(t *testing.T) {
	t.Parallel()
	w := newWayIn(t)
	ada := w.ada
	me := "/api/v1/members/" + ada.id(t)
	key := ada.passkey(t)
	item := ada.keep(t, ada.key(t)).want(t, 201)["item_id"].(string)
	rules := func(factors object) answer {
		return w.call(t, ask{Method: "PATCH", Path: "/api/v1/organisation/rules", Header: w.fromPage(ada.cookie()), Body: object{"factors": factors}})
	}
	shut := func(what string, a answer) {
		t.Helper()
		if a.Status != http.StatusConflict || !strings.Contains(a.Raw, addPasskey) {
			t.Errorf("%s: %d %s", what, a.Status, a.Raw)
		}
	}
	apps := []string{"totp"}
	shut("rules of owners", rules(object{"owner": apps}))
	rules(object{"viewer": apps}).want(t, 200)
	ada.ask(t, "PATCH", me, object{"roles": []string{"owner", "viewer"}}).shut(t, "a role", addPasskey)
	group := ada.ask(t, "POST", "/api/v1/groups", object{"name": "Readers", "roles": []string{"viewer"}}).want(t, 201)["group_id"].(string)
	ada.ask(t, "PUT", "/api/v1/groups/"+group+"/members/"+ada.id(t), nil).shut(t, "a group", addPasskey)
	ada.ask(t, "PATCH", "/api/v1/groups/"+group, object{"roles": []string{"member"}}).want(t, 200)
	ada.ask(t, "PUT", "/api/v1/groups/"+group+"/members/"+ada.id(t), nil).want(t, 200)
	ada.ask(t, "PATCH", "/api/v1/groups/"+group, object{"roles": []string{"viewer"}}).shut(t, "the role of one's group", addPasskey)

	ada.prove(t)
	rules(object{"viewer": apps, "owner": []string{"passkey"}}).want(t, 200)
	ada.byPasskey(t, key).want(t, 200)
	due := func(outcome string) {
		t.Helper()
		w.later(25 * time.Hour)
		_, err := w.Org.ApplyDue(t.Context(), tenantdb.System(w.acme.id, "rules"))
		must(t, err)
		ada.byPasskey(t, key).want(t, 200)
		said := ada.ask(t, "GET", "/api/v1/organisation/rules", nil)
		said.want(t, 200)
		if !strings.Contains(said.text, outcome) || !strings.Contains(said.text, `"pending":[]`) {
			t.Errorf("want %s: %s", outcome, said.text)
		}
	}
	rules(object{"viewer": apps, "owner": apps}).want(t, 200)
	due(`"owner":["passkey"]`)
	if n := len(w.entries(t, w.acme.id, "organisation.rules_lowering_cancelled")); n != 1 {
		t.Errorf("%d are cancelled", n)
	}
	ada.drop(t, item)
}

// TestGroupThatIsTheWayIn: where it is by a group's role alone that the other factor counts, the only owner is not taken out of it, and it
// is not deleted.
func TestGroupThatIsTheWayIn(t *testing.T) {
	t.Parallel()
	w := newWayIn(t)
	ada := w.ada
	key := ada.passkey(t)
	ada.keep(t, ada.key(t)).want(t, 201)
	group := "/api/v1/groups/" + ada.ask(t, "POST", "/api/v1/groups", object{"name": "Readers", "roles": []string{"viewer"}}).want(t, 201)["group_id"].(string)
	member := group + "/members/" + ada.id(t)
	ada.ask(t, "PUT", member, nil).want(t, 200)
	// No kind is allowed for both roles, so it is the strongest of them.
	ada.match(t, "PATCH", "/api/v1/organisation/rules", "*", object{"factors": object{"viewer": []string{"passkey"}, "owner": []string{"totp"}}}).want(t, 200)
	ada.byPasskey(t, key).want(t, 200)
	ada.ask(t, "DELETE", member, nil).shut(t, "out of the group", addPasskey)
	ada.ask(t, "DELETE", group, nil).shut(t, "the group deleted", addPasskey)
	ada.ask(t, "GET", group, nil).want(t, 200)
}

// TestSeedAndFactorAtOnce: on two servers at once, the only owner's passkey goes and their seed comes: never both.
func TestSeedAndFactorAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := &house{}
	local := func(c *Config) { c.PublicURL = "http://localhost:8080" }
	h.live = s.start(t, development(&h.ahead), local)
	beside := &house{live: s.start(t, development(&h.ahead), local)}
	_, ada := h.owner(t, "Acme")
	there := *ada
	there.n = beside
	went, came := 0, 0
	for range 8 {
		ada.byPasskey(t, ada.passkey(t)).want(t, 200)
		key := ada.factors(t)["passkey"]
		var gone, kept reply
		var both sync.WaitGroup
		both.Go(func() { gone = ada.ask(t, "DELETE", "/api/v1/factors/"+key, nil) })
		both.Go(func() { kept = there.keep(t, ada.key(t)) })
		both.Wait()
		switch {
		case gone.status == 204 && kept.status == 409:
			went++
			ada.prove(t)
		case gone.status == 409 && kept.status == 201:
			came++
			ada.drop(t, kept.want(t, 201)["item_id"].(string))
			ada.removes(t, "passkey").want(t, 204)
			ada.prove(t)
		default:
			t.Fatalf("%d %s; %d %s", gone.status, gone.text, kept.status, kept.text)
		}
	}
	t.Logf("the factor went %d times, the seed came %d times", went, came)
}
