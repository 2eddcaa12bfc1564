package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/org"
)

// TestVaultMails: what owners are mailed of the vault says who it was, of what kind the thing is, and the command that comes next, with the
// ids that it wants; and says of no code what is true of a seed.
func TestVaultMails(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	acme, ada := h.owner(t, "Acme")
	ada.prove(t)
	bob := h.member(t, ada, "bob@acme.example", org.RoleMember)
	item := func(body object) string {
		t.Helper()
		return ada.ask(t, "POST", "/api/v1/vault/items", body).want(t, http.StatusCreated)["item_id"].(string)
	}
	fetch := func(host string) object {
		return object{"fetch": object{"hosts": []string{host}, "header": "Authorization", "value": "Bearer {secret}"}}
	}
	root := item(object{"name": "AWS root", "type": "totp", "secret": rfcSeed})
	token := item(object{"name": "GitHub token", "type": "secret", "secret": "k8Jq2mZx4Lw9Rt7Yp3Vn", "policy": fetch("api.example.com")})
	codes := item(object{"name": "GitHub recovery", "type": "codes", "codes": []string{"aaaa", "bbbb"}})
	robot, agentToken := h.robot(t, acme, "read:codes")
	as := func(credential string) func(string, any) string {
		return func(item string, body any) string {
			return h.call(t, ask{Method: "POST", Path: "/api/v1/vault/items/" + item + "/requests", Key: credential, Body: body}).want(t, http.StatusCreated).text("request_id")
		}
	}
	bobs := func(item string, body any) string {
		return bob.ask(t, "POST", "/api/v1/vault/items/"+item+"/requests", body).want(t, http.StatusCreated)["request_id"].(string)
	}
	const forGood = "Whoever has the secret itself can use it until it is replaced."
	for _, c := range []struct {
		by            func(item string, body any) string
		item, level   string
		subject, what string
		who           string
	}{
		{bobs, root, "code", "asks for AWS root at Acme", "its codes", "bob@acme.example"},
		{bobs, codes, "code", "asks for GitHub recovery at Acme", "its recovery codes, one at a time", "bob@acme.example"},
		{bobs, token, "seed", "asks for GitHub token at Acme", "the secret itself", "bob@acme.example"},
		{as(agentToken), root, "code", "The agent Robot asks for AWS root at Acme", "its codes", "agent " + robot},
		{as(acme.key), token, "code", "The API key first owner key asks for GitHub token at Acme", "requests with it, in which it is not seen", "key "},
	} {
		id := c.by(c.item, object{"reason": "Ticket 4711", "level": c.level})
		text := h.mailed(t, ada.address, c.subject)
		for _, words := range []string{"\n  By:       " + c.who, "\n  What:     " + c.what + "\n", "\n  Request:  " + id + "\n", "\n  avouch vault approve " + id + "\n", "\n  > Ticket 4711\n"} {
			if !strings.Contains(text, words) {
				t.Errorf("%s: there is no %q in\n%s", c.subject, words, text)
			}
		}
		if strings.Contains(text, forGood) != (c.level == "seed") {
			t.Errorf("%s, of %s:\n%s", c.subject, c.level, text)
		}
	}
	ada.prove(t)
	for _, id := range []string{root, token} {
		ada.ask(t, "POST", "/api/v1/vault/items/"+id+"/grants", object{"person_id": ada.personID(t).String(), "level": "seed"}).want(t, http.StatusCreated)
	}
	ada.ask(t, "POST", "/api/v1/vault/export", object{"items": []string{root, token}, "reason": "The safe", "clear": true}).want(t, http.StatusOK)
	text := h.mailed(t, ada.address, "has taken 2 secrets out of the vault of Acme")
	for _, words := range []string{"Item:  AWS root\n         avouch vault uses " + root, "Item:  GitHub token\n         avouch vault uses " + token} {
		if !strings.Contains(text, words) {
			t.Errorf("there is no %q in\n%s", words, text)
		}
	}
	ada.ask(t, "PATCH", "/api/v1/vault/items/"+token, object{"policy": fetch("evil.example.com")}).want(t, http.StatusOK)
	if text := h.mailed(t, ada.address, "has a secret of Acme sent elsewhere"); !strings.Contains(text, "\n  avouch vault show "+token+"\n  avouch vault uses "+token+"\n") {
		t.Errorf("of a secret that is sent elsewhere:\n%s", text)
	}
}
