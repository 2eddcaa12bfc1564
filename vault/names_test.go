package vault

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// told is what an answer calls the things that it has, by the names of its fields.
func told(of map[string]any, fields ...string) string {
	var out []string
	for _, f := range fields {
		out = append(out, fmt.Sprint(of[f]))
	}
	return strings.Join(out, "|")
}

// listed is the things of a list.
func (w *wire) listed(t *testing.T, key, path, field string) (all []map[string]any) {
	t.Helper()
	for _, one := range w.want(t, 200, key, "GET", path, nil).Body[field].([]any) {
		all = append(all, one.(map[string]any))
	}
	return all
}

// TestNames: beside the ids of an answer stands what they are called: an item for who may know of it, and those who ask, use and decide for who
// may read of them elsewhere, each kind by its own capability. An agent is told no name. A page asks for names once, and an item that was
// altered has none and hides no other.
func TestNames(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	maker := w.person(t, "vault:read", "vault:write", "members:read")
	p, b := w.member(t), w.robot(t, "read:codes")
	i, err := w.Add(t.Context(), maker.caller(), seedOf(TOTP))
	must(t, err)
	item := "items/" + i.ID.String()
	reader := w.person(t, "vault:read", "vault:manage", "members:read", "agents:read", "keys:read")
	for name, who := range map[string]*someone{"member": p, "maker": maker, "reader": reader, "guard": w.guard} {
		w.callers[name] = who.caller
	}
	robin, _, _, err := b.at(w.side).Stand(t.Context(), true)
	must(t, err)
	w.callers["robin"] = func() tenantdb.Caller { return robin }

	// A request for an item that its asker may not know of, but for its id.
	asked := w.want(t, 201, "member", "POST", item+"/requests", map[string]any{"reason": "r"})
	if got := told(asked.Body, "item_name", "by_name"); got != "|" {
		t.Errorf("who asks is told %s", got)
	}
	one := "requests/" + asked.Body["request_id"].(string)
	w.clock.pass(time.Second)
	robins := w.want(t, 201, "robin", "POST", item+"/requests", map[string]any{"reason": "r"})
	for who, want := range map[string]string{
		"member": "|", "robin": "|", "guard": "AWS root|", "maker": "AWS root|" + nameOf(p.id), "reader": "AWS root|" + nameOf(p.id),
	} {
		path := one
		if who == "robin" {
			path = "requests/" + robins.Body["request_id"].(string)
		}
		if got := told(w.want(t, 200, who, "GET", path, nil).Body, "item_name", "by_name"); got != want {
			t.Errorf("%s is told %s of one request, want %s", who, got, want)
		}
		all := w.listed(t, who, "requests", "requests")
		if got := told(all[len(all)-1], "item_name", "by_name"); got != want {
			t.Errorf("%s is told %s of requests, want %s", who, got, want)
		}
	}
	if all := w.listed(t, "reader", "requests", "requests"); told(all[0], "kind", "by_name") != "agent|Robin" {
		t.Errorf("of an agent's request: %v", all[0])
	}
	if all := w.listed(t, "maker", "requests", "requests"); told(all[0], "kind", "by_name") != "agent|" {
		t.Errorf("who may not read agents, of an agent's request: %v", all[0])
	}
	if got := told(w.want(t, 200, "reader", "POST", one+"/approve", nil).Body, "item_name", "by_name", "decided_by_name"); got != "AWS root|"+nameOf(p.id)+"|"+nameOf(reader.id) {
		t.Errorf("approved: %s", got)
	}
	if got := told(w.want(t, 200, "member", "GET", one, nil).Body, "item_name", "by_name", "decided_by_name"); got != "AWS root||" {
		t.Errorf("to whom it is lent: %s", got)
	}

	// Grants, an item, uses and the report.
	group, key := w.group(t, p), actorOf(w.key(t, p, "vault:code").Actor())
	for _, to := range []Actor{p.actor(), group, b.actor(), key} {
		w.clock.pass(time.Second)
		w.grant(t, i.ID, to, ForCode)
	}
	w.want(t, 200, "member", "GET", item+"/code", nil)
	for who, want := range map[string]string{
		"reader": "person " + nameOf(maker.id) + ",person " + nameOf(p.id) + ",group " + group.ID + ",agent Robin,key k,",
		"maker":  "person " + nameOf(maker.id) + ",person " + nameOf(p.id) + ",group " + group.ID + ",agent ,key ,", "guard": "person ,person ,group ,agent ,key ,",
	} {
		got := ""
		for _, g := range w.listed(t, who, item+"/grants", "grants") {
			got += told(g, "kind") + " " + told(g, "to_name") + ","
		}
		if got != want {
			t.Errorf("%s is told that it is granted to %s, want %s", who, got, want)
		}
	}
	for who, want := range map[string]string{"reader": nameOf(maker.id), "guard": "", "member": ""} {
		if got := told(w.want(t, 200, who, "GET", item, nil).Body, "created_by_name"); got != want {
			t.Errorf("%s is told that %s made it", who, got)
		}
		if got := told(w.listed(t, who, "items", "items")[0], "created_by_name"); got != want {
			t.Errorf("%s is told in a list that %s made it", who, got)
		}
	}
	w.callers["auditor"] = w.person(t, "audit:read", "members:read").caller
	for who, want := range map[string]string{"reader": "AWS root|" + nameOf(p.id), "guard": "AWS root|", "auditor": "|" + nameOf(p.id)} {
		if got := told(w.listed(t, who, item+"/uses", "uses")[0], "item_name", "by_name"); got != want {
			t.Errorf("%s is told of a use by %s, want %s", who, got, want)
		}
	}
	if got := told(w.listed(t, "reader", "people/"+p.id.String()+"/report", "fetched")[0], "item_name"); got != "AWS root" {
		t.Errorf("the report is of %s", got)
	}

	// However many have asked.
	for range 30 {
		_, err := w.Ask(t.Context(), w.member(t).caller(), i.ID, ForCode, "r", time.Hour)
		must(t, err)
	}
	beside := w.put(t, seedOf(Secret))
	w.clock.pass(time.Second)
	_, err = w.Ask(t.Context(), p.caller(), beside.ID, ForCode, "r", time.Hour)
	must(t, err)
	w.unguarded(t)
	w.Admin(t, `UPDATE avouch.vault_item SET about = secret WHERE item_id = $1`, i.ID)
	w.rules.set(func(b *rulebook) { b.asked = 0 })
	all := w.listed(t, "reader", "requests", "requests")
	if told(all[0], "item_name", "by_name") != "Token|"+nameOf(p.id) || told(all[1], "item_name") != "" || len(all) != 33 || w.rules.asked != 1 {
		t.Errorf("%d requests, of %v and %v; names were asked for %d times", len(all), all[0], all[1], w.rules.asked)
	}
	if w.alarms(t, w.acme) != i.ID.String() {
		t.Error("it was not told of")
	}
}

// TestGrantStates: a grant whose holder is gone or suspended says so, and the others go on.
func TestGrantStates(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	i := w.put(t, seedOf(TOTP)).ID
	soon := w.clock.at().Add(time.Hour)
	newKey := func() Actor { return actorOf(w.key(t, w.member(t), "vault:code").Actor()) }
	holders := map[string]struct {
		Actor
		sql  string // what becomes of them
		want string
	}{
		"an agent": {w.robot(t).actor(), "", "active"}, "a revoked agent": {w.robot(t).actor(), `UPDATE avouch.agent SET revoked_at = now() WHERE tenant_id = $1 AND agent_id = $2::uuid`, "gone"},
		"a suspended agent":    {w.robot(t).actor(), `UPDATE avouch.agent SET suspended_at = now() WHERE tenant_id = $1 AND agent_id = $2::uuid`, "suspended"},
		"a person":             {w.member(t).actor(), "", "active"},
		"a removed person":     {w.member(t).actor(), `UPDATE avouch.person SET removed_at = now() WHERE tenant_id = $1 AND person_id = $2::uuid`, "gone"},
		"a suspended person":   {w.member(t).actor(), `UPDATE avouch.person SET suspended_at = now() WHERE tenant_id = $1 AND person_id = $2::uuid`, "suspended"},
		"a group":              {w.group(t), "", "active"},
		"a deleted group":      {w.group(t), `DELETE FROM avouch.person_group WHERE tenant_id = $1 AND group_id = $2::uuid`, "gone"},
		"a key":                {newKey(), "", "active"},
		"a revoked key":        {newKey(), `UPDATE avouch.api_key SET revoked_at = now() WHERE tenant_id = $1 AND key_id = $2`, "gone"},
		"a key that expired":   {newKey(), `UPDATE avouch.api_key SET expires_at = now() - interval '1 hour' WHERE tenant_id = $1 AND key_id = $2`, "gone"},
		"a disabled key":       {newKey(), `UPDATE avouch.api_key SET disabled_at = now() WHERE tenant_id = $1 AND key_id = $2`, "suspended"},
		"a grant that is over": {w.member(t).actor(), "", "expired"},
	}
	for what, h := range holders {
		var until *time.Time
		if h.want == "expired" {
			until = &soon
		}
		_, err := w.Grant(t.Context(), w.boss, i, h.Actor, ForCode, until)
		must(t, err)
		if h.sql != "" {
			w.set(t, h.sql, w.acme, h.ID)
		}
		holders[what] = h
	}
	w.clock.pass(time.Hour)
	got := map[string]string{}
	for _, g := range w.listed(t, "boss", "items/"+i.String()+"/grants", "grants") {
		got[told(g, "kind")+":"+told(g, "to")] = told(g, "state")
		if g["to"] == holders["an agent"].ID {
			if ended := w.want(t, 200, "boss", "POST", "items/"+i.String()+"/grants/"+g["grant_id"].(string)+"/revoke", nil); ended.Body["state"] != "ended" {
				t.Errorf("revoked: %s", ended.Raw)
			}
		}
	}
	for what, h := range holders {
		if got[h.Actor.String()] != h.want {
			t.Errorf("to %s: %q, want %s", what, got[h.Actor.String()], h.want)
		}
	}
}

// TestLoanIsOver: a loan that was ended before its time says when, and no later end.
func TestLoanIsOver(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	i, p := w.put(t, seedOf(TOTP)).ID, w.member(t)
	w.callers["member"] = p.caller
	q := w.lend(t, p.caller(), i, ForCode, time.Hour)
	one := "requests/" + q.ID.String()
	if got := w.want(t, 200, "member", "GET", one, nil); got.Body["ended_at"] != nil || got.Body["until"] != q.Until.UTC().Format(time.RFC3339) {
		t.Errorf("as long as it lasts: %s", got.Raw)
	}
	w.clock.pass(time.Minute)
	now := w.clock.at().Format(time.RFC3339)
	if got := told(w.want(t, 200, "member", "POST", one+"/withdraw", nil).Body, "state", "until", "ended_at"); got != "ended|"+now+"|"+now {
		t.Errorf("ended: %s", got)
	}
	w.clock.pass(time.Hour)
	if got := told(w.want(t, 200, "member", "GET", one, nil).Body, "state", "until", "ended_at"); got != "ended|"+now+"|"+now {
		t.Errorf("later: %s", got)
	}
}
