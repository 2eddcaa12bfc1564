package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The secrets that the stub hands out; scripts look that they are where they should be, and nowhere else.
const (
	stubKey   = "avk_test_StubKey0001_planted"
	madeKey   = "avs_live_MadeKey0001_planted"
	madeToken = "eyJplanted.eyJplanted.planted"
)

// stub answers as the documented wire does, from a table. Times are counted from now, so that they read the same always.
type stub struct {
	url  string
	etag atomic.Int64 // of the agent whose scopes are changed
}

func newStub(t *testing.T) *stub {
	t.Helper()
	s := &stub{}
	mux := http.NewServeMux()
	for pattern, body := range wire() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
	}
	mux.HandleFunc("GET /api/v1/agents", s.agents)
	mux.HandleFunc("GET /api/v1/agents/race", s.race)
	mux.HandleFunc("PUT /api/v1/agents/race/scopes", s.setRace)
	mux.HandleFunc("POST /api/v1/verify", s.verify)
	mux.HandleFunc("GET /api/v1/audit/entries", s.entries)
	mux.HandleFunc("GET /api/v1/audit/stream", s.stream)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 404, "missing", "There is no such thing", "There is no such agent.")
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") != "Bearer "+stubKey && r.URL.Path != "/api/v1/organisations" {
			refuse(w, 401, "unauthenticated", "Who is asking is not proved", "The API key proves nothing.")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func refuse(w http.ResponseWriter, status int, kind, title, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"https://avouch.example/problems/%s","title":%q,"status":%d,"detail":%q,"request_id":"req-1"}`, kind, title, status, detail)
}

func at(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }

// wire is the answers that are always the same.
func wire() map[string]string {
	agent := `{"agent_id":"agent-1","did":"did:web:avouch.example:agents:agent-1","name":"Inbox \u001b[31msorter","description":"Sorts.","status":"active","scopes":["read:email"],
		"visibility":"listed","visible_to":["tenant-2"],"created_at":"` + at(-3*time.Hour) + `","version":1,"keys":[{"kid":"k","use":"signing","algorithm":"ES256"}],"new_in_a_later_release":1}`
	key := `"key_id":"key-1","prefix":"avs_live","hint":"avs_live_key-1_...xyz","name":"Gateway","kind":"service","live":false,"status":"active","scopes":["verify"],
		"resources":["mail.example"],"owners":[],"metadata":{},"monthly_quota":100000,"created_at":"` + at(-2*time.Minute) + `","expires_at":"` + at(30*day) + `","disabled_at":null,"revoked_at":null,"version":1`
	org := `"tenant_id":"tenant-1","name":"Example","contact_email":"","created_at":"` + at(-50*day) + `","token_lifetime_seconds":3600,"live_tokens":1000,"monthly_quota":null,"version":1`
	kms := `{"kind":"transit","key_id":"transit/transit/avouch","set_by":"person:p","set_at":"` + at(-3*day) + `","open":true,"moving":false}`
	return map[string]string{
		"GET /api/v1/organisation/kms":        kms,
		"PUT /api/v1/organisation/kms":        kms,
		"POST /api/v1/organisation/kms/check": strings.Replace(kms, `"moving"`, `"why":"refused","since":"`+at(-time.Minute)+`","moving"`, 1),
		"DELETE /api/v1/organisation/kms":     `{"kind":"platform","open":true,"moving":false}`,
		"GET /api/v1/agents/agent-1":          agent,
		"POST /api/v1/agents/agent-1/suspend": strings.Replace(agent, `"active"`, `"suspended"`, 1),
		"POST /api/v1/agents/agent-1/revoke":  strings.Replace(agent, `"active"`, `"revoked"`, 1),
		"POST /api/v1/agents/register": `{"did":"did:web:x","agent_id":"agent-9","token":"` + madeToken + `","token_expires_at":"` + at(time.Hour) + `","jti":"jti-1","created_at":"` + at(0) + `",
			"scopes":["read:email"],"warnings":["The token is bound to no resource."]}`,
		"POST /api/v1/agents/agent-1/tokens": `{"token":"` + madeToken + `","jti":"jti-2","expires_at":"` + at(15*time.Minute) + `","warnings":[]}`,
		"GET /api/v1/agents/agent-1/tokens": `{"tokens":[{"jti":"jti-1","status":"live","issued_at":"` + at(-5*time.Hour) + `","expires_at":"` + at(5*time.Hour) + `","resources":["mail.example"],"max_uses":5,"used":2},
			{"jti":"jti-0","status":"expired","issued_at":"` + at(-3*time.Hour) + `","expires_at":"` + at(-2*time.Hour) + `","resources":[]}]}`,
		"POST /api/v1/agents/agent-1/tokens/jti-1/revoke": `{"jti":"jti-1","status":"revoked"}`,
		"POST /api/v1/agents/agent-1/tokens/revoke-all":   `{"agent_id":"agent-1","revoked":3,"version":2}`,
		"GET /api/v1/keys":             `{"keys":[{` + key + `}]}`,
		"GET /api/v1/keys/key-1":       `{` + key + `}`,
		"POST /api/v1/keys":            `{"key":"` + madeKey + `",` + key + `}`,
		"GET /api/v1/scopes":           `{"scopes":[{"name":"read:email","risk":"medium","description":"Read email messages","built_in":true}],"policy_version":"p"}`,
		"GET /api/v1/organisation":     `{` + org + `}`,
		"POST /api/v1/organisations":   `{` + org + `,"owner_key":"` + madeKey + `","owner_key_id":"key-2"}`,
		"GET /api/v1/requests/req-1":   trace(),
		"GET /api/v1/requests/nothing": `{"request_id":"nothing","entries":[],"spans":[]}`,
	}
}

func trace() string {
	start := time.Now().Add(-time.Minute)
	t := func(ms int) string {
		return start.Add(time.Duration(ms) * time.Millisecond).UTC().Format(time.RFC3339Nano)
	}
	return `{"request_id":"req-1","entries":[` + entryJSON(7, t(2), "") + `,` + entryJSON(8, t(9), "") + `],"spans":[
		{"name":"log.append","id":"c","parent":"a","start":"` + t(5) + `","duration_us":4200},{"name":"verify","id":"a","parent":"gone","start":"` + t(0) + `","duration_us":10000},
		{"name":"commit","id":"d","parent":"c","start":"` + t(6) + `","duration_us":3000,"failed":true},{"name":"loop","id":"e","parent":"e","start":"` + t(9) + `","duration_us":1}]}`
}

func entryJSON(seq int, when, more string) string {
	typ := "agent.verified"
	if seq%2 == 1 {
		typ = "key.created"
	}
	return fmt.Sprintf(`{"seq":%d,"leaf":"1eaf","prev":"11","log_id":"l","entry_id":"e","time":%q,"type":%q,"request_id":"req-1","actor":{"kind":"key","id":"key-1"},
		"how":"api-key","target":{"kind":"agent","id":"agent-1"},"outcome":"done","decision":"DENIED","policy":"p1","public":{"jti":"jti-1"},"private":{"reason":"No \u001b[2J scope"},"private_state":"open"%s}`, seq, when, typ, more)
}

// agents is a list of 450 in pages of what was asked for.
func (s *stub) agents(w http.ResponseWriter, r *http.Request) {
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	if limit < 1 || limit > 200 {
		refuse(w, 400, "invalid", "The request is not valid", "limit")
		return
	}
	n := 450
	if r.URL.Query().Get("status") == "revoked" {
		n = 0
	}
	var items []string
	for i := from; i < min(from+limit, n); i++ {
		items = append(items, fmt.Sprintf(`{"agent_id":"agent-%03d","name":"Agent %d","status":"active","scopes":[],"created_at":%q}`, i, i, at(-5*time.Minute)))
	}
	next := ""
	if from+limit < n {
		next = fmt.Sprintf(`,"next_cursor":"%d"`, from+limit)
	}
	fmt.Fprintf(w, `{"agents":[%s]%s}`, strings.Join(items, ","), next)
}

// race is an agent that somebody else changes between the first read and the first write.
func (s *stub) race(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, s.etag.Load()))
	scopes := `["read:files"]`
	if s.etag.Load() > 0 {
		scopes = `["read:files","call:agents"]`
	}
	fmt.Fprintf(w, `{"agent_id":"race","name":"R","status":"active","scopes":%s,"visibility":"all","created_at":%q}`, scopes, at(0))
}

func (s *stub) setRace(w http.ResponseWriter, r *http.Request) {
	if s.etag.CompareAndSwap(0, 1) || r.Header.Get("If-Match") != `"1"` {
		refuse(w, 412, "conflict", "It conflicts with what is there", "It has changed.")
		return
	}
	var body struct{ Scopes []string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		refuse(w, 400, "invalid", "The request is not valid", err.Error())
		return
	}
	out, _ := json.Marshal(body.Scopes)
	fmt.Fprintf(w, `{"agent_id":"race","name":"R","status":"active","scopes":%s,"visibility":"all","created_at":%q}`, out, at(0))
}

func (s *stub) verify(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token  string   `json:"token"`
		For    string   `json:"target_resource"`
		Scopes []string `json:"scopes_requested"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Scopes == nil {
		refuse(w, 400, "invalid", "The request is not valid", "body")
		return
	}
	agent, allowed, decision := `{"did":"did:web:x","agent_id":"agent-1","name":"Sorter","owner":"Acme","active_scopes":["read:email"]}`, body.Token == "tok-allowed", "ALLOWED"
	if !allowed {
		agent, decision = "null", "DENIED"
	}
	fmt.Fprintf(w, `{"allowed":%t,"decision":%q,"reason":"Asked for %s at %s","agent":%s,"request_id":"req-1","audit":{"log":"l","seq":41,"leaf":"1eaf"},"policy_version":"p1"}`,
		allowed, decision, strings.Join(body.Scopes, "+"), body.For, agent)
}

// entries are 0 to 9, the newest first, with the filter on types.
func (s *stub) entries(w http.ResponseWriter, r *http.Request) {
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	typ := r.URL.Query().Get("type")
	var items []string
	for seq := 9; seq >= 0 && len(items) < limit; seq-- {
		if e := entryJSON(seq, "2026-11-22T07:00:00.000001Z", ""); typ == "" || strings.Contains(e, `"`+typ+`"`) {
			items = append(items, e)
		}
	}
	fmt.Fprintf(w, `{"entries":[%s]}`, strings.Join(items, ","))
}

// stream gives 10 and breaks, and goes on behind what was seen; after 12 the key counts no longer.
func (s *stub) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 10\n\n")
	from, _ := strconv.Atoi(r.URL.Query().Get("from"))
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		n, _ := strconv.Atoi(last)
		from = n + 1
	}
	for seq := from; seq <= 12; seq++ {
		data := strings.ReplaceAll(entryJSON(seq, "2026-11-22T07:00:01Z", ""), "\n", "")
		fmt.Fprintf(w, "id: %d\nevent: entry\ndata: %s\n\n", seq, data)
		if seq == 10 {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	fmt.Fprint(w, "event: end\ndata: {}\n\n")
}
