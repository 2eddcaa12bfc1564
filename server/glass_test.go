package server

import (
	"slices"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestGlass breaks the glass with the rules, the owners and the log that the server's rooms have.
func TestGlass(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := s.start(t)
	acme := n.organisation(t, "Acme")
	// The rows' own rooms need a sign-in each.
	system := tenantdb.System(acme.id, "test")
	person := func(roles []string, capabilities ...string) func(lent ...string) tenantdb.Caller {
		id := audit.NewSubjectID()
		must(t, n.DB.Change(t.Context(), system, func(tx *tenantdb.Tx) (audit.Event, error) {
			_, err := tx.Exec(t.Context(), `INSERT INTO avouch.person (tenant_id, person_id, profile, address, roles, created_at) VALUES ($1, $2, '', substr(md5($2::uuid::text), 1, 26), $3, now() - interval '1 day')`,
				acme.id, id, roles)
			return audit.Event{Type: "person.joined"}, err
		}))
		return func(lent ...string) tenantdb.Caller {
			return tenantdb.NewCaller(tenantdb.CallerSpec{
				Tenant: acme.id, Actor: audit.Actor{Kind: audit.ActorPerson, ID: id.String()}, How: "session:passkey", Scopes: capabilities, RequestID: audit.NewRequestID(),
				Person: &tenantdb.Person{ID: id, ProvedAt: time.Now(), Lent: lent},
			})
		}
	}
	ada, bob := person([]string{"member"}, "breakglass:write"), person([]string{"owner"}, "*")
	asked := policy.Asked{Reason: "The pager went off at night", Capabilities: []string{"agents:write"}, Life: 2 * time.Hour}
	if _, err := n.Glass.Ask(t.Context(), ada(), asked); !problem.Is(err, problem.Denied) {
		t.Errorf("with rules that lend nothing: %v", err)
	}
	must(t, n.DB.Change(t.Context(), system, func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(t.Context(), `UPDATE avouch.organisation SET rules = '{"mfa":"required","break_glass":{"approval":"person","max_life":7200000000000,"capabilities":["agents:write"]}}' WHERE tenant_id = $1`, acme.id)
		return audit.Event{Type: "organisation.rules_changed"}, err
	}))
	u, err := n.Glass.Ask(t.Context(), ada(), asked)
	must(t, err)
	u, err = n.Glass.Approve(t.Context(), bob(), u.ID)
	must(t, err)
	mails, err := s.admin.Texts(t.Context(), `SELECT args->>'template' FROM avouch_jobs.river_job WHERE args->'ids'->>'use' = $1 ORDER BY id`, u.ID.String())
	if err != nil || !slices.Equal(mails, []string{"glass_asked", "glass_opened"}) {
		t.Errorf("the owner is mailed %v, %v", mails, err)
	}
	lent := func() (lent []string) {
		must(t, n.DB.Read(t.Context(), system, func(tx *tenantdb.ReadTx) (err error) {
			lent, err = n.Glass.Lent(t.Context(), tx, u.Person, time.Now())
			return err
		}))
		return lent
	}
	if got := lent(); !slices.Equal(got, []string{"agents:write"}) {
		t.Errorf("lent is %v", got)
	}
	_, err = n.Agents.Purge(t.Context(), system)
	must(t, err)
	_, err = n.DB.Record(t.Context(), ada(lent()...), audit.Event{Type: "test.done", Target: audit.Target{Kind: "agent", ID: "x"}, Private: []audit.Field{{Name: "note", Value: "by night"}}})
	must(t, err)
	found, next, err := n.Glass.Entries(t.Context(), bob(), u.ID, nil, 50)
	if err != nil || next != nil || len(found) != 1 || found[0].Type != "test.done" || found[0].Target != "agent x" || found[0].Private["note"] != "by night" || found[0].How != "session:passkey break-glass" {
		t.Errorf("the slice is %+v, %v", found, err)
	}
	if e := n.entries(t, acme.id, "log.read"); len(e) != 1 {
		t.Errorf("reading the slice left %d entries", len(e))
	}
	must(t, n.settleGlass(t.Context()))
	must(t, n.remindOfGlass(t.Context()))
}
