package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/policy"
)

// victim is an organisation with one of everything, and what of it must never be seen by another.
type victim struct {
	*place
	log   string
	whole string            // a key of its own
	words map[string]string // what no answer to another may hold
}

func (n *live) victim(t testing.TB) victim {
	t.Helper()
	v := victim{place: n.place(t, "Victim")}
	whole, key := n.newKey(t, v.party, map[string]any{"name": "the victim's key", "metadata": map[string]any{"note": "the victim's note"}})
	n.call(t, ask{Method: "POST", Path: "/api/v1/scopes", Key: v.key, Body: map[string]any{"name": "victim:scope", "risk": "low", "description": "the victim's scope"}}).want(t, http.StatusCreated)
	agent := n.call(t, ask{Method: "POST", Path: "/api/v1/agents/register", Key: v.key, Body: map[string]any{
		"name": "the victim's agent", "description": "the victim's words", "capabilities": []string{"victim:scope"},
	}}).want(t, http.StatusCreated)
	n.call(t, ask{Method: "PATCH", Path: "/api/v1/agents/" + agent.text("agent_id"), Key: v.key, Body: map[string]any{"visibility": "none"}, Header: map[string]string{"If-Match": agent.Header.Get("ETag")}}).want(t, http.StatusOK)
	n.call(t, ask{Method: "PUT", Path: "/api/v1/key-owners/user_17", Key: v.key, Body: map[string]any{"metadata": map[string]any{"note": "the victim's note"}}}).want(t, http.StatusOK)
	operator, err := policy.Operator(v.id, "root")
	must(t, err)
	use, err := n.Glass.OperatorOpen(t.Context(), operator, "the victim's reason", time.Hour)
	must(t, err)
	group := v.as(t, v.owner, "POST", "/api/v1/groups", object{"name": "the victim's group"})
	v.as(t, v.owner, "POST", "/api/v1/roles", object{"name": "victims", "description": "the victim's role", "capabilities": []string{"verify"}})
	proof := n.get(t, "/api/v1/audit/proofs/0", v.key).want(t, http.StatusOK)
	v.log = proof.text("log_id")
	maps.Copy(v.ids, map[string]string{
		"agent": agent.text("agent_id"), "token": agent.text("jti"), "key": key, "request": agent.Header.Get("X-Request-Id"), "seq": "4", "key owner": "user_17",
		"use": use.ID.String(), "group": group.text("group_id"), "role": "victims", "monday": "2026-11-16",
	})
	for _, o := range n.api.Operations() { // all that is the victim's is there before somebody comes for it
		v.path(t, operation{id: o.ID, method: o.Method, path: o.Path})
		v.body(t, o.ID)
	}
	v.words = map[string]string{
		"organisation": v.id.String(), "name": "Victim", "contact": "owner@victim", "anything": "the victim's", "scope": "victim:scope", "key": key, "agent": agent.text("agent_id"),
		"token": agent.text("token"), "token id": agent.text("jti"), "owner key": v.key, "log": v.log, "leaf": proof.text("leaf"), "use": use.ID.String(),
	}
	v.whole = whole
	return v
}

// path fills an operation's path with what is the victim's.
func (v victim) path(t testing.TB, o operation) string {
	t.Helper()
	path, _ := v.place.path(t, web.Op{ID: o.id, Method: o.method, Path: o.path}, v.owner)
	return path
}

// request is one that would work on an object of one's own: a refusal must be for its being another's.
func (v victim) request(t testing.TB, id string) any {
	t.Helper()
	switch id {
	case "update-agent", "update-key", "update-member", "update-group":
		return object{"name": "taken"}
	case "update-organisation":
		return object{"name": "Taken"}
	case "set-agent-scopes":
		return object{"scopes": []string{"read:email"}}
	case "rotate-key":
		return object{"overlap_seconds": 60}
	case "revoke-key":
		return object{"children": true}
	case "verify-key":
		return object{"key": v.whole}
	case "verify":
		return object{"token": v.words["token"], "target_resource": "here", "scopes_requested": []string{"read:email"}}
	case "update-rules":
		return object{"retention_days": 400}
	}
	return v.body(t, id)
}

// state is all that the organisation can see of itself.
func (n *live) state(t testing.TB, v victim) string {
	t.Helper()
	var b strings.Builder
	for _, path := range []string{
		"/api/v1/organisation", "/api/v1/keys", "/api/v1/key-owners", "/api/v1/agents", "/api/v1/scopes", "/api/v1/incidents", "/api/v1/members", "/api/v1/groups", "/api/v1/roles", "/api/v1/organisation/rules",
		"/api/v1/invitations?state=all", "/api/v1/connections", "/api/v1/domains", "/api/v1/agents/" + v.ids["agent"] + "/tokens",
	} {
		b.WriteString(n.get(t, path, v.key).want(t, http.StatusOK).Raw)
	}
	return b.String()
}

// forPeople are operations that no key may ask for, whosever the object is.
func forPeople(o operation) bool {
	return strings.Contains(o.id, "break-glass") || o.id == "confirm-deletion" || strings.Contains(o.path, "/factors/") || strings.HasPrefix(o.path, "/api/v1/sessions/")
}

// public are operations that show something of an organisation to everybody, on purpose.
func public(id string) bool { return id == "agent-did" || id == "saml-metadata" }

// mailing gives a server somebody to hand mail to, who takes none: without one, nobody can be invited.
func mailing(c *Config) {
	c.Mail = mail.Config{Server: "127.0.0.1:1", From: "avouch@host.example"}
}

func TestOtherTenantGetsNothing(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t, mailing)
	v, thief := n.victim(t), n.organisation(t, "Thief")
	before, entries := n.state(t, v), len(n.entries(t, v.id, ""))
	for _, o := range n.operations(t) {
		q := ask{Method: o.method, Path: v.path(t, o), Body: v.request(t, o.id), Key: thief.key, Header: map[string]string{"If-Match": "*"}}
		if q.Body == nil && o.described["requestBody"] != nil {
			t.Errorf("%s: say here what a good request is", o.id)
		}
		if o.id == "update-organisation" {
			q.Header["If-Match"] = n.get(t, "/api/v1/organisation", thief.key).Header.Get("Etag")
		}
		status, seen := n.whole(t, q)
		if public(o.id) {
			continue
		}
		for what, word := range v.words {
			if holds(seen, word) {
				t.Errorf("%s shows the victim's %s: %.300s", o.id, what, seen)
			}
		}
		// Whom a browser or a system of another kind comes for, it must prove first.
		if strings.Contains(o.path, "{") && elsewhere()[o.id] == "" && open()[o.id] == "" && status != http.StatusNotFound &&
			(!forPeople(o) || status != http.StatusForbidden && status != http.StatusUnauthorized) {
			t.Errorf("%s on another's is %d, and not 404: %.300s", o.id, status, seen)
		}
	}
	if after := n.state(t, v); after != before {
		t.Errorf("something of the victim's changed:\n%s\n%s", before, after)
	}
	for _, e := range n.entries(t, v.id, "")[entries:] {
		if e.Type != "audit.read" && e.Type != "agent.verified" && e.Actor.ID != "" && !strings.Contains(v.key, e.Actor.ID) {
			t.Errorf("the victim's log has an entry of another: %+v", e.Entry)
		}
	}
}

// whole is the status and all of an answer, unpacked; of a stream, what comes in a while.
func (n *live) whole(t testing.TB, q ask) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if strings.HasSuffix(q.Path, "/stream") {
		q.Path += "?from=0"
		ctx, cancel = context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
	}
	r, err := n.request(ctx, q)
	must(t, err)
	got, err := n.client.Do(r)
	must(t, err)
	defer got.Body.Close()
	b, err := io.ReadAll(got.Body)
	if err != nil && ctx.Err() == nil {
		t.Errorf("%s: %v", q.Path, err)
	}
	if z, err := gzip.NewReader(bytes.NewReader(b)); err == nil {
		b, err = io.ReadAll(z)
		must(t, err)
	}
	return got.StatusCode, string(b) + fmt.Sprint(got.Header)
}

// holds looks for a word as it is, and in the forms in which bytes travel.
func holds(text, word string) bool {
	raw := []byte(word)
	if id, err := hex.DecodeString(strings.ReplaceAll(word, "-", "")); err == nil && len(id) >= 16 {
		raw = id
	}
	return strings.Contains(text, word) || bytes.Contains([]byte(text), raw) || strings.Contains(text, base64.StdEncoding.EncodeToString(raw))
}

// The eyes of the test above: the victim itself sees each of these words.
func TestVictimSeesItself(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t, mailing)
	v := n.victim(t)
	var all strings.Builder
	all.WriteString(n.state(t, v))
	for _, path := range []string{"/api/v1/audit/entries", "/api/v1/audit/export", "/api/v1/audit/stream", "/api/v1/audit/proofs/0", "/api/v1/requests/" + v.ids["request"]} {
		status, seen := n.whole(t, ask{Method: "GET", Path: path, Key: v.key})
		if status != http.StatusOK || len(seen) < 200 {
			t.Errorf("%s: %d %s", path, status, seen)
		}
		all.WriteString(seen)
	}
	for what, word := range v.words {
		if secret := what == "token" || what == "owner key"; holds(all.String(), word) == secret {
			t.Errorf("the victim's own answers: the %s is there: %t", what, !secret)
		}
	}
}

// Without a credential, and with one that proves nothing, every route that is not meant for strangers is closed.
func TestEveryRouteWithoutAKey(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t, mailing, func(c *Config) { c.SignUp = false })
	v := n.victim(t)
	damaged := v.key[:len(v.key)-1] + string("01"[strings.Count(v.key[len(v.key)-1:], "0")])
	forged := v.words["token"][:len(v.words["token"])-8] + "AAAAAAAA"
	strangers := []string{}
	for _, o := range n.operations(t) {
		open := o.described["security"] == nil
		if open {
			strangers = append(strangers, o.id)
		}
		for what, header := range map[string]map[string]string{
			"no key": nil, "a damaged key": {"Authorization": "Bearer " + damaged}, "a forged token": {"Authorization": "Bearer " + forged}, "another scheme": {"Authorization": "Basic " + v.key},
			"two keys": {"Authorization": "Bearer " + v.key, "X-Api-Key": damaged}, "nonsense": {"X-Api-Key": "x"},
		} {
			a := n.call(t, ask{Method: o.method, Path: v.path(t, o), Body: v.request(t, o.id), Header: header})
			switch {
			case open:
			case a.Status != http.StatusUnauthorized || a.kind() != "unauthenticated" && !ofDirectories(o.id) || !strings.HasPrefix(a.Header.Get("Www-Authenticate"), "Bearer"):
				t.Errorf("%s with %s: %d %s", o.id, what, a.Status, a.Raw)
			case strings.Contains(a.Raw, "victim"):
				t.Errorf("%s with %s tells: %s", o.id, what, a.Raw)
			}
		}
	}
	want := slices.Sorted(maps.Keys(open()))
	want = slices.DeleteFunc(want, func(id string) bool { // what only browsers are sent to is not described
		return slices.ContainsFunc(n.api.Operations(), func(o web.Op) bool { return o.ID == id && o.Hidden })
	})
	if !slices.Equal(strangers, want) {
		t.Errorf("strangers may ask %v, and were meant to ask %v", strangers, want)
	}
	n.call(t, ask{Method: "POST", Path: "/api/v1/organisations", Body: map[string]any{"name": "A"}}).want(t, http.StatusForbidden)
}

// ofDirectories are operations that say what failed as SCIM has it.
func ofDirectories(id string) bool { return strings.HasPrefix(id, "scim-") }

// A key of one's own that lacks the capability gets no further than the gate.
func TestEveryRouteWithoutTheCapability(t *testing.T) {
	t.Parallel()
	n := newSite(t).start(t, mailing)
	v := n.victim(t)
	key, _ := n.newKey(t, v.party, map[string]any{"kind": "owner", "scopes": []string{"read:identity"}})
	for _, o := range n.operations(t) {
		needs := capabilities(o)
		if len(needs) == 0 {
			continue
		}
		a := n.call(t, ask{Method: o.method, Path: v.path(t, o), Key: key, Body: v.request(t, o.id), Header: map[string]string{"If-Match": "*"}})
		if a.Status != http.StatusForbidden || a.kind() != "denied" && !ofDirectories(o.id) || !strings.Contains(a.text("detail"), needs[0]) {
			t.Errorf("%s needs %v: %d %s", o.id, needs, a.Status, a.Raw)
		}
	}
}

// capabilities is what an operation says that it needs.
func capabilities(o operation) (all []string) {
	schemes, _ := o.described["security"].([]any)
	for _, s := range schemes {
		for _, scopes := range s.(map[string]any) {
			for _, c := range scopes.([]any) {
				all = append(all, c.(string))
			}
		}
	}
	return all
}
