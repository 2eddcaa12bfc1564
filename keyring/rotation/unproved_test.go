package rotation

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/keyring"
)

// TestRowAloneEndsNoKey: whatever the row of a rotation says, and whoever wrote it, older versions are destroyed when the key store has
// said for as long as they are kept that nothing needs them, and not before. Where it says another thing, the operator is told, and
// everything is looked at again.
func TestRowAloneEndsNoKey(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(t *testing.T, s *scene){
		"ending, of what is not yet wrapped anew": func(t *testing.T, s *scene) {
			late := s.seal(t, s.room.cfg.Ring, "key:a late", "late")
			s.work(t)
			s.land(t, "late", late)
			s.Admin(t, `UPDATE avouch.key_rotation SET pass_at = now(), clean_at = now() - interval '1 year', ending_at = now(), due_at = now() WHERE tenant_id = $1`, s.tenant)
		},
		"ending, of what has just been looked at": func(t *testing.T, s *scene) {
			s.keep(t)
			s.Admin(t, `UPDATE avouch.key_rotation SET ending_at = now(), due_at = now() WHERE tenant_id = $1`, s.tenant)
		},
		"clean for long": func(t *testing.T, s *scene) {
			s.keep(t)
			s.Admin(t, `UPDATE avouch.key_rotation SET clean_at = clean_at - interval '1 year', looked_at = looked_at - interval '1 year', due_at = now() WHERE tenant_id = $1`, s.tenant)
		},
		"clean, and the key store is of before": func(t *testing.T, s *scene) {
			s.keep(t)
			_, store, _ := s.Places()
			must(t, os.Remove(filepath.Join(store, "tenants", s.tenant.String(), "unneeded")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.fill(t, 12)
			s.begin(t)
			attack(t, s)
			s.clock.advance(2 * time.Hour)
			for s.turn(t) {
			}
			if !s.live(t) {
				t.Fatal("the version before is destroyed")
			}
			s.clock.advance(DefaultKept - 24*time.Hour)
			for s.turn(t) {
			}
			if !s.live(t) {
				t.Fatal("the version before is destroyed a day too early")
			}
			s.finish(t)
			told := strings.Contains(strings.Join(s.raised, "\n"), Unproved+" "+s.tenant.String())
			if told == (name == "clean for long") { // that is looked at again and goes by what the key store says
				t.Errorf("the operator was told %q", s.raised)
			}
			if s.live(t) {
				t.Error("in the end the version before is there")
			}
			s.openAll(t, 12)
			if strings.HasPrefix(name, "ending, of what is not") {
				s.open(t, s.RingAt(t, s.clock.now), "key:a late", "late", answerOf, "late")
			}
		})
	}
}

// turn goes on with what is due now.
func (s *scene) turn(t testing.TB) bool {
	t.Helper()
	time.Sleep(3 * time.Millisecond) // the lease
	_, did, err := s.room.Work(t.Context(), s.by, nil)
	must(t, err)
	return did
}

// keep is a rotation of which nothing needs the versions before.
func (s *scene) keep(t testing.TB) {
	t.Helper()
	for n := s.work(t); n.State() != "kept"; n = s.work(t) {
		s.clock.advance(settling)
	}
}

// live reports whether the first version of the key that wraps opens what is under it.
func (s *scene) live(t testing.TB) bool {
	t.Helper()
	_, store, _ := s.Places()
	_, err := os.Stat(filepath.Join(store, "tenants", s.tenant.String(), string(keyring.UseWrap), "1"))
	return err == nil
}

// TestSuspendedWorkerSaysNothing: a worker that was suspended for longer than its lease says nothing in the key store of a run that another
// has gone on with: neither that something needs the older versions, nor that nothing has since before the other looked.
func TestSuspendedWorkerSaysNothing(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"it had found something": false, "it had found nothing": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.fill(t, 5)
			n := s.begin(t)
			if late {
				n = s.work(t)
				s.clock.advance(settling)
			}
			var want time.Time
			_, did, err := s.another(t, func(c *Config) {
				c.at = func(point string) {
					if point != "looked" || !want.IsZero() {
						return
					}
					if s.clock.advance(settling); late { // the other finds what came meanwhile
						s.Admin(t, `UPDATE avouch.key_rotation SET pass_at = NULL, place = '', after = '{}' WHERE tenant_id = $1`, s.tenant)
						s.clock.advance(time.Hour)
					}
					for n.State() != "kept" {
						time.Sleep(3 * time.Millisecond) // the lease
						n = s.work(t)
						s.clock.advance(settling)
					}
					want = n.CleanAt
				}
			}).Work(t.Context(), s.by, nil)
			if did || err != nil || want.IsZero() {
				t.Errorf("the one that was suspended worked on: %v, %v; the other was clean at %v", did, err, want)
			}
			if since, err := s.room.cfg.Ring.Unneeded(t.Context(), s.tenant, n.Wrap, n.Subjects); err != nil || !since.Equal(want) {
				t.Errorf("the key store says %v, %v, and not %v", since, err, want)
			}
			s.finish(t)
			if len(s.raised) > 0 {
				t.Errorf("the operator was told %q", s.raised)
			}
		})
	}
}

// TestDamagedNoteIsCalledThat: of a note that does not open it is said that it may be damaged.
func TestDamagedNoteIsCalledThat(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 5)
	s.begin(t)
	s.keep(t)
	_, store, _ := s.Places()
	must(t, os.WriteFile(filepath.Join(store, "tenants", s.tenant.String(), "unneeded"), []byte("x"), 0o600))
	s.finish(t)
	if len(s.raised) != 1 || !strings.HasPrefix(s.raised[0], Unproved) || !strings.Contains(s.raised[0], "/unneeded is damaged") {
		t.Errorf("the operator was told %q", s.raised)
	}
}
