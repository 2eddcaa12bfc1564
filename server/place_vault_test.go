package server

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
)

// namedInVault says what stands in the path of an operation of the vault.
func namedInVault(o web.Op) map[string]string {
	item := "vault item"
	switch {
	case strings.HasPrefix(o.Path, "/api/v1/vault/requests/"):
		return map[string]string{"id": "vault request"}
	case strings.HasPrefix(o.Path, "/api/v1/vault/people/"):
		return map[string]string{"person": "member"}
	case !strings.HasPrefix(o.Path, "/api/v1/vault/items/"):
		return nil
	case strings.HasSuffix(o.Path, "/resync"):
		item = "counted vault item"
	case strings.HasSuffix(o.Path, "/fetch"):
		item = "vault secret"
	}
	return map[string]string{"id": item, "grant": "vault grant"}
}

// makeOfVault makes what lies in the vault.
func (p *place) makeOfVault(t testing.TB, what, name string) string {
	t.Helper()
	const items = "/api/v1/vault/items"
	switch what {
	case "vault item":
		delete(p.ids, "vault grant")
		return p.made(t, p.owner, items, "item_id", object{"name": name, "type": "totp", "secret": rfcSeed})
	case "counted vault item":
		return p.made(t, p.owner, items, "item_id", object{"name": name, "type": "hotp", "secret": rfcSeed})
	case "vault secret":
		return p.made(t, p.owner, items, "item_id", object{"name": name, "type": "secret", "secret": "k8Jq2mZx4Lw9Rt7Yp3Vn", "policy": object{
			"fetch": object{"hosts": []string{"api.example.com"}, "header": "Authorization", "value": "Bearer {secret}"},
		}})
	case "vault grant":
		return p.made(t, p.owner, items+"/"+p.object(t, "vault item", p.owner)+"/grants", "grant_id", object{"agent_id": p.object(t, "agent", p.owner)})
	case "vault request":
		return p.made(t, p.person(t, org.RoleMember), items+"/"+p.object(t, "vault item", p.owner)+"/requests", "request_id", object{"reason": "the pager went off"})
	}
	t.Fatalf("say here how a place comes to a %s", what)
	return ""
}

func (p *place) bodiesOfVault(t testing.TB, name string) map[string]func() any {
	return map[string]func() any{
		"add-vault-item": func() any { return object{"name": name, "type": "totp", "secret": rfcSeed} }, "update-vault-item": func() any { return object{"name": name} },
		"replace-vault-secret": func() any { return object{"secret": rand.Text()} }, "resync-vault-item": func() any { return object{"counter": 5} },
		"grant-vault-item":   func() any { return object{"agent_id": p.object(t, "agent", p.owner)} },
		"request-vault-item": func() any { return object{"reason": "the pager went off"} },
		"import-vault": func() any {
			return object{"format": "uri", "data": "otpauth://totp/" + name + "?secret=" + rfcSeed, "dry_run": true}
		},
		"export-vault": func() any {
			return object{"items": []string{p.object(t, "vault item", p.owner)}, "reason": "to see", "clear": true}
		},
		"use-vault-secret": func() any { return object{"url": "https://elsewhere.example/"} },
	}
}
