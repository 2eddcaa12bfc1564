package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/avouch-dev/avouch/test/oidcprovider"
)

// TestSeedsAreNotTakenAlone: one of two owners suspends the other, which takes a fresh proof and is told to that one, and does not come to
// a seed by it; who was sent away hears of what is asked for. Days later the one who is left is the only owner.
func TestSeedsAreNotTakenAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	bob, carol := h.member(t, ada, "bob@acme.example", "admin"), h.member(t, ada, "carol@acme.example", "member")
	ada.prove(t)
	member := "/api/v1/members/" + bob.id(t)
	ada.ask(t, "PATCH", member, object{"roles": []string{"owner"}}).want(t, 200)
	item := "/api/v1/vault/items/" + h.call(t, ask{Method: "POST", Path: "/api/v1/vault/items", Key: acme.key, Body: object{"name": "AWS root", "type": "totp", "secret": rfcSeed}}).want(t, 201).text("item_id")
	seed := object{"person_id": ada.id(t), "level": "seed"}
	h.later(10 * time.Minute)
	for _, what := range []string{"/suspend", "/remove"} {
		if r := ada.ask(t, "POST", member+what, nil); r.status != http.StatusForbidden || !strings.Contains(r.text, "Prove yourself again") {
			t.Errorf("%s on an old proof: %d %s", what, r.status, r.text)
		}
	}
	ada.prove(t)
	ada.ask(t, "POST", member+"/suspend", nil).want(t, 200)
	for _, who := range []*somebody{ada, bob} {
		if text := h.mailed(t, who.address, "an owner less"); !strings.Contains(text, "is suspended, and cannot act as an owner of Acme") {
			t.Errorf("%s is told %s", who.address, text)
		}
	}
	if r := ada.ask(t, "POST", item+"/grants", seed); r.status != http.StatusForbidden || !strings.Contains(r.text, "Nobody grants an item to themselves") {
		t.Errorf("a seed, when the other was suspended: %d %s", r.status, r.text)
	}
	carol.ask(t, "POST", item+"/requests", object{"reason": "The pager went off"}).want(t, 201)
	h.mailed(t, bob.address, "asks for AWS root")
	h.later(8 * 24 * time.Hour)
	ada.signIn(t, nil)
	ada.ask(t, "POST", item+"/grants", seed).want(t, 201)
	if e := h.entries(t, acme.id, "vault.granted"); e[len(e)-1].field("alone") != "true" {
		t.Errorf("the log says %+v", e[len(e)-1])
	}
}

// TestNoItemsByAProvider: who may set up providers and directories, and to whom nothing is granted, gets nothing of what is granted to a group:
// not by having their provider decide about it, nor in two steps, by a group that had nothing then, nor by a directory's key of theirs. When
// somebody else has configured the provider, or made the key, it is believed.
func TestNoItemsByAProvider(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.OutboundNetworks = []string{"127.0.0.0/8"} })
	acme, ada := h.owner(t, "Acme")
	mal := h.member(t, ada, "mal@acme.example", "admin")
	id := mal.personID(t)
	ada.prove(t)
	mal.prove(t)
	item := "/api/v1/vault/items/" + h.call(t, ask{Method: "POST", Path: "/api/v1/vault/items", Key: acme.key, Body: object{"name": "AWS root", "type": "totp", "secret": rfcSeed}}).want(t, 201).text("item_id")
	group := func(name string) string {
		return ada.ask(t, "POST", "/api/v1/groups", object{"name": name}).want(t, 201)["group_id"].(string)
	}
	grant := func(g string) { ada.ask(t, "POST", item+"/grants", object{"group_id": g}).want(t, 201) }
	in := func(g string) bool {
		return strings.Contains(ada.ask(t, "GET", "/api/v1/members?group="+g, nil).text, id.String())
	}
	provider := oidcprovider.New(t, jose.ES256)
	provider.Now = h.now
	connection := func(name string, groups object) reply {
		return mal.ask(t, "POST", "/api/v1/connections", object{"kind": "oidc", "name": name, "oidc": object{"issuer": provider.URL, "client_id": "avouch"}, "admission": object{"groups": groups}})
	}
	kept, later := group("by hand"), group("nothing yet")
	grant(kept)
	refused := func(what string, r reply) {
		t.Helper()
		if r.status != http.StatusForbidden || !strings.Contains(r.text, "nobody grants to themselves") {
			t.Errorf("%s: %d %s", what, r.status, r.text)
		}
	}
	refused("a connection", connection("a", object{"x": kept}))
	made := connection("b", object{"x": later}).want(t, 201)
	path := "/api/v1/connections/" + made["connection_id"].(string)
	refused("a change of one", mal.match(t, "PATCH", path, `"1"`, object{"admission": object{"groups": object{"x": later, "y": kept}}}))
	mal.ask(t, "POST", path+"/enable", nil).want(t, 200)
	grant(later)
	back := strings.Replace(path, "connections", "sso", 1) + "/callback"
	provider.Register(oidcprovider.Client{ID: "avouch", Redirects: []string{h.URL() + back}})
	arrive := func() {
		t.Helper()
		provider.SignIn(oidcprovider.User{Subject: "mal", Claims: map[string]any{"groups": []string{"x"}}})
		var out struct {
			To string `json:"redirect_url"`
		}
		mal.prove(t)
		r := mal.ask(t, "POST", "/api/v1/sso/prove", object{"connection_id": made["connection_id"], "link": true})
		r.want(t, 200)
		must(t, json.Unmarshal([]byte(r.text), &out))
		to, _ := oidcprovider.Visit(t, out.To)
		if r := mal.ask(t, "GET", strings.TrimPrefix(to, h.URL()), nil); r.status != http.StatusSeeOther || strings.Contains(r.header.Get("Location"), "error") {
			t.Fatalf("%d %s %s", r.status, r.header.Get("Location"), r.text)
		}
	}
	if arrive(); in(later) {
		t.Error("by a provider of their own somebody is in a group to which items are granted")
	}
	if r := mal.ask(t, "POST", item+"/code", nil); r.status != http.StatusForbidden {
		t.Errorf("a code: %d %s", r.status, r.text)
	}
	ada.prove(t)
	ada.match(t, "PATCH", path, `"1"`, object{"name": "ours"}).want(t, 200)
	if arrive(); !in(later) {
		t.Error("a provider that somebody else has configured is not believed")
	}
	h.directorysWord(t, acme, ada, mal, grant, in)

	ada.prove(t)
	alone := ada.ask(t, "POST", "/api/v1/connections", object{"kind": "oidc", "name": "c", "oidc": object{"issuer": provider.URL, "client_id": "avouch"}, "admission": object{"groups": object{"x": kept}}})
	alone.want(t, 201)
	if e := h.entries(t, acme.id, "connection.made"); e[len(e)-1].field("alone") != "true" || e[0].field("alone") != "" {
		t.Errorf("the only owner has a provider decide: %+v", e)
	}
}

// directorysWord: a directory's key puts nobody into a group to which items are granted who made it.
func (h *house) directorysWord(t *testing.T, acme party, ada, mal *somebody, grant func(group string), in func(group string) bool) {
	t.Helper()
	h.connected(t, ada, "acme.example", "https://provider.example")
	key := func(by *somebody) string {
		by.prove(t)
		return by.ask(t, "POST", "/api/v1/keys", object{"name": "directory", "kind": "service", "scopes": []string{"scim:write"}}).want(t, 201)["key"].(string)
	}
	mals, adas := key(mal), key(ada)
	id := mal.personID(t).String()
	if r := ada.ask(t, "PUT", "/api/v1/people/"+id+"/directory", object{"managed": true}); r.status >= 300 {
		t.Fatalf("%d %s", r.status, r.text)
	}
	made := h.call(t, ask{Method: "POST", Path: "/scim/v2/Groups", Key: mals, Body: object{"displayName": "Operations"}}).want(t, 201)
	group := made.text("id")
	grant(group)
	put := func(by string) answer {
		return h.call(t, ask{Method: "PATCH", Path: "/scim/v2/Groups/" + group, Key: by, Body: object{"Operations": []object{{"op": "add", "path": "members", "value": []object{{"value": id}}}}}})
	}
	if a := put(mals); a.Status != http.StatusForbidden || !strings.Contains(a.Raw, "nobody grants to themselves") || in(group) {
		t.Errorf("by a key of their own: %d %s", a.Status, a.Raw)
	}
	if a := put(adas); a.Status >= 300 || !in(group) {
		t.Errorf("by somebody else's: %d %s", a.Status, a.Raw)
	}
	if e := h.entries(t, acme.id, "group.changed"); len(e) != 1 || e[0].field("added") != "1" || e[0].field("alone") != "" {
		t.Errorf("the log says %s", fmt.Sprint(e))
	}
}
