package server

import (
	"cmp"
	"fmt"
	"net/http"
	"testing"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/signin/scim"
	"github.com/avouch-dev/avouch/tenantdb"
)

// forKeys are operations that are made for keys. Most of them nobody else may ask for: nothing but this shows that a good request of
// them is answered.
func forKeys(id string) bool {
	return id == "verify" || id == "verify-key" || id == "state-audit-events" || ofDirectories(id)
}

// needed is the capability that a key must have for an operation. Those that look for it themselves name no scope.
func needed(o web.Op) string {
	if o.ID == "state-audit-events" {
		return "audit:write"
	}
	return cmp.Or(o.Scope, "verify")
}

// keyOf is a key that may do one thing.
func (m *matrix) keyOf(t testing.TB, capability string) string {
	t.Helper()
	if m.keys[capability] == "" {
		m.keys[capability], _ = m.newKey(t, m.own.party, object{"kind": "owner", "scopes": []string{capability}})
	}
	return m.keys[capability]
}

// byKey asks an operation with a key that may do what it needs, and nothing else.
func (m *matrix) byKey(t testing.TB, o web.Op) said {
	t.Helper()
	needs := needed(o)
	if ofDirectories(o.ID) {
		defer m.own.forget(m.own.owner, m.managed(t, o)...) // others look for what no directory has
	}
	s := m.sent(t, o, m.own, m.own.owner, map[string]string{"Authorization": "Bearer " + m.keyOf(t, needs), "If-Match": "*"})
	switch {
	case forKeys(o.ID) && s.status >= 300:
		t.Errorf("%s with the key that it is for: %d %s", o.ID, s.status, s.text)
	case s.lacks(needs), s.status == http.StatusUnauthorized && o.Access != web.Own, s.status >= 500, s.status == http.StatusTooManyRequests, s.status == http.StatusBadRequest && !unwilling(o.ID):
		t.Errorf("%s with a key that has %s: %d %s", o.ID, needs, s.status, s.text)
	}
	return s
}

// managed has the directory decide about whom and what the path of an operation names.
func (m *matrix) managed(t testing.TB, o web.Op) (named []string) {
	t.Helper()
	_, named = m.own.path(t, o, m.own.owner)
	must(t, m.DB.Change(t.Context(), tenantdb.System(m.own.id, "test"), func(tx *tenantdb.Tx) (ev audit.Event, err error) {
		for _, domain := range []string{"elsewhere.example", fmt.Sprintf("people-of-%s.example", m.own.id)} {
			_, err = tx.Exec(t.Context(), `INSERT INTO avouch.domain (tenant_id, domain, token, created_at, proved_at) VALUES ($1, $2, 'x', now(), now()) ON CONFLICT DO NOTHING`, m.own.id, domain)
			must(t, err)
		}
		for _, what := range named {
			table := map[string]string{"member": "person SET managed_by = $3 WHERE person_id = $1 AND tenant_id = $2", "group": "person_group SET managed_by = $3 WHERE group_id = $1 AND tenant_id = $2"}[what]
			_, err = tx.Exec(t.Context(), "UPDATE avouch."+table, m.own.ids[what], m.own.id, scim.Directory)
			must(t, err)
		}
		return audit.Event{Type: "test.prepared"}, nil
	}))
	return named
}
