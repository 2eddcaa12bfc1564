package apikey

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

func TestIdentify(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	made := f.service(t, owner, NewKey{})
	elsewhere := on(f.Another(t)) // a server that has nothing in memory
	for range 2 {
		for _, room := range []*Room{f.room, elsewhere.room} {
			who, err := room.Identify(t.Context(), made.Secret.Expose())
			if err != nil || who != (Identity{id, made.ID}) {
				t.Errorf("identified as %v, %v", who, err)
			}
		}
	}
	meta := web.RequestMeta{CallerRequestID: "theirs"}
	c, err := elsewhere.room.Authenticate(t.Context(), made.Secret.Expose(), meta)
	if err != nil || c.Tenant() != id || c.Actor() != (audit.Actor{Kind: audit.ActorKey, ID: made.ID}) || !c.May("verify") || c.May("keys:write") || c.May("*") {
		t.Errorf("authenticated as %+v, %v", c, err)
	}
}

// forge makes a well-formed key of an id that somebody has, with another secret.
func forge(made Created) string {
	other, _ := mint(made.Kind, made.Live)
	body := made.Secret.Expose()[:21] + other.Expose()[21:64]
	return body + checksum(body)
}

func TestAllRefusalsLookAlike(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	made, gone := f.service(t, owner, NewKey{}), f.service(t, owner, NewKey{})
	if _, err := f.room.Revoke(t.Context(), owner, gone.ID); err != nil {
		t.Fatal(err)
	}
	unknown, _ := mint(Service, true)
	retagged := "avk" + made.Secret.Expose()[3:64]
	before := len(f.Entries(t, id))
	texts := map[string]bool{}
	for what, raw := range map[string]string{
		"nothing": "", "junk": "hello", "mistyped": made.Secret.Expose()[:69] + "!", "unknown": unknown.Expose(), "a wrong secret": forge(made),
		"another tag": retagged + checksum(retagged), "the hint": made.Hint, "revoked": gone.Secret.Expose(),
	} {
		for range 2 { // the second time from memory
			c, err := f.room.Authenticate(t.Context(), raw, web.RequestMeta{})
			want(t, err, problem.Unauthenticated, what)
			if c.Tenant() != (tenantdb.TenantID{}) || len(c.Scopes()) > 0 {
				t.Errorf("%s: refused as %+v", what, c)
			}
			texts[fmt.Sprintf("%v %+v", err, *problem.Of(err))] = true
		}
	}
	if len(texts) != 1 {
		t.Errorf("refusals differ: %v", texts)
	}
	if n := len(f.Entries(t, id)) - before; n != 2 {
		t.Errorf("%d entries for two uses of one real key", n)
	}
}

// TestRefusedStates: on a server that remembers the key, and on one that does not.
func TestRefusedStates(t *testing.T) {
	t.Parallel()
	f := open(t)
	other := on(f.Another(t))
	id, owner := f.owner(t, "Acme")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for reason, end := range map[string]func(Created){
		"revoked":  func(k Created) { do(second(other.room.Revoke(t.Context(), owner, k.ID))) },
		"disabled": func(k Created) { do(second(other.room.Disable(t.Context(), owner, k.ID))) },
		"expired":  func(Created) { f.now.move(2 * time.Hour) },
	} {
		made := f.service(t, owner, NewKey{ExpiresAt: f.now.Now().Add(time.Hour)})
		f.as(t, made)
		end(made)
		refused(t, f, id, made, reason)
	}
	made := f.service(t, owner, NewKey{})
	f.as(t, made)
	f.Admin(t, `ALTER TABLE avouch.organisation DISABLE TRIGGER require_entry`)
	f.Admin(t, `UPDATE avouch.organisation SET suspended_at = now() WHERE tenant_id = $1`, id.String())
	refused(t, f, id, made, "organisation_suspended")
	f.Admin(t, `UPDATE avouch.organisation SET suspended_at = NULL WHERE tenant_id = $1`, id.String())
	f.as(t, made)
	do(second(f.room.Disable(t.Context(), owner, made.ID)))
	do(second(f.room.Enable(t.Context(), owner, made.ID)))
	f.as(t, made)
}

func refused(t *testing.T, f fixture, id tenantdb.TenantID, made Created, reason string) {
	t.Helper()
	for range 2 {
		_, err := f.room.Authenticate(t.Context(), made.Secret.Expose(), web.RequestMeta{})
		want(t, err, problem.Unauthenticated, reason)
	}
	e := f.Last(t, id)
	if e.Type != "key.refused" || e.Outcome != audit.Denied || e.Field("reason") != reason || e.Target.ID != made.ID || e.Actor.ID != made.ID {
		t.Errorf("%s: the entry is %+v", reason, e)
	}
}

// TestRefusedIsToldOnce: where a server bounds what is written, the room writes nothing beside; and who cannot have it
// recorded is not told that the key is refused, as if it were.
func TestRefusedIsToldOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	made := f.service(t, owner, NewKey{})
	if _, err := f.room.Revoke(t.Context(), owner, made.ID); err != nil {
		t.Fatal(err)
	}
	var told []audit.Event
	var fails error
	cfg := f.room.cfg
	cfg.Refused = func(_ context.Context, c tenantdb.Caller, ev audit.Event) error {
		if c.Tenant() != id || c.Actor().ID != made.ID || c.May("verify") {
			t.Errorf("told by %+v", c)
		}
		told = append(told, ev)
		return fails
	}
	room, before := New(cfg), len(f.Entries(t, id))
	meta := web.RequestMeta{Address: netip.MustParseAddr("192.0.2.1")}
	_, err := room.Authenticate(t.Context(), made.Secret.Expose(), meta)
	want(t, err, problem.Unauthenticated, "a revoked key")
	if len(told) != 1 || told[0].Type != "key.refused" || told[0].Public[0] != (audit.Field{Name: "reason", Value: "revoked"}) || told[0].Private[0].Value != "192.0.2.1" {
		t.Errorf("told %+v", told)
	}
	fails = problem.New(problem.Unavailable, "not now")
	_, err = room.Authenticate(t.Context(), made.Secret.Expose(), meta)
	want(t, err, problem.Unavailable, "a refusal that cannot be recorded")
	if n := len(f.Entries(t, id)) - before; n != 0 {
		t.Errorf("the room wrote %d entries beside", n)
	}
}

// TestDestroyedSecret: with the organisation's secret gone, all its keys are, on a server that has them in memory too, and
// whatever is restored.
func TestDestroyedSecret(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	made := f.service(t, owner, NewKey{})
	f.as(t, made)
	if err := f.Ring.Destroy(t.Context(), id, keyring.UseAPIKey, 1); err != nil {
		t.Fatal(err)
	}
	f.now.move(knownLife)
	for _, room := range []*Room{f.room, on(f.Another(t)).room} {
		_, err := room.Identify(t.Context(), made.Secret.Expose())
		want(t, err, problem.Unauthenticated, "a destroyed secret")
	}
}

func TestUnavailableIsNotRefused(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, owner := f.owner(t, "Acme")
	made := f.service(t, owner, NewKey{})
	broken := on(f.Another(t))
	broken.DB.Close()
	_, err := broken.room.Identify(t.Context(), made.Secret.Expose())
	want(t, err, problem.Unavailable, "without a database")
	if strings.Contains(fmt.Sprint(err), made.Secret.Expose()[21:64]) {
		t.Error("the error holds the key")
	}
	if err := f.Ring.Destroy(t.Context(), owner.Tenant(), keyring.UseWrap, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.room.Identify(t.Context(), made.Secret.Expose()); err != nil {
		t.Errorf("another secret of the organisation was destroyed, and the key does not work: %v", err)
	}
}

func TestRecent(t *testing.T) {
	t.Parallel()
	m, now := newRecent[int](10, time.Minute), time.Now()
	sum := func(i int) [32]byte { return sha256.Sum256(fmt.Append(nil, i)) }
	m.put(sum(-1), -1, now)
	for i := range 1000 {
		m.put(sum(i), i, now)
		if v, ok := m.get(sum(-1), now); !ok || v != -1 {
			t.Fatalf("what is used all the time is forgotten after %d others", i)
		}
		if len(m.young)+len(m.old) > 20 {
			t.Fatalf("it holds %d", len(m.young)+len(m.old))
		}
	}
	if _, ok := m.get(sum(1), now); ok {
		t.Error("what is not used is remembered")
	}
	if _, ok := m.get(sum(-1), now.Add(time.Minute)); ok {
		t.Error("it is remembered beyond its life")
	}
}

func TestFromHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		header http.Header
		want   string
	}{
		{http.Header{}, ""},
		{http.Header{"Authorization": {"Bearer k"}}, "k"},
		{http.Header{"Authorization": {"bearer  k "}}, "k"},
		{http.Header{"Authorization": {"Basic k"}}, ""},
		{http.Header{"Authorization": {"k"}}, ""},
		{http.Header{"X-Api-Key": {"k"}}, "k"},
		{http.Header{"X-Api-Key": {" k "}, "Authorization": {"Bearer k"}}, "k"},
		{http.Header{"X-Api-Key": {"k"}, "Authorization": {"Bearer other"}}, ""},
		{http.Header{"X-Api-Key": {"k", "other"}}, ""},
		{http.Header{"Authorization": {"Bearer k", "Bearer other"}}, ""},
	} {
		if got := FromHeader(tt.header); got != tt.want {
			t.Errorf("%v: %q", tt.header, got)
		}
	}
	if !problem.Is(errors.Join(Refused()), problem.Unauthenticated) {
		t.Error("Refused is of another kind")
	}
}

// TestNoSharedReadIsTooOld has a crowd authenticate with one key all the time, so that their reads of its state are shared,
// while another server ends it: who asks after that was acknowledged is refused.
func TestNoSharedReadIsTooOld(t *testing.T) {
	t.Parallel()
	f := open(t)
	other := on(f.Another(t))
	_, owner := f.owner(t, "Acme")
	for range 10 {
		made := f.service(t, owner, NewKey{})
		var ended atomic.Bool
		var late, early atomic.Int32
		var crowd sync.WaitGroup
		for range 16 {
			crowd.Go(func() {
				for late.Load() < 40 && !t.Failed() {
					time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond) // so that some come while a read is under way
					after := ended.Load()
					_, err := f.room.Authenticate(t.Context(), made.Secret.Expose(), web.RequestMeta{})
					switch {
					case after && !problem.Is(err, problem.Unauthenticated):
						t.Errorf("after the key was disabled: %v", err)
					case after:
						late.Add(1)
					case err == nil:
						early.Add(1)
					}
				}
			})
		}
		for early.Load() < 40 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		if _, err := other.room.Disable(t.Context(), owner, made.ID); err != nil {
			t.Error(err)
		}
		ended.Store(true)
		crowd.Wait()
	}
}
