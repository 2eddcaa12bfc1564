package apikey

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

func (f fixture) seen(t *testing.T, by tenantdb.Caller, id string) Seen {
	t.Helper()
	s, err := f.room.Get(t.Context(), by, id)
	must(t, err)
	return s
}

// TestLastUse: off the request's path, batched, with the address and the client sealed, and counted in the log where a use has
// no entry of its own.
func TestLastUse(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	id, owner := f.owner(t, "Acme")
	k, quiet := f.service(t, owner, NewKey{}), f.service(t, owner, NewKey{})
	who := Identity{id, k.ID}
	first := now.Now()
	for range 3 {
		f.room.Used(who, LastUse{At: now.Now(), Address: netip.MustParseAddr("203.0.113.77"), Agent: "first/1"}, false)
		now.move(time.Second)
	}
	f.room.Used(who, LastUse{At: now.Now(), Address: netip.MustParseAddr("2001:db8:77::1"), Agent: "till/2.0 (planted)"}, true)
	if s := f.seen(t, owner, k.ID); !s.At.IsZero() {
		t.Errorf("it is written at once: %+v", s.LastUse)
	}
	must(t, f.room.Flush(t.Context()))
	if s := f.seen(t, owner, k.ID); !s.At.Equal(now.Now()) || s.Address != netip.MustParseAddr("2001:db8:77::1") || s.Agent != "till/2.0 (planted)" {
		t.Errorf("the last use is %+v", s.LastUse)
	}
	if s := f.seen(t, owner, quiet.ID); s.LastUse != (LastUse{}) {
		t.Errorf("of a key that was not used it is %+v", s.LastUse)
	}
	keys, err := f.room.List(t.Context(), owner, Filter{Kind: Service}, nil, 10)
	if err != nil || len(keys) != 2 || !keys[1].At.Equal(now.Now()) || keys[1].Agent != "" || keys[1].Address.IsValid() {
		t.Errorf("the list has %+v, %v", keys, err)
	}
	found := f.OfType(t, id, "key.used")
	if len(found) != 1 || found[0].Target.ID != k.ID || found[0].Field("times") != "3" || found[0].Field("since") != stamp(first) || found[0].Field("until") != stamp(now.Now()) {
		t.Errorf("the log has %+v", found)
	}
	for _, text := range []string{"203.0.113.77", "2001:db8:77::1", "planted"} {
		f.nowhere(t, text, []byte(text), k.Hint)
	}
	must(t, f.room.Flush(t.Context()))
	f.room.Used(who, LastUse{At: now.Now()}, true)
	must(t, f.room.Flush(t.Context()))
	if n := len(f.OfType(t, id, "key.used")); n != 1 {
		t.Errorf("%d entries: what is recorded already, or was not, is counted", n)
	}
	long := strings.Repeat("a", mostAgent-1) + "é and much more"
	now.move(time.Second)
	f.room.Used(who, LastUse{At: now.Now(), Agent: long}, true)
	must(t, f.room.Flush(t.Context()))
	if s := f.seen(t, owner, k.ID); len(s.Agent) > mostAgent || !utf8.ValidString(s.Agent) || !strings.HasPrefix(long, s.Agent) {
		t.Errorf("a long client is %q", s.Agent)
	}
}

// TestFlushSurvivesFailure: what could not be written is written the next time, with what came since, and nothing twice.
func TestFlushSurvivesFailure(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	id, owner := f.owner(t, "Acme")
	k, ended := f.service(t, owner, NewKey{}), f.service(t, owner, NewKey{})
	must(t, second(f.room.Revoke(t.Context(), owner, ended.ID)))
	use := func() {
		f.room.Used(Identity{id, k.ID}, LastUse{At: now.Now(), Agent: stamp(now.Now())}, false)
		_, err := f.room.Authenticate(t.Context(), ended.Secret.Expose(), web.RequestMeta{})
		want(t, err, problem.Unauthenticated, "a revoked key")
		now.move(time.Minute)
	}
	fails := func(what string) {
		t.Helper()
		if err := f.room.Flush(t.Context()); err == nil {
			t.Errorf("%s, and Flush does not say so", what)
		}
	}
	start := now.Now()
	use()
	f.Admin(t, `ALTER TABLE avouch.api_key_use RENAME TO away`)
	fails("the table is away")
	use()
	fails("the table is away")
	f.Admin(t, `ALTER TABLE avouch.away RENAME TO api_key_use`)
	rights := func(words, role string) {
		f.Admin(t, `DO $do$ DECLARE p oid; BEGIN FOR p IN SELECT oid FROM pg_proc WHERE proname = 'append' AND pronamespace = 'avouch'::regnamespace LOOP
			EXECUTE '`+words+` EXECUTE ON FUNCTION ' || p::regprocedure || ' `+role+`'; END LOOP; END $do$`)
	}
	rights("REVOKE", "FROM avouch_server")
	fails("the log takes nothing")
	rights("GRANT", "TO avouch_server")
	must(t, f.room.Flush(t.Context()))
	must(t, f.room.Flush(t.Context()))
	if s := f.seen(t, owner, k.ID); s.Agent != stamp(start.Add(time.Minute)) {
		t.Errorf("the last use is %+v", s.LastUse)
	}
	if found := f.OfType(t, id, "key.used"); len(found) != 1 || found[0].Field("times") != "2" || found[0].Field("since") != stamp(start) {
		t.Errorf("the log has %+v", found)
	}
	if n := f.Text(t, `SELECT refused::text FROM avouch.api_key_use WHERE key_id = $1`, ended.ID); n != "2" {
		t.Errorf("the revoked key was refused %s times", n)
	}
}

// TestUsesOfTwoServers: the later use counts, whichever server writes last, and refusals add up.
func TestUsesOfTwoServers(t *testing.T) {
	t.Parallel()
	f, now := open(t).still()
	other := f.beside(t)
	id, owner := f.owner(t, "Acme")
	k := f.service(t, owner, NewKey{})
	who := Identity{id, k.ID}
	f.room.Used(who, LastUse{At: now.Now(), Agent: "early"}, true)
	now.move(time.Minute)
	other.room.Used(who, LastUse{At: now.Now(), Agent: "late"}, true)
	must(t, other.room.Flush(t.Context()))
	must(t, f.room.Flush(t.Context()))
	if s := f.seen(t, owner, k.ID); s.Agent != "late" || !s.At.Equal(now.Now()) {
		t.Errorf("the last use is %+v", s.LastUse)
	}
	must(t, second(f.room.Revoke(t.Context(), owner, k.ID)))
	for range 2 {
		for _, g := range []fixture{f, other} {
			_, err := g.room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{})
			want(t, err, problem.Unauthenticated, "a revoked key")
			must(t, g.room.Flush(t.Context()))
		}
	}
	if n := f.Text(t, `SELECT refused::text FROM avouch.api_key_use WHERE key_id = $1`, k.ID); n != "4" {
		t.Errorf("refused %s times", n)
	}
	if s := f.seen(t, owner, k.ID); s.Agent != "late" {
		t.Errorf("being refused is a use: %+v", s.LastUse)
	}
}

// TestUseOfAKeyThatIsGone: a database that was restored to before a key was made does not keep others' uses from being written,
// and what cannot be opened of a use is left out.
func TestUseOfAKeyThatIsGone(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	_, theirs := f.owner(t, "Globex")
	k, lost := f.service(t, owner, NewKey{}), f.service(t, theirs, NewKey{})
	at := LastUse{At: time.Now(), Agent: "x"}
	f.room.Used(Identity{id, "nobodyskey0"}, at, true)
	f.room.Used(Identity{id, lost.ID}, at, true) // another organisation's
	f.room.Used(Identity{id, k.ID}, at, true)
	must(t, f.room.Flush(t.Context()))
	if f.seen(t, owner, k.ID).Agent != "x" || f.seen(t, theirs, lost.ID).Agent != "" {
		t.Error("the use is not written, or another's is")
	}
	f.Admin(t, `UPDATE avouch.api_key_use SET client = '\x00' WHERE key_id = $1`, k.ID)
	if s := f.seen(t, owner, k.ID); s.At.IsZero() || s.Agent != "" || s.Address.IsValid() {
		t.Errorf("what cannot be opened is shown as %+v", s.LastUse)
	}
}
