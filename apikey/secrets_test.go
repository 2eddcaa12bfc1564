package apikey

import (
	"math/rand/v2"
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

// TestShred: all keys of an organisation are dead at once, on every server, also in a database that is restored to before; no
// other organisation's is; and the operator can begin anew.
func TestShred(t *testing.T) {
	t.Parallel()
	f := open(t)
	other := on(f.Another(t))
	r := f.renewable(t)
	_, theirs := f.owner(t, "Globex")
	kept := f.service(t, theirs, NewKey{})
	operator := tenantdb.System(r.tenant, "operator")
	must(t, second(f.room.RenewSecret(t.Context(), operator)))
	f.useSome(t, r)
	other.useSome(t, r)
	must(t, f.room.Renew(t.Context()))
	newer := f.service(t, r.owner, NewKey{})
	revoked, err := other.room.Shred(t.Context(), operator)
	if err != nil || revoked != 6 {
		t.Fatalf("%d keys, %v", revoked, err)
	}
	dead := func(what string, g fixture) {
		t.Helper()
		for _, k := range []Created{r.used, r.idle, newer} {
			_, err := g.room.Authenticate(t.Context(), k.Secret.Expose(), web.RequestMeta{})
			want(t, err, problem.Unauthenticated, what)
		}
	}
	dead("at once", f)
	dead("at once, elsewhere", other)
	if e := f.OfType(t, r.tenant, "key_secret.shredded"); len(e) != 1 || e[0].Field("revoked") != "6" || e[0].Field("version") != "2" {
		t.Errorf("the log has %+v", e)
	}
	f.Admin(t, `ALTER TABLE avouch.api_key DISABLE TRIGGER require_entry`)
	f.Admin(t, `UPDATE avouch.api_key SET revoked_at = NULL`)
	restored := on(f.Another(t))
	dead("restored", restored)
	for _, raw := range []string{r.usedBy, r.idleBy} {
		if _, ok := restored.found(t, r.tenant, raw); ok {
			t.Error("an imported key is found in a database that was restored")
		}
	}
	other.now.move(knownLife)
	dead("restored, on the server that shredded them", other)
	restored.as(t, kept)
	if _, err := restored.room.Create(t.Context(), tenantdb.System(r.tenant, "test"), NewKey{Name: "x", Kind: Data}); err == nil {
		t.Error("a key is made with a secret that is destroyed")
	}
	made, err := restored.room.Recover(t.Context(), operator, "again")
	must(t, err)
	if c := restored.as(t, made); !c.May("*") || made.Kind != Owner || made.ExpiresAt.IsZero() {
		t.Errorf("the new first key is %+v", made.Key)
	}
	again, err := restored.room.Recover(t.Context(), operator, "and again")
	must(t, err)
	restored.as(t, again)
	if n := len(f.OfType(t, r.tenant, "key_secret.renewed")); n != 2 {
		t.Errorf("the secret was renewed %d times: Recover does so only if there is none", n)
	}
	dead("after the new secret", restored)
}

// TestOnlyTheOperator has a say in an organisation's secret.
func TestOnlyTheOperator(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, owner := f.owner(t, "Acme")
	for _, c := range []tenantdb.Caller{owner, f.Caller(id, tenantdb.Everything)} {
		for what, err := range map[string]error{
			"renew": second(f.room.RenewSecret(t.Context(), c)), "shred": second(f.room.Shred(t.Context(), c)), "recover": second(f.room.Recover(t.Context(), c, "x")),
		} {
			want(t, err, problem.Denied, what)
		}
	}
	if n := len(f.Entries(t, id)); n != 2 {
		t.Errorf("%d entries", n)
	}
}

// TestRecoveredKeyLives: a server that still has the destroyed secret in memory does not digest the new first key with it, and
// makes no key with it.
func TestRecoveredKeyLives(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := f.renewable(t)
	late := on(f.Another(t))
	late.useSome(t, r) // the secret is in this server's memory
	operator := tenantdb.System(r.tenant, "operator")
	must(t, second(f.room.Shred(t.Context(), operator)))
	first, err := f.room.Recover(t.Context(), operator, "again")
	must(t, err)
	made, err := late.room.Create(t.Context(), late.as(t, first), NewKey{Name: "x", Kind: Service})
	must(t, err)
	imported := "imported after the shredding"
	done, err := late.room.Import(t.Context(), late.as(t, first), []Foreign{foreign(imported, NewKey{})})
	must(t, err)
	rotated, err := late.room.Rotate(t.Context(), late.as(t, first), made.ID, 0)
	must(t, err)
	must(t, late.room.Renew(t.Context()))
	f.now.move(knownLife)
	late.now.move(knownLife)
	for _, g := range []fixture{f, late, on(f.Another(t))} {
		g.as(t, first)
		g.as(t, rotated)
		if id, ok := g.found(t, r.tenant, imported); !ok || id != done[0].KeyID {
			t.Errorf("the imported key is found as %q", id)
		}
	}
}

// TestKeyIsMadeWithTheSecretOfItsCommit: a key whose making began before the secret was replaced and destroyed, and waited for
// that, is made with the new one.
func TestKeyIsMadeWithTheSecretOfItsCommit(t *testing.T) {
	t.Parallel()
	f := open(t)
	r := f.renewable(t)
	late := on(f.Another(t))
	late.useSome(t, r)
	made := make(chan Created, 1)
	var waiting sync.WaitGroup
	must(t, f.DB.Change(t.Context(), tenantdb.System(r.tenant, "operator"), func(tx *tenantdb.Tx) (audit.Event, error) {
		waiting.Go(func() {
			k, err := late.room.Create(t.Context(), r.owner, NewKey{Name: "x", Kind: Service})
			if err != nil {
				t.Error(err)
			}
			made <- k
		})
		for range 500 { // until the other waits for the head
			if f.Text(t, `SELECT count(*)::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) != "0" {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if _, err := f.Ring.Renew(t.Context(), r.tenant, keyring.UseAPIKey); err != nil {
			return audit.Event{}, err
		}
		return secretEvent("key_secret.renewed", 2, false), f.Ring.Destroy(t.Context(), r.tenant, keyring.UseAPIKey, 1)
	}))
	waiting.Wait()
	on(f.Another(t)).as(t, <-made)
}

// TestKeysMadeDuringAShredding: the operator makes keys while another shreds the secret. Each is one that works, with a new secret,
// or one that was ended with the others; none is in force and cannot be proved.
func TestKeysMadeDuringAShredding(t *testing.T) {
	t.Parallel()
	f := open(t)
	other := on(f.Another(t))
	id, _ := f.owner(t, "Acme")
	operator := tenantdb.System(id, "operator")
	for range 10 {
		var made []Created
		var crowd sync.WaitGroup
		var done atomic.Bool
		crowd.Go(func() {
			for !done.Load() {
				if k, err := other.room.Recover(t.Context(), operator, "again"); err == nil {
					made = append(made, k)
				}
			}
		})
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		_, err := f.room.Shred(t.Context(), operator)
		must(t, err)
		done.Store(true)
		crowd.Wait()
		fresh := on(f.Another(t))
		for _, k := range made {
			if now, err := f.room.Get(t.Context(), operator, k.ID); err != nil || now.RevokedAt.IsZero() {
				must(t, err)
				fresh.as(t, k)
			}
		}
		fresh.DB.Close()
	}
}
