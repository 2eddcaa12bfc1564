package apikey

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// fixture is a room on a real door, with a clock that tests move.
type fixture struct {
	*doortest.Door
	room *Room
	now  *clock
}

type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

func open(t *testing.T) fixture {
	return on(doortest.Open(t))
}

func on(d *doortest.Door) fixture {
	now := &clock{}
	quota := int64(1000)
	return fixture{d, New(Config{DB: d.DB, Ring: d.Ring, ServiceQuota: &quota, Now: now.Now}), now}
}

// owner makes an organisation and an owner key, and authenticates it.
func (f fixture) owner(t *testing.T, name string) (tenantdb.TenantID, tenantdb.Caller) {
	t.Helper()
	id := f.Tenant(t, name)
	made, err := f.room.Create(t.Context(), tenantdb.System(id, "test"), NewKey{Name: "root", Kind: Owner, NeverExpires: true})
	if err != nil {
		t.Fatal(err)
	}
	return id, f.as(t, made)
}

func (f fixture) as(t *testing.T, made Created) tenantdb.Caller {
	t.Helper()
	c, err := f.room.Authenticate(t.Context(), made.Secret.Expose(), web.RequestMeta{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f fixture) service(t *testing.T, by tenantdb.Caller, n NewKey) Created {
	t.Helper()
	n.Kind = Service
	if n.Name == "" {
		n.Name = "svc"
	}
	made, err := f.room.Create(t.Context(), by, n)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func want(t *testing.T, err error, kind problem.Kind, what string) {
	t.Helper()
	if !problem.Is(err, kind) {
		t.Errorf("%s: got %v, want %s", what, err, kind)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	if !owner.May("anything:at-all") {
		t.Error("an owner key may not do everything")
	}
	svc := f.service(t, owner, NewKey{})
	if !slices.Equal(svc.Scopes, []string{"audit:write", "verify"}) || *svc.MonthlyQuota != 1000 || svc.Prefix() != "avs_live" {
		t.Errorf("a service key begins as %+v", svc.Key)
	}
	if d := svc.ExpiresAt.Sub(svc.CreatedAt); d != DefaultLife {
		t.Errorf("it lives %v", d)
	}
	if f.Text(t, `SELECT used::text FROM avouch.counter WHERE subject = $1`, "key:"+svc.ID) != "0" {
		t.Error("its counter is not there")
	}
	got, err := f.room.Get(t.Context(), owner, svc.ID)
	if err != nil || !got.CreatedAt.Equal(svc.CreatedAt) || !got.ExpiresAt.Equal(svc.ExpiresAt) || !slices.Equal(got.Scopes, svc.Scopes) ||
		got.Hint != svc.Hint || got.Version != 1 {
		t.Errorf("read back as %+v, %v", got, err)
	}
	narrow := f.service(t, owner, NewKey{
		Test: true, Scopes: []string{"verify", "read:identity", "verify"}, Resources: []string{"https://api.example/"},
		Owners: []tenantdb.TenantID{owner.Tenant()}, Metadata: map[string]any{"team": "a", "n": 1.5}, MonthlyQuota: new(int64(5)), NeverExpires: true,
	})
	got, err = f.room.Get(t.Context(), owner, narrow.ID)
	if err != nil || got.Prefix() != "avs_test" || !slices.Equal(got.Scopes, []string{"read:identity", "verify"}) || got.Resources[0] != "https://api.example/" ||
		got.Owners[0] != owner.Tenant() || got.Metadata["n"] != 1.5 || *got.MonthlyQuota != 5 || !got.ExpiresAt.IsZero() || !same(got.Key, narrow.Key) {
		t.Errorf("read back as %+v, %v", got, err)
	}
}

func TestInvalidKeys(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	for what, n := range map[string]NewKey{
		"no name":                     {Kind: Service},
		"a control character":         {Kind: Service, Name: "a\nb"},
		"a name of blanks":            {Kind: Service, Name: " \u00a0 "},
		"a long name":                 {Kind: Service, Name: strings.Repeat("é", 201)},
		"no kind":                     {Name: "x"},
		"a kind there is not":         {Name: "x", Kind: "person"},
		"a data key with a quota":     {Name: "x", Kind: Data, MonthlyQuota: new(int64(1))},
		"a scope that is none":        {Name: "x", Kind: Data, Scopes: []string{"read all"}},
		"no uses":                     {Name: "x", Kind: Data, MaxUses: new(int64(0))},
		"begins after its end":        {Name: "x", Kind: Data, NotBefore: time.Now().Add(2 * time.Hour), ExpiresAt: time.Now().Add(time.Hour)},
		"a long owner":                {Name: "x", Kind: Data, GivenTo: strings.Repeat("é", 201)},
		"no scopes":                   {Name: "x", Kind: Service, Scopes: []string{}},
		"an agent's scope":            {Name: "x", Kind: Service, Scopes: []string{"read:email"}},
		"everything":                  {Name: "x", Kind: Service, Scopes: []string{"*"}},
		"expired":                     {Name: "x", Kind: Service, ExpiresAt: time.Now().Add(-time.Second)},
		"an empty resource":           {Name: "x", Kind: Service, Resources: []string{""}},
		"many resources":              {Name: "x", Kind: Service, Resources: make([]string, 51)},
		"the owner that is none":      {Name: "x", Kind: Service, Owners: make([]tenantdb.TenantID, 1)},
		"large metadata":              {Name: "x", Kind: Service, Metadata: map[string]any{"a": strings.Repeat("x", 5000)}},
		"a number beyond 2^53":        {Name: "x", Kind: Data, Metadata: map[string]any{"a": []any{map[string]any{"b": float64(1 << 53)}}}},
		"a name that turns text":      {Name: "a\u202eb", Kind: Data},
		"an owner that turns text":    {Name: "x", Kind: Data, GivenTo: "a\u202eb"},
		"an owner nobody sees":        {Name: "x", Kind: Data, GivenTo: "ada\u200b"},
		"an owner like another":       {Name: "x", Kind: Data, GivenTo: "Zoe\u0308"},
		"a negative quota":            {Name: "x", Kind: Service, MonthlyQuota: new(int64(-1))},
		"an owner key with a quota":   {Name: "x", Kind: Owner, MonthlyQuota: new(int64(1))},
		"an owner key with resources": {Name: "x", Kind: Owner, Resources: []string{"r"}},
	} {
		_, err := f.room.Create(t.Context(), owner, n)
		want(t, err, problem.Invalid, what)
	}
	for what, n := range map[string]NewKey{
		"the greatest number":      {Metadata: map[string]any{"a": []any{float64(1<<53 - 1)}, "b": -0.5}},
		"an owner in normal form":  {GivenTo: "Zo\u00eb"},
		"an emoji with its joiner": {GivenTo: "\U0001F469\u200d\U0001F4BB"},
	} {
		n.Name, n.Kind = "x", Data
		if _, err := f.room.Create(t.Context(), owner, n); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestShownOnce looks for the key, whole and in its parts, wherever it could have been left.
func TestShownOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	made := f.service(t, owner, NewKey{})
	raw := made.Secret.Expose()
	secretPart := raw[21:64]
	places := map[string]string{"print-out": fmt.Sprintf("%v %+v %#v", made, made, made)}
	for _, table := range []string{"api_key", "api_key_verifier", "audit_entry", "counter"} {
		places[table] = f.Text(t, `SELECT string_agg(x::text, ' ') FROM avouch.`+table+` x`)
	}
	for _, e := range f.Entries(t, id) {
		places["entry"] += fmt.Sprint(string(e.Body), e.Private, e.Public)
	}
	if _, err := f.room.Revoke(t.Context(), owner, made.ID); err != nil {
		t.Fatal(err)
	}
	_, err := f.room.Authenticate(t.Context(), raw, web.RequestMeta{})
	want(t, err, problem.Unauthenticated, "a revoked key")
	places["error"] = fmt.Sprintf("%v %+v", err, err)
	places["log"] = f.Logged()
	forms := []string{secretPart, hex.EncodeToString([]byte(raw)), base64.StdEncoding.EncodeToString([]byte(raw)), base64.RawURLEncoding.EncodeToString([]byte(raw))}
	for place, text := range places {
		for _, form := range forms {
			if strings.Contains(text, form) {
				t.Errorf("the %s holds the key", place)
			}
		}
	}
	if !strings.Contains(places["api_key"], made.Hint) {
		t.Error("the search would find nothing: the hint is not where it must be")
	}
}

func TestVerifiersAreUnreadable(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	made := f.service(t, owner, NewKey{})
	deny := func(sql string, args ...any) {
		t.Helper()
		if err := f.AsServer(t, id, sql, args...); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if err := f.AsServer(t, id, `SELECT key_id FROM avouch.api_key_verifier`); err != nil {
		t.Errorf("the ids: %v", err)
	}
	deny(`SELECT digest FROM avouch.api_key_verifier`)
	deny(`SELECT * FROM avouch.api_key_verifier`)
	deny(`SELECT issued_at_ns FROM avouch.api_key_verifier WHERE key_id = $1`, made.ID)
	deny(`UPDATE avouch.api_key_verifier SET digest = digest`)
	deny(`UPDATE avouch.api_key_verifier SET key_id = $1`, made.ID)
	deny(`DELETE FROM avouch.api_key_verifier`)
	deny(`DELETE FROM avouch.api_key`)
	deny(`TRUNCATE avouch.api_key_verifier`)
}

func TestOtherTenant(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, ours := f.owner(t, "Acme")
	_, theirs := f.owner(t, "Globex")
	key := f.service(t, ours, NewKey{Name: "ours"})
	_, err := f.room.Get(t.Context(), theirs, key.ID)
	want(t, err, problem.Missing, "get")
	_, err = f.room.Update(t.Context(), theirs, key.ID, "", Change{Name: new("theirs")})
	want(t, err, problem.Missing, "update")
	for what, fn := range map[string]func(context.Context, tenantdb.Caller, string) (Key, error){
		"revoke": f.room.Revoke, "disable": f.room.Disable, "enable": f.room.Enable,
	} {
		_, err := fn(t.Context(), theirs, key.ID)
		want(t, err, problem.Missing, what)
	}
	keys, err := f.room.List(t.Context(), theirs, Filter{}, nil, 100)
	if err != nil || len(keys) != 1 || keys[0].Name != "root" {
		t.Errorf("the other organisation lists %v, %v", keys, err)
	}
	if k, err := f.room.Get(t.Context(), ours, key.ID); err != nil || k.Name != "ours" || k.Version != 1 || k.Status(time.Now()) != Active {
		t.Errorf("afterwards the key is %+v, %v", k, err)
	}
	// A caller of one organisation that carries the other's key id is not that key.
	forged := tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: theirs.Tenant(), Actor: audit.Actor{Kind: audit.ActorKey, ID: key.ID}, How: "api-key", Scopes: []string{"*"},
	})
	_, err = f.room.Create(t.Context(), forged, NewKey{Name: "x", Kind: Service})
	want(t, err, problem.Unauthenticated, "a key id of another organisation")
}

func TestEverythingIsRecorded(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	made := f.service(t, owner, NewKey{Name: "Ada Lovelace's laptop", Metadata: map[string]any{"who": "Ada"}, Resources: []string{"ada.example"}})
	do := func(_ Key, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(f.room.Update(t.Context(), owner, made.ID, `"1"`, Change{Name: new("Ada's desk"), MonthlyQuota: new(int64(7))}))
	do(f.room.Update(t.Context(), owner, made.ID, "", Change{Name: new("Ada's desk")})) // changes nothing
	do(f.room.Disable(t.Context(), owner, made.ID))
	do(f.room.Disable(t.Context(), owner, made.ID)) // again
	do(f.room.Enable(t.Context(), owner, made.ID))
	do(f.room.Revoke(t.Context(), owner, made.ID))
	do(f.room.Revoke(t.Context(), owner, made.ID)) // again
	entries := f.Entries(t, id)[2:]
	var types []string
	for _, e := range entries {
		types = append(types, e.Type)
		if strings.Contains(strings.ToLower(string(e.Body)), "ada") {
			t.Errorf("%s holds free text", e.Type)
		}
		if e.Target != (audit.Target{Kind: "key", ID: made.ID}) || e.Actor != owner.Actor() || e.Outcome != audit.Done || e.Private["name"] == "" {
			t.Errorf("the entry is %+v", e)
		}
	}
	if !slices.Equal(types, []string{"key.created", "key.changed", "key.disabled", "key.enabled", "key.revoked"}) {
		t.Errorf("the log holds %v", types)
	}
	if e := entries[0]; e.Private["name"] != "Ada Lovelace's laptop" || e.Private["metadata"] != `{"who":"Ada"}` || e.Private["resources"] != `["ada.example"]` ||
		e.Field("kind") != "service" || e.Field("scopes") != "audit:write verify" || e.Field("monthly_quota") != "1000" {
		t.Errorf("created: %+v", e)
	}
	if e := entries[1]; e.Private["name"] != "Ada's desk" || e.Field("monthly_quota") != "7" || e.Field("version") != "2" {
		t.Errorf("changed: %+v", e)
	}
	_, err := f.room.Update(t.Context(), owner, made.ID, `"1"`, Change{Name: new("late")})
	if p := problem.Of(err); p == nil || p.HTTPStatus() != 412 {
		t.Errorf("from an old version: %v", err)
	}
	for what, fn := range map[string]func(context.Context, tenantdb.Caller, string) (Key, error){"disable": f.room.Disable, "enable": f.room.Enable} {
		_, err := fn(t.Context(), owner, made.ID)
		want(t, err, problem.Conflict, what+" a revoked key")
	}
}

func TestEpoch(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	var made Created
	moved := func(fn func() error) bool {
		t.Helper()
		epoch := func() string {
			return f.Text(t, `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`, id.String())
		}
		before := epoch()
		if err := fn(); err != nil {
			t.Fatal(err)
		}
		return epoch() != before
	}
	update := func(ch Change) func() error {
		return func() error { _, err := f.room.Update(t.Context(), owner, made.ID, "", ch); return err }
	}
	end := func(fn func(context.Context, tenantdb.Caller, string) (Key, error)) func() error {
		return func() error { _, err := fn(t.Context(), owner, made.ID); return err }
	}
	steps := []struct {
		what   string
		do     func() error
		alters bool
	}{
		{"create", func() error { made = f.service(t, owner, NewKey{}); return nil }, false},
		{"rename", update(Change{Name: new("other")}), true},
		{"metadata", update(Change{Metadata: &map[string]any{"a": 1.0}}), true},
		{"resources", update(Change{Resources: &[]string{"r"}}), true},
		{"owners", update(Change{Owners: &[]tenantdb.TenantID{id}}), true},
		{"quota", update(Change{MonthlyQuota: new(int64(3))}), true},
		{"disable", end(f.room.Disable), true},
		{"enable", end(f.room.Enable), true},
		{"revoke", end(f.room.Revoke), true},
		{"revoke again", end(f.room.Revoke), false},
	}
	for _, s := range steps {
		if got := moved(s.do); got != s.alters {
			t.Errorf("%s moved the epoch: %v", s.what, got)
		}
	}
}

// TestIssuedAtGrows makes keys on two servers at once whose clocks stand still or run backwards.
func TestIssuedAtGrows(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	still := time.Now().Add(time.Hour)
	rooms := []*Room{
		New(Config{DB: f.DB, Ring: f.Ring, Now: func() time.Time { return still }}),
		New(Config{DB: f.DB, Ring: f.Ring, Now: func() time.Time { return still.Add(-time.Minute) }}),
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if _, err := rooms[i%2].Create(t.Context(), owner, NewKey{Name: "k", Kind: Service}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := f.Text(t, `SELECT count(*) || ' ' || count(DISTINCT issued_at_ns) || ' ' ||
		bool_and(issued_at_ns = (extract(epoch FROM created_at) * 1000000)::bigint * 1000)
		FROM avouch.api_key_verifier JOIN avouch.api_key USING (tenant_id, key_id) WHERE tenant_id = $1`, id.String())
	if got != "13 13 true" {
		t.Errorf("keys, distinct instants, each its creation's: %s", got)
	}
	order := f.Text(t, `SELECT string_agg(k.key_id, ' ' ORDER BY v.issued_at_ns) FROM avouch.api_key_verifier v JOIN avouch.api_key k USING (tenant_id, key_id)`)
	var logged []string
	for _, e := range f.OfType(t, id, "key.created") {
		logged = append(logged, e.Target.ID)
	}
	if strings.Join(logged, " ") != order {
		t.Error("the order of instants is not the order of the log")
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	states := map[Status]string{}
	states[Active] = f.service(t, owner, NewKey{NeverExpires: true}).ID
	states[Expired] = f.service(t, owner, NewKey{ExpiresAt: time.Now().Add(time.Hour)}).ID
	states[Disabled] = f.service(t, owner, NewKey{ExpiresAt: time.Now().Add(time.Hour)}).ID
	states[Revoked] = f.service(t, owner, NewKey{ExpiresAt: time.Now().Add(time.Hour)}).ID
	for _, err := range []error{
		second(f.room.Disable(t.Context(), owner, states[Disabled])),
		second(f.room.Disable(t.Context(), owner, states[Revoked])), second(f.room.Revoke(t.Context(), owner, states[Revoked])),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.now.move(2 * time.Hour)
	for status, id := range states {
		keys, err := f.room.List(t.Context(), owner, Filter{Kind: Service, Status: status}, nil, 10)
		if err != nil || len(keys) != 1 || keys[0].ID != id || keys[0].Status(f.now.Now()) != status {
			t.Errorf("%s: %v, %v", status, keys, err)
		}
	}
	var seen []string
	var after *Position
	for {
		keys, err := f.room.List(t.Context(), owner, Filter{}, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			seen = append(seen, k.ID)
			after = &Position{k.CreatedAt, k.ID}
		}
	}
	if len(seen) != 5 || seen[0] != states[Revoked] || seen[3] != states[Active] {
		t.Errorf("page by page: %v", seen)
	}
	_, err := f.room.List(t.Context(), f.Caller(owner.Tenant(), "keys:write"), Filter{}, nil, 10)
	want(t, err, problem.Denied, "list without keys:read")
}

func second[T any](_ T, err error) error { return err }
