package rotation

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestRotation: from its beginning to the destruction of the version before, and what the log says of it.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 40)
	subjects := []audit.SubjectID{{}, person(1), person(2)}
	var private [][]byte
	for _, p := range subjects {
		b, err := s.room.cfg.Ring.SealFields(t.Context(), s.tenant, p, []byte("private"), nil)
		must(t, err)
		private = append(private, b)
	}
	const epoch = `SELECT epoch::text FROM avouch.audit_head WHERE tenant_id = $1`
	before := s.Text(t, epoch, s.tenant)
	body, err := s.stored(t.Context(), hashOf, person(3))
	must(t, err)

	if n := s.begin(t); n.Wrap != 2 || n.Subjects != 2 || n.State() != "begun" || n.AskedBy != "system:rotation" {
		t.Fatalf("%+v", n)
	}
	if again := s.begin(t); again.Wrap != 2 {
		t.Errorf("a second rotation begins beside the first: %+v", again)
	}
	n := s.work(t)
	if n.Rows != 61 || n.Keys < 3 || n.State() != "wrapping" || s.older(t, 2) != 0 {
		t.Fatalf("%+v, %d older", n, s.older(t, 2))
	}
	if _, did, err := s.room.Work(t.Context(), s.by, nil); did || err != nil {
		t.Errorf("worked before it is due: %v", err)
	}
	s.openAll(t, 40)
	after, err := s.stored(t.Context(), hashOf, person(3))
	must(t, err)
	if wrap := len(keyring.SealedPrefix(1)) + 2 + 60; !bytes.Equal(body[wrap:], after[wrap:]) || bytes.Equal(body, after) {
		t.Error("what is sealed has moved, or the wrap has not")
	}
	s.clock.advance(settling + time.Second)
	if n = s.work(t); n.State() != "kept" || s.room.KeptUntil(n).Sub(n.CleanAt) != DefaultKept {
		t.Fatalf("%+v", n)
	}
	s.clock.advance(lingering)
	if n = s.work(t); n.State() != "kept" || !n.DueAt.Equal(s.room.KeptUntil(n)) {
		t.Fatalf("%+v", n)
	}
	if live, _ := s.versions(t, keyring.UseWrap); live != 2 {
		t.Error("no new version")
	}
	s.clock.advance(DefaultKept)
	if n = s.work(t); n.State() != "finished" {
		t.Fatalf("%+v", n)
	}
	s.openAll(t, 40)
	r := s.RingAt(t, s.clock.now)
	for i, p := range subjects {
		if b, err := r.OpenFields(t.Context(), s.tenant, p, private[i], nil); err != nil || string(b) != "private" {
			t.Errorf("fields of %s: %q, %v", p, b, err)
		}
	}
	if _, err := r.Open(t.Context(), s.tenant, person(3).String(), "field", 1, body); !errors.Is(err, keyring.ErrDestroyed) {
		t.Errorf("the version before is not destroyed: %v", err)
	}
	if s.Text(t, epoch, s.tenant) != before {
		t.Error("the epoch has moved: decisions are forgotten for it")
	}
	s.inLog(t)
}

// inLog: begin, steps with their counts, and end are in the log.
func (s *scene) inLog(t *testing.T) {
	t.Helper()
	var steps, rows int
	for _, e := range s.OfType(t, s.tenant, "key_rotation.step") {
		if e.Field("place") == "password.hash" {
			n, err := strconv.Atoi(e.Field("wrapped"))
			must(t, err)
			steps, rows = steps+1, rows+n
		}
	}
	for what, fields := range map[string]map[string]string{
		"begun": {"wrap": "2", "subjects": "2"}, "wrapped": {"rows": "61"}, "destroyed": {"wrap_before": "2", "subjects_before": "2"},
	} {
		all := s.OfType(t, s.tenant, "key_rotation."+what)
		if len(all) != 1 {
			t.Fatalf("%d entries say %s", len(all), what)
		}
		for name, want := range fields {
			if got := all[0].Field(name); got != want {
				t.Errorf("%s: %s is %q, want %q", what, name, got, want)
			}
		}
	}
	if steps != 6 || rows != 40 { // chunks of 7
		t.Errorf("%d steps over %d passwords", steps, rows)
	}
}

// TestOthersSealUnderTheOldVersion: another server takes the version before for the newest for 30 seconds, and what it sealed then,
// also what is written long after, is found before anything is destroyed.
func TestOthersSealUnderTheOldVersion(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 3)
	other := s.RingAt(t, s.clock.now)
	s.answer(t, other, "warm", "x")
	s.begin(t)
	s.work(t)
	s.answer(t, other, "late", "late")
	carried := s.seal(t, other, "key:a carried", "carried")
	if s.older(t, 2) != 1 {
		t.Fatal("the other server knows the new version already: this tests nothing")
	}
	s.clock.advance(settling)
	if n := s.work(t); n.State() != "wrapping" || s.older(t, 2) != 0 { // what is found makes another look necessary, at once
		t.Fatalf("%+v, %d older", n, s.older(t, 2))
	}
	if n := s.work(t); n.State() != "kept" {
		t.Fatalf("%+v", n)
	}
	s.clock.advance(10 * time.Minute)
	s.land(t, "carried", carried)
	s.clock.advance(time.Hour)
	if n := s.work(t); n.State() != "wrapping" || s.older(t, 2) != 0 {
		t.Fatalf("what was carried is not found: %+v", n)
	}
	s.finish(t)
	s.openAll(t, 3)
	s.open(t, s.RingAt(t, s.clock.now), "key:a carried", "carried", answerOf, "carried")
	s.open(t, s.RingAt(t, s.clock.now), "key:a late", "late", answerOf, "late")
	if _, err := s.RingAt(t, s.clock.now).Open(t.Context(), s.tenant, "key:a carried", "field", 1, carried); !errors.Is(err, keyring.ErrDestroyed) {
		t.Errorf("the old version: %v", err)
	}
}

// TestTakenOverByAServerThatIsLate: who goes on with the rotation of a server that died may not know the new versions yet.
func TestTakenOverByAServerThatIsLate(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 10)
	must(t, s.room.cfg.Ring.Prepare(t.Context(), s.tenant, person(1)))
	late := s.another(t)
	s.answer(t, late.cfg.Ring, "warm", "x")
	must(t, late.cfg.Ring.Prepare(t.Context(), s.tenant, person(2)))
	dying := *s.room
	dying.cfg.at = func(point string) {
		if point == "read" {
			runtime.Goexit()
		}
	}
	s.begin(t)
	died := make(chan struct{})
	go func() {
		defer close(died)
		_, _, _ = dying.Work(t.Context(), s.by, nil)
	}()
	<-died
	time.Sleep(3 * time.Millisecond) // its lease
	n, did, err := late.Work(t.Context(), s.by, nil)
	must(t, err)
	if !did || n.Rows != 32 || n.Keys < 2 || s.older(t, 2) != 0 {
		t.Errorf("%+v, %d older", n, s.older(t, 2))
	}
	s.finish(t)
	s.openAll(t, 10)
}

// TestWrittenMeanwhile: a value that somebody writes, or removes, or holds, between the reading of a chunk and its commit stays theirs.
func TestWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 10)
	once := false
	s.room.cfg.at = func(point string) {
		if point != "wrapped" || once {
			return
		}
		once = true
		anew := s.seal(t, s.RingAt(t, s.clock.now), person(1).String(), "rewritten")
		must(t, s.DB.Change(t.Context(), s.by, func(tx *tenantdb.Tx) (audit.Event, error) {
			if _, err := tx.Exec(t.Context(), `UPDATE avouch.password SET hash = $3, version = version + 1 WHERE tenant_id = $1 AND person_id = $2`, s.tenant, person(1), anew); err != nil {
				return audit.Event{}, err
			}
			_, err := tx.Exec(t.Context(), `DELETE FROM avouch.password WHERE tenant_id = $1 AND person_id = $2`, s.tenant, person(2))
			return audit.Event{Type: "test.written"}, err
		}))
	}
	s.begin(t)
	if n := s.work(t); n.Rows != 29 || !once {
		t.Errorf("%+v", n)
	}
	s.open(t, s.RingAt(t, s.clock.now), person(1).String(), "rewritten", hashOf, person(1))
	if _, err := s.stored(t.Context(), hashOf, person(2)); err == nil {
		t.Error("a value that was removed is there again")
	}
}

// TestHeldRowIsNotWaitedFor: a row that another transaction holds is left for the next look, since the wait would hold the log's head.
func TestHeldRowIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 10)
	s.begin(t)
	held, free := make(chan struct{}), make(chan struct{})
	ended := make(chan error)
	go func() {
		ended <- s.DB.Note(context.Background(), s.by, func(tx *tenantdb.Tx) error {
			_, err := tx.Exec(context.Background(), `UPDATE avouch.idempotency SET created_at = now() WHERE tenant_id = $1 AND key = '3'`, s.tenant)
			close(held)
			<-free
			return err
		})
	}()
	<-held
	n := s.work(t)
	close(free)
	must(t, <-ended)
	if n.Rows != 30 || s.older(t, 2) != 1 {
		t.Fatalf("%+v, %d older", n, s.older(t, 2))
	}
	s.finish(t)
	if n := s.older(t, 2); n != 0 {
		t.Errorf("%d are still under the old version", n)
	}
}

// spoil changes a byte of a stored hash behind everybody's back.
func (s *scene) spoil(t *testing.T, n, at int) {
	t.Helper()
	s.Admin(t, `ALTER TABLE avouch.password DISABLE TRIGGER require_entry`)
	s.Admin(t, `UPDATE avouch.password SET hash = set_byte(hash, $3, get_byte(hash, $3) # 1) WHERE tenant_id = $1 AND person_id = $2`, s.tenant, person(n), at)
	s.Admin(t, `ALTER TABLE avouch.password ENABLE ALWAYS TRIGGER require_entry`)
}

// TestDamagedValue: one value that does not open stops no other and is reported; as long as it is there the old version stays, and once
// it is mended everything ends well.
func TestDamagedValue(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 30)
	must(t, s.room.cfg.Ring.Prepare(t.Context(), s.tenant, person(1)))
	const wrap, version = 20, 12 // in the wrapped data key; in the version's number
	s.spoil(t, 4, wrap)
	s.spoil(t, 12, version)
	s.spoil(t, 20, 0) // no envelope any more
	s.begin(t)
	n := s.work(t)
	if n.Rows != 48 || n.Failed != 3 || s.older(t, 2) != 3 {
		t.Fatalf("%+v", n)
	}
	told := strings.Join(s.raised, "\n")
	if !strings.Contains(told, Damaged+" password.hash: ") || !strings.Contains(told, person(4).String()) {
		t.Errorf("told: %s", told)
	}
	for range 3 {
		s.clock.advance(40 * 24 * time.Hour)
		if n = s.work(t); n.State() != "wrapping" || n.Failed != 3 {
			t.Fatalf("%+v", n)
		}
	}
	if _, err := s.RingAt(t, s.clock.now).Open(t.Context(), s.tenant, "x", "field", 1, s.seal(t, s.room.cfg.Ring, "x", "x")); err != nil {
		t.Fatal(err)
	}
	s.spoil(t, 4, wrap)
	s.spoil(t, 12, version)
	s.spoil(t, 20, 0)
	s.finish(t)
	s.openAll(t, 30)
	if s.older(t, 2) != 0 {
		t.Error("something is under the old version")
	}
}

// TestDamageInside: what is sealed is not opened, so damage in it is neither found nor made worse.
func TestDamageInside(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 9)
	b, err := s.stored(t.Context(), hashOf, person(4))
	must(t, err)
	s.spoil(t, 4, len(b)-1)
	s.begin(t)
	if n := s.work(t); n.Failed != 0 || n.Rows != 30 {
		t.Errorf("%+v", n)
	}
	s.finish(t)
	s.spoil(t, 4, len(b)-1)
	s.openAll(t, 9)
}

// TestBackupOpens: what a dump of before has opens with today's key store for as long as was promised, and is wrapped anew when it is
// put back; after that it does not open.
func TestBackupOpens(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 12)
	s.Admin(t, `CREATE TABLE public.dump AS TABLE avouch.password`)
	restore := func() {
		s.Admin(t, `ALTER TABLE avouch.password DISABLE TRIGGER require_entry`)
		s.Admin(t, `UPDATE avouch.password p SET hash = d.hash FROM public.dump d WHERE (p.tenant_id, p.person_id) = (d.tenant_id, d.person_id)`)
		s.Admin(t, `ALTER TABLE avouch.password ENABLE ALWAYS TRIGGER require_entry`)
	}
	n := s.begin(t)
	for n.State() != "kept" {
		n = s.work(t)
		s.clock.advance(settling)
	}
	s.clock.advance(s.room.KeptUntil(n).Sub(s.clock.now()) - time.Hour) // the last hour
	restore()
	s.openAll(t, 12)
	for range 2 { // it is found before anything is destroyed, and the time begins anew
		s.clock.advance(time.Hour + time.Minute)
		s.work(t)
	}
	if live, _ := s.versions(t, keyring.UseWrap); live != 2 || s.older(t, 2) != 0 {
		t.Fatalf("%d older", s.older(t, 2))
	}
	s.openAll(t, 12)
	s.finish(t)
	restore()
	b, err := s.stored(t.Context(), hashOf, person(4))
	must(t, err)
	if _, err := s.RingAt(t, s.clock.now).Open(t.Context(), s.tenant, person(4).String(), "field", 1, b); !errors.Is(err, keyring.ErrDestroyed) {
		t.Errorf("after the time: %v", err)
	}
}

// TestRotatedAgainWhileKept: an emergency does not wait for the time that backups take. Each rotation ends the versions before its own.
func TestRotatedAgainWhileKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 8)
	for n := s.begin(t); n.State() != "kept"; {
		n = s.work(t)
		s.clock.advance(settling)
	}
	s.clock.advance(2 * lingering) // the first is due, too
	if n := s.begin(t); n.Wrap != 3 {
		t.Fatalf("%+v", n)
	}
	if n := s.work(t); n.Wrap != 3 || s.older(t, 3) != 0 {
		t.Errorf("not under the third version: %+v", n)
	}
	if all, err := s.room.Runs(t.Context(), s.by); err != nil || all[1].State() != "kept" {
		t.Errorf("the first: %+v, %v", all, err)
	}
	s.finish(t)
	if live, last := s.versions(t, keyring.UseWrap); live != 3 || last != 3 {
		t.Errorf("%d of %d", live, last)
	}
	s.openAll(t, 8)
	all, err := s.room.Runs(t.Context(), s.by)
	if err != nil || len(all) != 2 || all[0].State() != "finished" || all[1].State() != "finished" {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestOnlyTheOperator: nobody with a credential rotates, goes on or looks, whatever they may do otherwise.
func TestOnlyTheOperator(t *testing.T) {
	t.Parallel()
	s := open(t)
	owner := s.Caller(s.tenant, tenantdb.Everything)
	_, err := s.room.Begin(t.Context(), owner)
	_, did, worked := s.room.Work(t.Context(), owner, nil)
	_, looked := s.room.Runs(t.Context(), owner)
	for what, err := range map[string]error{"begin": err, "work": worked, "look": looked} {
		if !problem.Is(err, problem.Denied) || did {
			t.Errorf("%s: %v", what, err)
		}
	}
	if live, _ := s.versions(t, keyring.UseWrap); live != 1 {
		t.Error("a version was made")
	}
}

// TestShreddedStaysShredded: no rotation brings back a key that was destroyed on purpose.
func TestShreddedStaysShredded(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 3)
	s.begin(t)
	for _, use := range []keyring.Use{keyring.UseWrap, keyring.UseSubjects} {
		must(t, s.room.cfg.Ring.Destroy(t.Context(), s.tenant, use, 1))
	}
	if n := s.work(t); n.State() != "finished" {
		t.Errorf("%+v", n)
	}
	if live, last := s.versions(t, keyring.UseWrap); live != 0 || last != 1 {
		t.Errorf("%d of %d", live, last)
	}
	if _, err := s.room.Begin(t.Context(), s.by); !problem.Is(err, problem.Conflict) {
		t.Errorf("begin: %v", err)
	}
	if len(s.OfType(t, s.tenant, "key_rotation.abandoned")) != 1 {
		t.Error("the log does not say that it ended")
	}
}

// TestShreddedOnTheWay: keys that are destroyed while a look goes on end the rotation, and are not taken for damage.
func TestShreddedOnTheWay(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.fill(t, 20)
	s.begin(t)
	s.room.cfg.at = func(point string) {
		if point != "committed" {
			return
		}
		for v := uint32(1); v <= 2; v++ {
			must(t, s.room.cfg.Ring.Destroy(t.Context(), s.tenant, keyring.UseWrap, v))
		}
	}
	n, did, err := s.room.Work(t.Context(), s.by, nil)
	if err != nil { // or it is found when the next chunk is to be wrapped
		n, did, err = s.room.Work(t.Context(), s.by, nil)
	}
	if err != nil || !did || n.State() != "finished" || len(s.raised) > 0 {
		t.Errorf("%+v, %t, %v; told %q", n, did, err, s.raised)
	}
	if live, last := s.versions(t, keyring.UseWrap); live != 0 || last != 2 {
		t.Errorf("%d of %d", live, last)
	}
}

// TestRunsAreForgotten: what has ended is kept for two years.
func TestRunsAreForgotten(t *testing.T) {
	t.Parallel()
	s := open(t)
	for n, want := range []int{1, 2, 2, 2} { // 386 days apart
		s.begin(t)
		all, err := s.room.Runs(t.Context(), s.by)
		if err != nil || len(all) != want {
			t.Errorf("the %d. run: there are %d, %v", n+1, len(all), err)
		}
		s.finish(t)
		s.clock.advance(350 * 24 * time.Hour)
	}
}
