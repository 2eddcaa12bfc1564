package rotation

import (
	"testing"
	"time"

	"github.com/avouch-dev/avouch/keyring"
)

// TestDamageKeepsNoOthers: what does not open keeps the versions from which it may be and no older ones; and it keeps no rotation from
// its turn, by the schedule or by hand, which is beside the one that it has kept up for an hour.
func TestDamageKeepsNoOthers(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 12)
	must(t, s.room.cfg.Ring.Prepare(t.Context(), s.tenant, person(1)))
	first := s.begin(t)
	s.keep(t)
	s.spoil(t, 4, 20) // under the second version now
	second := s.begin(t)
	if n := s.work(t); n.ID != second.ID || n.Failed != 1 {
		t.Fatalf("%+v", n)
	}
	if n := s.begin(t); n.ID != second.ID {
		t.Errorf("it is taken up at first: %+v", n)
	}
	s.clock.advance(DefaultKept + 2*lingering)
	for s.turn(t) {
	}
	all, err := s.room.Runs(t.Context(), s.by)
	must(t, err)
	if all[0].ID != second.ID || all[0].State() != "wrapping" || all[0].Failed != 1 || all[1].ID != first.ID || all[1].State() != "finished" || s.live(t) {
		t.Fatalf("the first version is there: %t; %+v", s.live(t), all)
	}
	if err := s.room.Tick(t.Context()); err != nil || s.older(t, 3) != 1 {
		t.Errorf("before its time: %d values not under the third version, %v", s.older(t, 3), err)
	}
	s.clock.advance(91 * 24 * time.Hour)
	must(t, s.room.Tick(t.Context()))
	if live, _ := s.versions(t, keyring.UseWrap); live != 4 || s.older(t, 4) != 1 {
		t.Errorf("by the schedule: version %d, %d values not under the fourth", live, s.older(t, 4))
	}
	s.clock.advance(again)
	if n := s.begin(t); n.Wrap != 5 {
		t.Errorf("by hand: %+v", n)
	}
	for s.turn(t) {
	}
	s.clock.advance(4 * DefaultKept)
	for s.turn(t) {
	}
	s.spoil(t, 4, 20)
	s.openAll(t, 12) // it opens: the second version was kept for it
	s.finish(t)
	s.openAll(t, 12)
	if live, _ := s.versions(t, keyring.UseWrap); live != 5 || s.older(t, 5) != 0 {
		t.Errorf("in the end version %d, and %d values under others", live, s.older(t, 5))
	}
}
