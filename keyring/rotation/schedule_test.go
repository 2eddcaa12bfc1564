package rotation

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// tickAll lets two servers do what is due, at once.
func (s *scene) tickAll(t *testing.T, rooms ...*Room) {
	t.Helper()
	var at sync.WaitGroup
	for _, r := range rooms {
		at.Go(func() {
			if err := r.Tick(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	at.Wait()
}

// TestSchedule: an organisation's keys are rotated once they are 81 to 90 days old, each organisation at an instant of its own, once,
// on any number of servers; what fails for one costs no other; and nothing begins by itself where that is switched off.
func TestSchedule(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	s := open(t, func(c *Config) { c.Lease = time.Minute })
	byHand := s.another(t, func(c *Config) { c.Every, c.Lease = 0, time.Minute })
	both := []*Room{s.room, s.another(t, func(c *Config) { c.Lease = time.Minute })}
	tenants := []tenantdb.TenantID{s.tenant}
	for range 11 {
		tenants = append(tenants, s.Tenant(t, "Acme"))
	}
	for _, tenant := range tenants {
		s.inside(tenant)
		s.answer(t, s.room.cfg.Ring, "1", "x")
	}
	broken := s.Tenant(t, "Broken")
	_, store, _ := s.Places()
	must(t, os.RemoveAll(filepath.Join(store, "tenants", broken.String(), "wrap")))

	rotated := func() (n int) {
		for _, tenant := range tenants {
			s.inside(tenant)
			live, _ := s.versions(t, keyring.UseWrap)
			n += int(live) - 1
		}
		return n
	}
	s.tickAll(t, both...)
	s.clock.advance(80 * day)
	s.tickAll(t, both...)
	if n := rotated(); n != 0 {
		t.Errorf("%d are rotated after 80 days", n)
	}
	s.clock.advance(5*day + 12*time.Hour)
	s.tickAll(t, both...)
	if n := rotated(); n == 0 || n == len(tenants) {
		t.Errorf("%d of %d are rotated half-way between 81 and 90 days: they are not spread", n, len(tenants))
	}
	s.clock.advance(5 * day)
	byHand.turnOff(t, s, rotated)
	s.tickAll(t, both...)
	if n := rotated(); n != len(tenants) {
		t.Errorf("%d of %d are rotated after 90 days", n, len(tenants))
	}
	for range 6 { // nothing begins a second time, and what has begun ends also where nothing begins by itself
		s.clock.advance(8 * day)
		s.tickAll(t, byHand, byHand)
	}
	for _, tenant := range tenants {
		s.inside(tenant)
		all, err := s.room.Runs(t.Context(), s.by)
		must(t, err)
		if len(all) != 1 || all[0].State() != "finished" {
			t.Errorf("%+v", all)
		}
		s.open(t, s.RingAt(t, s.clock.now), "key:a 1", "x", answerOf, "1")
		if len(s.OfType(t, tenant, "key_rotation.begun")) != 1 {
			t.Error("it has begun twice")
		}
	}
	s.inside(tenants[0])
	s.clock.advance(91 * day)
	s.tickAll(t, both...)
	if live, _ := s.versions(t, keyring.UseWrap); live != 3 {
		t.Errorf("the second rotation: version %d", live)
	}
}

// turnOff wants nothing of a room that rotates by hand alone.
func (r *Room) turnOff(t *testing.T, s *scene, rotated func() int) {
	t.Helper()
	before := rotated()
	s.tickAll(t, r)
	if n := rotated(); n != before {
		t.Errorf("%d more are rotated where that is switched off", n-before)
	}
}

// TestOneWorker: while one works for an organisation, nobody else does; and who is taken for dead and is not does no harm.
func TestOneWorker(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.Lease = time.Hour })
	s.fill(t, 20)
	s.begin(t)
	other := s.another(t, func(c *Config) { c.Lease = time.Hour })
	asked := false
	s.room.cfg.at = func(point string) {
		if point != "wrapped" || asked {
			return
		}
		asked = true
		if _, did, err := other.Work(t.Context(), s.by, nil); did || err != nil {
			t.Errorf("another works beside it: %t, %v", did, err)
		}
		// Its lease has ended: the other takes over and comes to the end of the look, with this one's chunk under its feet.
		s.Admin(t, `UPDATE avouch.key_rotation SET leased_until = now() - interval '1 second'`)
		if n, did, err := other.Work(t.Context(), s.by, nil); !did || err != nil || n.Rows != 41 {
			t.Errorf("who takes over: %t, %+v, %v", did, n, err)
		}
	}
	if _, did, err := s.room.Work(t.Context(), s.by, nil); did || err != nil || !asked {
		t.Errorf("who was taken for dead: %t, %v", did, err)
	}
	s.openAll(t, 20)
	s.finish(t)
	s.openAll(t, 20)
	var places []string
	for _, e := range s.OfType(t, s.tenant, "key_rotation.step") {
		places = append(places, e.Field("place")+" "+e.Field("wrapped"))
	}
	if want := []string{"password.hash 7", "password.hash 7", "password.hash 6", "idempotency.answer 7", "idempotency.answer 7", "idempotency.answer 6", "glass_hook.secret 1"}; !slices.Equal(places[:7], want) {
		t.Errorf("what was wrapped is not in the log once: %q", places)
	}
}

// TestClaimedOnce: of many who want to work for an organisation at the same moment, one does.
func TestClaimedOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.begin(t)
	for range 20 {
		var mine atomic.Int64
		var at sync.WaitGroup
		for range 6 {
			at.Go(func() {
				err := s.DB.Note(t.Context(), s.by, func(tx *tenantdb.Tx) error {
					_, got, err := claim(t.Context(), tx, id.New[rotationKind](), time.Minute, s.clock.now())
					if got {
						mine.Add(1)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		at.Wait()
		if n := mine.Load(); n != 1 {
			t.Fatalf("%d have it", n)
		}
		s.Admin(t, `UPDATE avouch.key_rotation SET worker = NULL, leased_until = NULL`)
	}
}

// TestOlderServersLeaveIt: a server that is older than the schema may not know every column, and does not rotate.
func TestOlderServersLeaveIt(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 3)
	s.begin(t)
	s.Admin(t, `UPDATE avouch.schema_version SET version = version + 1`)
	if _, did, err := s.room.Work(t.Context(), s.by, nil); did || err != nil {
		t.Errorf("%t, %v", did, err)
	}
	s.Admin(t, `UPDATE avouch.schema_version SET version = version - 1`)
	s.work(t)
}
