package apikey

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// dump is what whoever has a copy of the database has: every row of every table, as text.
func (f fixture) dump(t *testing.T) string {
	t.Helper()
	return f.Text(t, `SELECT string_agg(query_to_xml(format('SELECT t::text FROM %I.%I t', table_schema, table_name), true, true, '')::text, ' ')
		FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'`)
}

// nowhere fails if the database holds something, in any form that somebody would think of. there must be in it.
func (f fixture) nowhere(t *testing.T, what string, b []byte, there string) {
	t.Helper()
	dump := f.dump(t)
	if !strings.Contains(dump, there) {
		t.Fatalf("the search would find nothing: %s is not in the dump", there)
	}
	for _, form := range []string{string(b), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b)} {
		if strings.Contains(dump, form) {
			t.Errorf("the database holds %s", what)
		}
	}
}

func foreign(raw string, n NewKey) Foreign {
	if n.Name == "" {
		n.Name = "imported"
	}
	return Foreign{n, sha256.Sum256([]byte(raw))}
}

func (f fixture) found(t *testing.T, tenant tenantdb.TenantID, raw string) (string, bool) {
	t.Helper()
	id, ok, err := f.room.Find(t.Context(), tenant, raw)
	must(t, err)
	return id, ok
}

// TestImport: keys whose SHA-256 was given are found by themselves, with what was said of them, on every server; and nobody
// who has the database has the SHA-256.
func TestImport(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	other, theirs := f.owner(t, "Globex")
	raws := []string{"sk_live_51HqjMxAbCdEfGh", "0f8fad5b-d9cb-469f-a165-70867728950e", strings.Repeat("é", 200), "sixteen letters."}
	keys := make([]Foreign, len(raws))
	for i, raw := range raws {
		keys[i] = foreign(raw, NewKey{Scopes: []string{"documents:*"}, GivenTo: "alice", MaxUses: new(int64(5)), AllowedCIDRs: nets("10.0.0.0/8")})
	}
	done, err := f.room.Import(t.Context(), owner, keys)
	must(t, err)
	elsewhere := f.beside(t)
	for i, raw := range raws {
		for range 2 { // the second time from memory
			for _, g := range []fixture{f, elsewhere} {
				if got, ok := g.found(t, id, raw); !ok || got != done[i].KeyID || done[i].There {
					t.Errorf("%q is found as %q, %t; it was imported as %+v", raw, got, ok, done[i])
				}
				if got, ok := g.found(t, other, raw); ok || got == done[i].KeyID {
					t.Errorf("another organisation finds %q", raw)
				}
			}
		}
		got, err := f.room.Get(t.Context(), owner, done[i].KeyID)
		if err != nil || got.Kind != Data || !slices.Equal(got.Scopes, []string{"documents:*"}) || got.GivenTo != "alice" || *got.MaxUses != 5 || len(got.AllowedCIDRs) != 1 ||
			got.Status(f.now.Now()) != Active || got.Hint != "imported_"+got.ID || got.Prefix() != "" || got.ExpiresAt.Sub(got.CreatedAt) != DefaultLife {
			t.Errorf("it is %+v, %v", got.Key, err)
		}
		for _, wrong := range []string{raw + " ", raw[1:], strings.ToUpper(raw) + "x", hex.EncodeToString(keys[i].Hash[:])} {
			if _, ok := f.found(t, id, wrong); ok {
				t.Errorf("%q is found", wrong)
			}
		}
		f.nowhere(t, "the SHA-256 of an imported key", keys[i].Hash[:], got.Hint)
		f.nowhere(t, "an imported key", []byte(raw), got.Hint)
	}
	entries := f.OfType(t, id, "key.imported")
	if len(entries) != len(raws) || entries[0].Target.ID != done[0].KeyID || entries[0].Private["scopes"] != "documents:*" || strings.Contains(string(entries[0].Body), "documents") {
		t.Errorf("the log has %+v", entries)
	}
	again, err := f.room.Import(t.Context(), owner, append(keys[:1:1], foreign("another one of theirs", NewKey{})))
	if err != nil || !again[0].There || again[0].KeyID != done[0].KeyID || !again[0].ExpiresAt.Equal(done[0].ExpiresAt) || again[1].There {
		t.Errorf("once more: %+v, %v", again, err)
	}
	if again, err = f.room.Import(t.Context(), owner, keys); err != nil || !again[3].There || len(f.OfType(t, id, "key.imported")) != len(raws)+1 {
		t.Errorf("all once more: %+v, %v", again, err)
	}
	taken, err := f.room.Import(t.Context(), theirs, keys[:1])
	if err != nil || taken[0].There || taken[0].KeyID == done[0].KeyID {
		t.Errorf("another organisation's import of the same: %+v, %v", taken, err)
	}
	if got, ok := f.found(t, other, raws[0]); !ok || got != taken[0].KeyID {
		t.Errorf("it finds %q", got)
	}
	must(t, second(f.room.Revoke(t.Context(), owner, done[0].KeyID)))
	if got, ok := f.found(t, id, raws[0]); !ok || got != done[0].KeyID {
		t.Error("a revoked key is not found, so nobody can be told that it is revoked")
	}
}

// TestImportedKeysAuthenticateNobody: whatever is imported, whoever has it is nobody in Avouch; and importing what a key of
// ours hashes to does not make that key another.
func TestImportedKeysAuthenticateNobody(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	id, owner := f.owner(t, "Globex")
	_, victim := f.owner(t, "Initech")
	own, native := f.service(t, owner, NewKey{Scopes: []string{"verify"}}), f.service(t, victim, NewKey{})
	unborn, _ := mint(Owner, true)
	raws := []string{"sk_live_51HqjMxAbCdEfGh", own.Secret.Expose(), native.Secret.Expose(), unborn.Expose()}
	for _, raw := range raws {
		done, err := f.room.Import(t.Context(), owner, []Foreign{foreign(raw, NewKey{Scopes: []string{"*"}})})
		must(t, err)
		got, ok := f.found(t, id, raw)
		switch raw {
		case raws[0]:
			if !ok || got != done[0].KeyID {
				t.Errorf("found as %q, %t", got, ok)
			}
		case raws[1]:
			if !ok || got != own.ID {
				t.Errorf("our own key is found as %q, %t", got, ok)
			}
		default:
			if ok {
				t.Errorf("%s is found as %q", raw[:20], got)
			}
		}
	}
	for _, raw := range []string{raws[0], raws[3]} {
		_, err := f.room.Authenticate(t.Context(), raw, web.RequestMeta{})
		want(t, err, problem.Unauthenticated, "an imported key")
		for _, header := range []string{"Authorization", "X-API-Key"} {
			value := raw
			if header == "Authorization" {
				value = "Bearer " + raw
			}
			if a := (client{t, c.api, ""}).at("GET", "/api/v1/keys", "", header, value); a.Status != http.StatusUnauthorized {
				t.Errorf("in %s: %+v", header, a)
			}
		}
	}
	if who := f.as(t, own); who.Tenant() != id || who.Actor().ID != own.ID || who.May("*") {
		t.Errorf("our key is %+v", who)
	}
	if who := f.as(t, native); who.Tenant() != victim.Tenant() {
		t.Errorf("another organisation's key is %+v", who)
	}
}

func TestImportAllOrNone(t *testing.T) {
	t.Parallel()
	f, now := open(t).still(func(c *Config) { c.KeysPerOwner = 2 })
	id, owner := f.owner(t, "Acme")
	good := foreign("one that is fine", NewKey{})
	narrow := f.as(t, f.service(t, owner, NewKey{Scopes: []string{"keys:write"}, ExpiresAt: now.Now().Add(time.Hour)}))
	full := []Foreign{good}
	for _, raw := range []string{"alice's first one", "alice's second one", "alice's third one"} {
		full = append(full, foreign(raw, NewKey{GivenTo: "alice"}))
	}
	before := f.state(t)
	for what, tt := range map[string]struct {
		by   tenantdb.Caller
		keys []Foreign
		kind problem.Kind
	}{
		"none":                    {owner, nil, problem.Invalid},
		"too many":                {owner, make([]Foreign, MostImported+1), problem.Invalid},
		"one twice":               {owner, []Foreign{good, foreign("another", NewKey{}), good}, problem.Invalid},
		"a scope that is none":    {owner, []Foreign{good, foreign("a bad scope one", NewKey{Scopes: []string{"read all"}})}, problem.Invalid},
		"no name":                 {owner, []Foreign{good, {Hash: sha256.Sum256([]byte("nameless one ..."))}}, problem.Invalid},
		"an end that has been":    {owner, []Foreign{good, foreign("an old one ......", NewKey{ExpiresAt: now.Now().Add(-time.Hour)})}, problem.Invalid},
		"more than its owner may": {owner, full, problem.Conflict},
		"one that lasts longer":   {narrow, []Foreign{good, foreign("for ever and ever", NewKey{NeverExpires: true})}, problem.Denied},
	} {
		_, err := f.room.Import(t.Context(), tt.by, slices.Clone(tt.keys))
		want(t, err, tt.kind, what)
	}
	if f.state(t) != before || len(f.OfType(t, id, "key.imported")) > 0 || f.Text(t, `SELECT count(*)::text FROM avouch.api_key_finder`) != "0" {
		t.Error("something was imported")
	}
	if _, ok := f.found(t, id, "one that is fine"); ok {
		t.Error("it is found")
	}
	done, err := f.room.Import(t.Context(), owner, full[:3])
	if err != nil || len(done) != 3 {
		t.Errorf("as many as its owner may have: %v, %v", done, err)
	}
}

// TestImportsTakeFewStatements: as many for many keys as for few, since their organisation waits for all of them.
func TestImportsTakeFewStatements(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	traces := trace.NewTracerProvider(trace.WithSyncer(spans))
	f := on(open(t).Traced(t, traces))
	_, owner := f.owner(t, "Acme")
	statements := func(n int) int {
		var keys []Foreign
		for i := range n {
			raw := fmt.Sprintf("key %d of %d from elsewhere", i, n)
			keys = append(keys, foreign(raw, NewKey{GivenTo: raw, Scopes: []string{"a"}, MaxUses: new(int64(9)), RateLimits: []RateLimit{hourly("a", 5), hourly("b", 6)}}))
		}
		must(t, second(f.room.Import(t.Context(), owner, keys[:1])))
		spans.Reset()
		ctx, span := traces.Tracer("test").Start(t.Context(), "import")
		defer span.End()
		done, err := f.room.Import(ctx, owner, keys)
		if err != nil || len(done) != n || !done[0].There || done[n-1].There {
			t.Fatalf("%d imported, %v", len(done), err)
		}
		return len(spans.GetSpans())
	}
	if few, many := statements(2), statements(100); few == 0 || many > few+5 {
		t.Errorf("2 keys take %d statements, and 100 keys %d", few, many)
	}
}

// TestLargestImport: as many keys as one may hold, each with about as much as a key may have.
func TestLargestImport(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	keys := make([]any, MostImported)
	for i := range keys {
		h := sha256.Sum256([]byte(fmt.Sprint("key from elsewhere ", i)))
		keys[i] = map[string]any{"hash": hex.EncodeToString(h[:]), "name": strings.Repeat("n", 200), "owner": fmt.Sprint("owner ", i), "metadata": map[string]any{"a": strings.Repeat("x", 4000)}, "scopes": []string{strings.Repeat("s", 256)}}
	}
	a := c.do("POST", "/import", map[string]any{"keys": keys})
	if list, _ := a.Body["keys"].([]any); a.Status != http.StatusCreated || len(list) != MostImported {
		t.Errorf("%d: %.200s", a.Status, a.Raw)
	}
}

func TestImportRoute(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	hash := func(raw string) string { h := sha256.Sum256([]byte(raw)); return hex.EncodeToString(h[:]) }
	good := map[string]any{"hash": hash("sk_live_51HqjMxAbCdEfGh"), "name": "n", "scopes": []string{"a:b"}, "owner": "alice", "expires_at": "never", "max_uses": 3}
	a := c.do("POST", "/import", map[string]any{"keys": []any{good, map[string]any{"hash": strings.ToUpper(hash("an other one of these")), "name": "m"}}})
	list, _ := a.Body["keys"].([]any)
	if a.Status != http.StatusCreated || len(list) != 2 || list[0].(map[string]any)["status"] != "imported" {
		t.Fatalf("%+v", a)
	}
	id := list[0].(map[string]any)["key_id"].(string)
	if got := c.do("GET", "/"+id, nil); got.Body["kind"] != "data" || got.Body["prefix"] != "" || got.Body["owner"] != "alice" || got.Body["expires_at"] != nil || got.Body["max_uses"] != 3.0 {
		t.Errorf("it is %+v", got)
	}
	ending := map[string]any{"hash": hash("one that ends some day"), "name": "n", "expires_at": "2999-01-02T03:04:05Z"}
	for range 2 {
		if a := c.do("POST", "/import", map[string]any{"keys": []any{ending}}); a.Status != http.StatusCreated || a.Body["keys"].([]any)[0].(map[string]any)["expires_at"] != ending["expires_at"] {
			t.Errorf("one that ends: %+v", a)
		}
	}
	if a := c.do("POST", "/import", map[string]any{"keys": []any{good}}); a.Status != http.StatusCreated || !strings.Contains(a.Raw, `"there"`) || !strings.Contains(a.Raw, id) {
		t.Errorf("once more: %+v", a)
	}
	for what, wrong := range map[string]string{
		"no hash": "", "short": hash("x")[2:], "long": hash("x") + "00", "not hexadecimal": "g" + hash("x")[1:], "base64": base64.StdEncoding.EncodeToString([]byte(hash("x")))[:64],
		"a prefix": "0x" + hash("x")[2:], "spaces": " " + hash("x")[1:],
	} {
		a := c.do("POST", "/import", map[string]any{"keys": []any{map[string]any{"hash": hash("a fine new one ..."), "name": "n"}, map[string]any{"hash": wrong, "name": "n"}}})
		if a.Status != http.StatusBadRequest || !strings.Contains(a.Raw, "body.keys[1].hash") || wrong != "" && strings.Contains(a.Raw, wrong) {
			t.Errorf("%s: %+v", what, a)
		}
	}
	for _, field := range []string{`"kind":"owner"`, `"key":"x"`, `"rate_limits":[{"name":"a"}]`, `"allowed_cidrs":["x"]`, `"not_before":"2030-01-01T00:00:00Z"`} {
		if a := c.do("POST", "/import", `{"keys":[{"hash":"`+hash("a fine new one ...")+`","name":"n",`+field+`}]}`); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v", field, a)
		}
	}
	if n := f.Text(t, `SELECT count(*)::text FROM avouch.api_key_finder`); n != "3" {
		t.Errorf("%s keys are imported", n)
	}
}

// TestMistypedKeysCostNoQuery: a key of ours with one wrong character is refused by a room that has no database any more.
func TestMistypedKeysCostNoQuery(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	made := f.make(t, owner, NewKey{Kind: Data})
	cut := f.beside(t)
	cut.DB.Close()
	if _, _, err := cut.room.Find(t.Context(), id, made.Secret.Expose()); !problem.Is(err, problem.Unavailable) {
		t.Fatalf("the test would see no query: %v", err)
	}
	if _, _, err := cut.room.Find(t.Context(), id, "some key of another maker"); !problem.Is(err, problem.Unavailable) {
		t.Fatalf("the test would see no query: %v", err)
	}
	raw := made.Secret.Expose()
	free := func(text string) {
		if got, ok, err := cut.room.Find(t.Context(), id, text); got != "" || ok || err != nil {
			t.Errorf("%q costs a query: %q, %t, %v", text, got, ok, err)
		}
	}
	for i := len("avd_live_"); i < len(raw); i++ { // one in the tag may make another's key of it
		for _, b := range []byte("0Az_-. ") {
			if raw[i] != b {
				free(raw[:i] + string(b) + raw[i+1:])
			}
		}
		free(raw[:i])
		if i > 0 && raw[i] != raw[i-1] && raw[i-1] != '_' {
			free(raw[:i-1] + string([]byte{raw[i], raw[i-1]}) + raw[i+1:])
		}
	}
	for _, text := range []string{"", "short", raw + "0", strings.Repeat("x", 513), "avk_test_", "avs_live_" + strings.Repeat("0", 300)} {
		free(text)
	}
}

func FuzzHash(f *testing.F) {
	f.Add("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
	f.Add("BA7816")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHash(s)
		if err == nil && !strings.EqualFold(hex.EncodeToString(h[:]), s) || err != nil && h != [32]byte{} {
			t.Fatalf("%q is %x, %v", s, h, err)
		}
	})
}
