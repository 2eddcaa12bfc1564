package server

import (
	"net/http"
	"testing"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring/kms"
	"github.com/avouch-dev/avouch/keyring/transit/transittest"
	"github.com/avouch-dev/avouch/tenantdb"
)

// BenchmarkIssue is a token over HTTP, with the signing keys here or in a transit engine on the same machine, one at a time and many.
func BenchmarkIssue(b *testing.B) {
	for _, where := range []string{"local", "kms"} {
		e := transittest.New()
		b.Cleanup(e.Close)
		n := newSite(b).start(b, func(c *Config) {
			c.KMS = kms.Config{Kind: "transit", Address: e.URL, Key: "avouch", Token: secret.Text(transittest.Root), SigningKeys: true, Sign: where}
		})
		acme := n.organisation(b, "Acme")
		issue := func(b *testing.B, tokens func() bool) {
			robin, _, err := n.Agents.Register(b.Context(), tenantdb.System(acme.id, "test"), agent.Registration{Name: "Reader", Scopes: []string{"read:email"}})
			must(b, err)
			q := ask{Method: "POST", Path: "/api/v1/agents/" + robin.ID.String() + "/tokens", Key: acme.key, Body: map[string]any{}}
			for made := 0; tokens(); made++ {
				if made == mostLive { // another agent, which has none
					robin, _, err = n.Agents.Register(b.Context(), tenantdb.System(acme.id, "test"), agent.Registration{Name: "Reader", Scopes: []string{"read:email"}})
					must(b, err)
					q.Path, made = "/api/v1/agents/"+robin.ID.String()+"/tokens", 0
				}
				if a, err := n.try(b.Context(), q); err != nil || a.Status != http.StatusCreated {
					b.Errorf("%d %s %v", a.Status, a.Raw, err)
					return
				}
			}
		}
		b.Run(where+"/one", func(b *testing.B) { issue(b, b.Loop) })
		b.Run(where+"/many", func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(p *testing.PB) { issue(b, p.Next) })
		})
	}
}

// mostLive is below the number of live tokens that an agent may have.
const mostLive = 50
