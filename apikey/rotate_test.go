package apikey

import (
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// stillClock stands still, but for when a test moves it.
type stillClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *stillClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *stillClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// still gives the fixture a clock that stands still, which several servers share.
func (f fixture) still(changes ...func(*Config)) (fixture, *stillClock) {
	c := &stillClock{at: time.Now().UTC().Truncate(time.Microsecond)}
	cfg := f.room.cfg
	cfg.Now = c.Now
	for _, change := range changes {
		change(&cfg)
	}
	return fixture{f.Door, New(cfg), f.now}, c
}

func (f fixture) beside(t *testing.T) fixture {
	t.Helper()
	d := f.Another(t)
	cfg := f.room.cfg
	cfg.DB, cfg.Ring, cfg.Refused = d.DB, d.Ring, nil
	return fixture{d, New(cfg), f.now}
}

// TestRotationCarriesOver: all of a key, but for what makes it another generation. A field that is new to Key has to be put
// on one side or the other.
func TestRotationCarriesOver(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	id, owner := f.owner(t, "Acme")
	differs := []string{"ID", "Hint", "CreatedAt", "ExpiresAt", "LeakedAt", "Replaces", "ReplacedBy", "Noticed", "Version", "peoples", "first", "uncut"}
	common := NewKey{
		Name: "till", Metadata: map[string]any{"team": "shop", "n": 1.5}, GivenTo: "alice", MaxUses: new(int64(9)), RateLimits: []RateLimit{{"a", 1, 2}, {"b", 3, 4}},
		AllowedCIDRs: nets("10.0.0.0/8", "2001:db8::/32"), NotBefore: now.Now().Add(-time.Minute),
	}
	kinds := map[Kind]func(*NewKey){
		Owner: func(n *NewKey) { n.NeverExpires = true },
		Service: func(n *NewKey) {
			n.Scopes, n.Resources, n.Owners, n.MonthlyQuota = []string{"read:identity", "verify"}, []string{"r"}, []tenantdb.TenantID{id}, new(int64(3))
		},
		Data: func(n *NewKey) {
			n.Scopes, n.Test, n.ExpiresAt = []string{"documents:*"}, true, now.Now().Add(100*time.Hour)
		},
	}
	for kind, change := range kinds {
		n := common
		n.Kind = kind
		change(&n)
		read, err := f.room.Get(t.Context(), owner, f.make(t, owner, n).ID)
		must(t, err)
		old := read.Key
		now.move(time.Hour)
		made, err := f.room.Rotate(t.Context(), owner, old.ID, time.Minute)
		must(t, err)
		got, err := f.room.Get(t.Context(), owner, made.ID)
		must(t, err)
		was, is := reflect.ValueOf(old), reflect.ValueOf(got.Key)
		for i := range was.NumField() {
			name := was.Type().Field(i).Name
			if slices.Contains(differs, name) {
				continue
			}
			if a, b := was.Field(i).Interface(), is.Field(i).Interface(); !reflect.DeepEqual(a, b) {
				t.Errorf("%s key: %s was %v and is %v", kind, name, a, b)
			}
		}
		if p, err := Parse(made.Secret.Expose()); err != nil || p.ID != made.ID || p.Kind != kind || p.Live == n.Test || made.ID == old.ID || got.Hint != p.Hint {
			t.Errorf("%s key: the new one is %+v, %v", kind, p, err)
		}
		if got.Replaces != old.ID || got.Family() != old.ID || got.Version != 1 || got.ReplacedBy != "" || !got.LeakedAt.IsZero() || got.Noticed != 0 {
			t.Errorf("%s key: the new one is %+v", kind, got.Key)
		}
		switch {
		case n.NeverExpires != got.ExpiresAt.IsZero():
			t.Errorf("%s key: it ends at %v", kind, got.ExpiresAt)
		case !n.NeverExpires && got.ExpiresAt.Sub(got.CreatedAt) != old.ExpiresAt.Sub(old.CreatedAt):
			t.Errorf("%s key: it lives %v", kind, got.ExpiresAt.Sub(got.CreatedAt))
		}
		before, err := f.room.Get(t.Context(), owner, old.ID)
		must(t, err)
		if before.ReplacedBy != made.ID || before.Version != 2 || !before.ExpiresAt.Equal(now.Now().Add(time.Minute)) {
			t.Errorf("%s key: the old one is %+v", kind, before.Key)
		}
		e := f.Last(t, id)
		if e.Type != "key.rotated" || e.Target.ID != old.ID || e.Field("to") != made.ID || e.Field("overlap_seconds") != "60" || e.Actor != owner.Actor() || e.Private["name"] != "till" {
			t.Errorf("%s key: the entry is %+v", kind, e)
		}
	}
}

// TestOverlap: the old key works until the overlap ends, on every server, and not an instant longer; and never longer than it
// would have.
func TestOverlap(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	other := f.beside(t)
	_, owner := f.owner(t, "Acme")
	works := func(what string, k Created, should bool) {
		t.Helper()
		for _, room := range []*Room{f.room, other.room} {
			_, err := room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{})
			if should && err != nil || !should && !problem.Is(err, problem.Unauthenticated) {
				t.Errorf("%s: %v, should work: %t", what, err, should)
			}
		}
	}
	for _, overlap := range []time.Duration{0, time.Second, MostOverlap} {
		old := f.service(t, owner, NewKey{NeverExpires: true})
		works("before", old, true)
		made, err := f.room.Rotate(t.Context(), owner, old.ID, overlap)
		must(t, err)
		works("the new one", made, true)
		if overlap > 0 {
			now.move(overlap - time.Microsecond)
			works("an instant before the overlap ends", old, true)
			now.move(time.Microsecond)
		}
		works("when the overlap has ended", old, false)
		works("the new one, then", made, true)
	}
	short := f.service(t, owner, NewKey{ExpiresAt: now.Now().Add(time.Hour)})
	_, err := f.room.Rotate(t.Context(), owner, short.ID, MostOverlap)
	must(t, err)
	if got, err := f.room.Get(t.Context(), owner, short.ID); err != nil || !got.ExpiresAt.Equal(short.ExpiresAt) {
		t.Errorf("the overlap makes the old key live until %v, %v", got.ExpiresAt, err)
	}
	for _, overlap := range []time.Duration{-1, -time.Hour, MostOverlap + 1, MostOverlap + time.Second} {
		k := f.service(t, owner, NewKey{})
		_, err := f.room.Rotate(t.Context(), owner, k.ID, overlap)
		want(t, err, problem.Invalid, overlap.String())
		works("after a rotation that is refused", k, true)
	}
}

func TestRotateRoute(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.client(t)
	old := c.do("POST", "", `{"name":"k","kind":"service","owner":"alice"}`).Body
	id := old["key_id"].(string)
	for _, body := range []string{`{"overlap_seconds":-1}`, `{"overlap_seconds":2592001}`, `{"overlap_seconds":1.5}`, `{"overlap_seconds":"1"}`, `{"overlap":1}`} {
		if a := c.do("POST", "/"+id+"/rotate", body); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v", body, a)
		}
	}
	first := c.do("POST", "/"+id+"/rotate", `{"overlap_seconds":2592000}`, "Idempotency-Key", "k")
	again := c.do("POST", "/"+id+"/rotate", `{"overlap_seconds":2592000}`, "Idempotency-Key", "k")
	if first.Status != http.StatusCreated || first.Raw != again.Raw || first.Body["replaces"] != id || first.Body["owner"] != "alice" || first.Body["key"] == old["key"] ||
		first.Header.Get("Location") != "/api/v1/keys/"+first.Body["key_id"].(string) {
		t.Errorf("%+v and %+v", first, again)
	}
	if got := c.do("GET", "/"+id, nil); got.Body["replaced_by"] != first.Body["key_id"] || got.Body["status"] != "active" || got.Header.Get("ETag") != `"2"` {
		t.Errorf("the old one is %+v", got)
	}
	if a := c.do("POST", "/"+id+"/rotate", nil); a.Status != http.StatusConflict {
		t.Errorf("rotate it again: %+v", a)
	}
	if a := c.do("POST", "/"+first.Body["key_id"].(string)+"/rotate", nil); a.Status != http.StatusCreated {
		t.Errorf("without a body: %+v", a)
	}
	if got := c.do("GET", "/"+first.Body["key_id"].(string), nil); got.Body["status"] != "revoked" {
		t.Errorf("without an overlap the old one is %+v", got)
	}
}

// TestTwoGenerations: not more than two live, what has ended is replaced by nothing, and of a crowd that rotates a key one does.
func TestTwoGenerations(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	other := f.beside(t)
	id, owner := f.owner(t, "Acme")
	first := f.service(t, owner, NewKey{})
	second_, err := f.room.Rotate(t.Context(), owner, first.ID, MostOverlap)
	must(t, err)
	third, err := f.room.Rotate(t.Context(), owner, second_.ID, MostOverlap)
	must(t, err)
	f.as(t, second_)
	f.as(t, third)
	_, err = other.room.Authenticate(t.Context(), first.Secret.Expose(), web.RequestMeta{})
	want(t, err, problem.Unauthenticated, "the generation before the last two")
	if e := f.OfType(t, id, "key.rotated")[1]; e.Field("ended") != first.ID {
		t.Errorf("that it ended is not in the log: %+v", e)
	}
	ended := map[string]Created{"replaced": second_}
	for what, end := range map[string]func(Created) error{
		"revoked":  func(k Created) error { return second(f.room.Revoke(t.Context(), owner, k.ID)) },
		"disabled": func(k Created) error { return second(f.room.Disable(t.Context(), owner, k.ID)) },
		"expired":  func(Created) error { now.move(time.Hour); return nil },
	} {
		k := f.service(t, owner, NewKey{ExpiresAt: now.Now().Add(time.Hour)})
		must(t, end(k))
		ended[what] = k
	}
	keys := f.Text(t, `SELECT count(*)::text FROM avouch.api_key`)
	for what, k := range ended {
		_, err := f.room.Rotate(t.Context(), owner, k.ID, 0)
		want(t, err, problem.Conflict, "rotate a key that is "+what)
	}
	_, err = f.room.Rotate(t.Context(), owner, "nobodyskey0", 0)
	want(t, err, problem.Missing, "rotate a key that is not there")
	if f.Text(t, `SELECT count(*)::text FROM avouch.api_key`) != keys {
		t.Error("a key was made all the same")
	}
	k, done := f.service(t, owner, NewKey{}), atomic.Int32{}
	var crowd sync.WaitGroup
	for i := range 8 {
		crowd.Go(func() {
			switch _, err := []*Room{f.room, other.room}[i%2].Rotate(t.Context(), owner, k.ID, time.Hour); {
			case err == nil:
				done.Add(1)
			case !problem.Is(err, problem.Conflict):
				t.Error(err)
			}
		})
	}
	if crowd.Wait(); done.Load() != 1 {
		t.Errorf("%d successors", done.Load())
	}
}

// TestRotationDoesNotProlong: neither its own life, by rotating itself or its successors, nor that of another key beyond it.
func TestRotationDoesNotProlong(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	_, owner := f.owner(t, "Acme")
	end := now.Now().Add(10 * time.Hour)
	k := f.service(t, owner, NewKey{Scopes: []string{"keys:write", "verify"}, ExpiresAt: end})
	life := k.ExpiresAt.Sub(k.CreatedAt)
	peer := f.service(t, owner, NewKey{Scopes: []string{"verify"}, NeverExpires: true})
	for range 4 {
		made, err := f.room.Rotate(t.Context(), f.as(t, k), k.ID, time.Hour)
		must(t, err)
		if made.ExpiresAt.After(end) {
			t.Fatalf("a key that ends at %v made itself live until %v", end, made.ExpiresAt)
		}
		k = made
		now.move(time.Hour)
	}
	taken, err := f.room.Rotate(t.Context(), f.as(t, k), peer.ID, 0)
	must(t, err)
	if !taken.ExpiresAt.Equal(k.ExpiresAt) {
		t.Errorf("by a key that ends at %v, one is made that ends at %v", k.ExpiresAt, taken.ExpiresAt)
	}
	// By a key that lasts, what was cut short is made to live as it was to.
	for what, tt := range map[string]struct {
		k    Created
		life time.Duration
	}{"itself": {k, life}, "another": {taken, 0}} {
		for range 2 {
			made, err := f.room.Rotate(t.Context(), owner, tt.k.ID, 0)
			must(t, err)
			if tt.life == 0 && !made.ExpiresAt.IsZero() || tt.life > 0 && made.ExpiresAt.Sub(made.CreatedAt) != tt.life {
				t.Errorf("what a key made of %s lives, rotated by one that lasts, until %v", what, made.ExpiresAt)
			}
			tt.k = made
		}
	}
	weak := f.service(t, owner, NewKey{})
	_, err = f.room.Rotate(t.Context(), f.as(t, weak), weak.ID, 0)
	want(t, err, problem.Denied, "a key without keys:write rotates itself")
}

// TestGenerationsHaveTheNewestLimits: what the newest generation's limits are changed to holds for those before it.
func TestGenerationsHaveTheNewestLimits(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	for what, tt := range map[string]struct {
		begins NewKey
		change Change
		uses   int
	}{
		"fewer uses":       {NewKey{MaxUses: new(int64(100))}, Change{MaxUses: new(int64(2))}, 2},
		"a lower rate":     {NewKey{RateLimits: []RateLimit{hourly("r", 100)}}, Change{RateLimits: &[]RateLimit{hourly("r", 3)}}, 3},
		"another rate":     {NewKey{RateLimits: []RateLimit{hourly("r", 1)}}, Change{RateLimits: &[]RateLimit{hourly("q", 3)}}, 3},
		"uses, at last":    {NewKey{}, Change{MaxUses: new(int64(2))}, 2},
		"a rate, at last":  {NewKey{}, Change{RateLimits: &[]RateLimit{hourly("r", 1)}}, 1},
		"no rate any more": {NewKey{RateLimits: []RateLimit{hourly("r", 1)}}, Change{RateLimits: &[]RateLimit{}}, 5},
	} {
		old := f.service(t, owner, tt.begins)
		next, err := f.room.Rotate(t.Context(), owner, old.ID, time.Hour)
		must(t, err)
		must(t, second(f.room.Update(t.Context(), owner, next.ID, "", tt.change)))
		good := 0
		for range 5 {
			if err := f.use(t.Context(), old); err == nil {
				good++
			} else if !problem.Is(err, problem.TooMany) {
				t.Error(err)
			}
		}
		if good != tt.uses {
			t.Errorf("%s: the generation before was used %d times, want %d", what, good, tt.uses)
		}
	}
}

// TestRotationGoesOnCounting: whatever meters a key counts on, whichever generation is used.
func TestRotationGoesOnCounting(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	for what, n := range map[string]NewKey{"uses": {MaxUses: new(int64(4))}, "a rate limit": {RateLimits: []RateLimit{hourly("r", 4)}}} {
		old := f.service(t, owner, n)
		counters := f.Text(t, `SELECT count(*)::text FROM avouch.counter`)
		must(t, f.use(t.Context(), old))
		made, err := f.room.Rotate(t.Context(), owner, old.ID, time.Hour)
		must(t, err)
		must(t, f.use(t.Context(), made))
		must(t, f.use(t.Context(), old))
		last, err := f.room.Rotate(t.Context(), owner, made.ID, time.Hour)
		must(t, err)
		must(t, f.use(t.Context(), last))
		want(t, f.use(t.Context(), last), problem.TooMany, what+", the newest")
		want(t, f.use(t.Context(), made), problem.TooMany, what+", the one before")
		if f.Text(t, `SELECT count(*)::text FROM avouch.counter`) != counters {
			t.Errorf("%s: a rotation makes counters of its own", what)
		}
	}
}
