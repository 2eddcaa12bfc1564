package verify

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// TestResourceBound: a token that is bound is denied everywhere else, also to its own owner.
func TestResourceBound(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, free := h.agent(t, "read:email")
	bound := h.token(t, a, agent.Wish{Resources: []string{"https://harbour.example", "ships"}}).Token.Expose()
	const yes, elsewhere = "The agent is who it says it is", "The token is bound to other resources"
	for _, resource := range []string{"https://harbour.example", "ships"} {
		h.expect(t, Request{Token: bound, TargetResource: resource}, Allowed, yes)
	}
	for _, resource := range []string{"", "ship", "ships ", "Ships", "https://harbour.example/", testIssuer} {
		a := h.expect(t, Request{Token: bound, TargetResource: resource}, Denied, elsewhere)
		if scopes := a.Body["agent"].(map[string]any)["active_scopes"].([]any); len(scopes) != 0 {
			t.Errorf("active scopes of what is denied: %v", scopes)
		}
	}
	own, _ := h.newKey(t, h.owner, apikey.NewKey{})
	h.expectFor(t, own, Request{Token: bound}, Denied, elsewhere)
	for _, resource := range []string{"", "anything"} {
		h.expect(t, Request{Token: free, TargetResource: resource}, Allowed, yes)
	}
}

// TestVisibility: an owner says who may verify its agent. Whoever may not learns nothing of it, and the owner sees that it
// was asked.
func TestVisibility(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, token := h.agent(t, "read:email")
	q := Request{Token: token, ScopesRequested: []string{"read:email"}}
	own, _ := h.newKey(t, h.owner, apikey.NewKey{})
	const yes, no = "The agent has the scopes: read:email", "The agent's owner does not let your organisation verify this agent"
	show := func(v agent.Visibility, to ...tenantdb.TenantID) {
		_, err := h.agents.Update(t.Context(), h.owner, a.ID, "", agent.Edit{Visibility: &v, VisibleTo: &to})
		must(t, err)
	}
	h.expect(t, q, Allowed, yes)
	for _, hide := range []func(){
		func() { show(agent.VisibleToNone) }, func() { show(agent.VisibleToListed) },
		func() { show(agent.VisibleToListed, h.owner.Tenant(), tenantdb.NewTenantID()) },
	} {
		hide()
		if got := h.expect(t, q, Denied, no); got.Body["agent"] != nil {
			t.Errorf("a service that may not verify learns %v", got.Body["agent"])
		}
		last := h.Last(t, h.owner.Tenant())
		if last.Type != "agent.verified" || last.Actor != (audit.Actor{Kind: audit.ActorService, ID: h.service.Tenant().String()}) || last.Decision != "DENIED" {
			t.Errorf("the owner's log says %+v", last)
		}
		h.expectFor(t, own, q, Allowed, yes)
	}
	show(agent.VisibleToListed, h.service.Tenant())
	h.expect(t, q, Allowed, yes)
	show(agent.VisibleToAll)
	h.expect(t, q, Allowed, yes)
}

// TestAnswerTellsNothingOfTheOwnersLog: the position in an answer is of the service's own log, and moves by its own
// entries alone, however busy the owner is.
func TestAnswerTellsNothingOfTheOwnersLog(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, token := h.agent(t)
	hidden, hiddenToken := h.agent(t)
	none := agent.VisibleToNone
	_, err := h.agents.Update(t.Context(), h.owner, hidden.ID, "", agent.Edit{Visibility: &none})
	must(t, err)
	log := func(c tenantdb.Caller) string {
		return h.Text(t, `SELECT log_id::text FROM avouch.audit_head WHERE tenant_id = $1`, c.Tenant())
	}
	before := int64(-1)
	for n, raw := range []string{token, hiddenToken, "forged", token} {
		for range n * 7 {
			h.token(t, a, agent.Wish{})
		}
		got := h.ask(t, h.key, Request{Token: raw})
		evidence := got.Body["audit"].(map[string]any)
		entry := h.Last(t, h.service.Tenant())
		leaf := audit.Leaf(entry.Body)
		if evidence["log"] != log(h.service) || evidence["seq"] != float64(entry.Seq) || evidence["leaf"] != fmt.Sprintf("%x", leaf) || len(evidence) != 3 {
			t.Errorf("the evidence is %v", evidence)
		}
		if before >= 0 && int64(entry.Seq) != before+1 {
			t.Errorf("the service's log went from %d to %d", before, entry.Seq)
		}
		before = int64(entry.Seq)
		for what, secret := range map[string]string{"log": log(h.owner), "organisation": h.owner.Tenant().String()} {
			if strings.Contains(got.Raw, secret) {
				t.Errorf("the answer names the owner's %s: %s", what, got.Raw)
			}
		}
		if (raw == hiddenToken || raw == "forged") && (strings.Contains(got.Raw, "Robin") || strings.Contains(got.Raw, "Acme") || strings.Contains(got.Raw, hidden.ID.String())) {
			t.Errorf("the answer names what the service may not know: %s", got.Raw)
		}
	}
}

// TestBothLogs: one request, one entry in each log, and one alone if both are one.
func TestBothLogs(t *testing.T) {
	t.Parallel()
	h := open(t)
	a, token := h.agent(t, "read:email")
	q := Request{Token: token, TargetResource: "ships", ScopesRequested: []string{"read:email", "write:email"}}
	answer := doortest.Call(t, h.api, doortest.Request{
		Method: "POST", Path: "/api/v1/verify", Key: h.key, Body: q, Header: map[string]string{"X-Request-Id": "mine-1"},
	})
	ours, theirs := h.Last(t, h.service.Tenant()), h.Last(t, h.owner.Tenant())
	for who, e := range map[string]doortest.Entry{"the service": ours, "the owner": theirs} {
		if e.Type != "agent.verified" || e.Decision != "DENIED" || e.Outcome != audit.Denied || e.Target != (audit.Target{Kind: "agent", ID: a.ID.String()}) ||
			e.Request.String() != answer.Body["request_id"] || e.Policy != policy.Version || e.Private["target_resource"] != "ships" ||
			e.Private["scopes_requested"] != "read:email write:email" || e.Private["reason"] != "Agent lacks required scopes: write:email" {
			t.Errorf("%s has %+v", who, e)
		}
		if strings.Contains(string(e.Body), "ships") || strings.Contains(string(e.Body), "email") || strings.Contains(string(e.Body), token) {
			t.Errorf("the entry of %s holds words of others in the open", who)
		}
	}
	if ours.Actor.Kind != audit.ActorKey || ours.Private["caller_request_id"] != "mine-1" || theirs.Private["caller_request_id"] != "" {
		t.Errorf("the service's entry is by %+v for its request %q; the owner has %q", ours.Actor, ours.Private["caller_request_id"], theirs.Private["caller_request_id"])
	}
	own, _ := h.newKey(t, h.owner, apikey.NewKey{})
	before := len(h.verified(t, h.owner.Tenant()))
	h.expectFor(t, own, Request{Token: token}, Allowed, "The agent is who it says it is")
	if n := len(h.verified(t, h.owner.Tenant())) - before; n != 1 {
		t.Errorf("an owner that verifies its own agent has %d entries", n)
	}
}

// TestQuota: on two servers, at once: a service key's own, an owner key's organisation's, and anew next month.
func TestQuota(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	_, token := h.agent(t)
	five := int64(5)
	limited, _ := h.newKey(t, h.service, apikey.NewKey{MonthlyQuota: &five})
	owners, _ := h.newKey(t, h.service, apikey.NewKey{Kind: apikey.Owner})
	h.set(t, h.service, `UPDATE avouch.organisation SET monthly_quota = 5 WHERE tenant_id = $1`, h.service.Tenant())
	for what, key := range map[string]string{"a service key": limited, "an owner key": owners} {
		before := len(h.verified(t, h.service.Tenant()))
		spend(t, []*side{h.side, other}, key, Request{Token: token}, what, 5, http.StatusTooManyRequests)
		if n := len(h.verified(t, h.service.Tenant())) - before; n != 5 {
			t.Errorf("%s: %d verifications are in the log", what, n)
		}
	}
	h.expect(t, Request{Token: token}, Allowed, "The agent is who it says it is") // another key has its own
	month := h.clock.now()
	for h.clock.now().Month() == month.Month() {
		h.clock.forward(24 * time.Hour)
	}
	must(t, h.signing.Refresh(t.Context()))
	must(t, other.signing.Refresh(t.Context()))
	spend(t, []*side{other, h.side}, limited, Request{Token: "denied, and counted all the same"}, "next month", 5, http.StatusTooManyRequests)
}

// spend asks 24 times, eight at a time, and wants a number of answers; the rest are refused.
func spend(t *testing.T, servers []*side, key string, q Request, what string, answers int64, status int) {
	t.Helper()
	var ok, refused atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 3 {
				switch a := servers[i%len(servers)].ask(t, key, q); a.Status {
				case http.StatusOK:
					ok.Add(1)
				case status:
					refused.Add(1)
				default:
					t.Errorf("%s: %d %s", what, a.Status, a.Raw)
				}
			}
		})
	}
	all.Wait()
	if ok.Load() != answers || refused.Load() != 24-answers {
		t.Errorf("%s: %d answers and %d refusals, want %d answers", what, ok.Load(), refused.Load(), answers)
	}
}

// TestLimitedUses: a token that may be used three times allows three times, on two servers, however many ask at once. What
// is denied for another reason uses nothing.
func TestLimitedUses(t *testing.T) {
	t.Parallel()
	h := open(t)
	other := h.server(t, h.Another(t))
	a, _ := h.agent(t, "read:email")
	token := h.token(t, a, agent.Wish{MaxUses: 3, Resources: []string{"here"}})
	q := Request{Token: token.Token.Expose(), TargetResource: "here"}
	h.expect(t, Request{Token: q.Token, TargetResource: "elsewhere"}, Denied, "The token is bound to other resources")
	h.expect(t, Request{Token: q.Token, TargetResource: "here", ScopesRequested: []string{"write:email"}}, Denied, "Agent lacks required scopes: write:email")
	var allowed, denied atomic.Int64
	var all sync.WaitGroup
	for i := range 12 {
		s := []*side{h.side, other}[i%2]
		all.Go(func() {
			switch got := s.ask(t, h.key, q); {
			case got.Body["allowed"] == true:
				allowed.Add(1)
			case got.Body["reason"] == "The token's 3 uses are spent" && got.Body["decision"] == "DENIED":
				denied.Add(1)
			default:
				t.Errorf("%d %s", got.Status, got.Raw)
			}
		})
	}
	all.Wait()
	if allowed.Load() != 3 || denied.Load() != 9 {
		t.Errorf("%d allowed, %d denied", allowed.Load(), denied.Load())
	}
	allowedInLog := slices.DeleteFunc(h.verified(t, h.service.Tenant()), func(e doortest.Entry) bool { return e.Decision != "ALLOWED" })
	if len(allowedInLog) != 3 || len(h.verified(t, h.service.Tenant())) != 14 {
		t.Errorf("the log allows %d of %d times", len(allowedInLog), len(h.verified(t, h.service.Tenant())))
	}
}

// TestStalledLogDenies: while a log cannot be written, there is no answer, and never an allow: not for the owner's log,
// and not for the service's. Others are answered meanwhile.
func TestStalledLogDenies(t *testing.T) {
	t.Parallel()
	for who, of := range map[string]func(*house) tenantdb.Caller{
		"owner": func(h *house) tenantdb.Caller { return h.owner }, "service": func(h *house) tenantdb.Caller { return h.service },
	} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			_, token := h.agent(t)
			third := h.Caller(h.organisation(t, "Third"), tenantdb.Everything)
			_, thirdToken := h.agentOf(t, third)
			thirdKey, _ := h.newKey(t, third, apikey.NewKey{})
			let := h.hold(t, of(h))
			answered := make(chan doortest.Answer, 1)
			go func() { answered <- h.ask(t, h.key, Request{Token: token}) }()
			h.expectFor(t, thirdKey, Request{Token: thirdToken}, Allowed, "The agent is who it says it is")
			a := <-answered
			let()
			if a.Status != http.StatusServiceUnavailable || a.Body["allowed"] != nil {
				t.Errorf("answered %d %s", a.Status, a.Raw)
			}
			h.expect(t, Request{Token: token}, Allowed, "The agent is who it says it is")
			if n := len(h.verified(t, h.service.Tenant())); n != 1 {
				t.Errorf("there are %d entries of one answer", n)
			}
		})
	}
}

// hold takes a log's head, as a transaction that hangs does, until the returned function is called.
func (h *house) hold(t *testing.T, c tenantdb.Caller) (let func()) {
	t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		// It changes nothing, so it ends in a rollback.
		h.DB.Change(context.WithoutCancel(t.Context()), c, func(*tenantdb.Tx) (audit.Event, error) {
			close(held)
			<-free
			return audit.Event{}, nil
		})
	}()
	<-held
	return func() { close(free); <-done }
}
