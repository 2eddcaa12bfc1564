package vault

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault/portable"
)

// TestOneAtATime: whatever comes, waits and goes, never do two work at once, also not while the memory of the one before is being freed;
// nobody waits longer than the patience; and in the end all is as it was.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		type call struct {
			of                int
			after, goes, busy time.Duration
		}
		ms := rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.IntRange(0, 40).Draw(t, "ms")) * time.Millisecond
		})
		calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
			return call{rapid.IntRange(0, 3).Draw(t, "of"), ms.Draw(t, "after"), ms.Draw(t, "goes"), ms.Draw(t, "busy")}
		}), 0, 30).Draw(rt, "calls")
		synctest.Test(t, func(t *testing.T) {
			g := newGate(20 * time.Millisecond)
			var mu sync.Mutex
			working, most := 0, 0
			add := func(by int) {
				mu.Lock()
				defer mu.Unlock()
				working += by
				most = max(most, working)
			}
			g.freed = func() {
				time.Sleep(3 * time.Millisecond)
				add(-1)
			}
			var all sync.WaitGroup
			for _, c := range calls {
				all.Go(func() {
					time.Sleep(c.after)
					ctx, cancel := context.WithTimeout(t.Context(), c.goes)
					defer cancel()
					begun := time.Now()
					err := g.through(ctx, tenantdb.TenantID{byte(c.of)}, func() error {
						add(1)
						if waited := time.Since(begun); waited > g.patience {
							t.Errorf("it waited %v", waited)
						}
						time.Sleep(c.busy)
						return nil
					})
					if err != nil && !errors.Is(err, context.DeadlineExceeded) && !problem.Is(err, problem.Unavailable) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			if most > 1 || working != 0 || len(g.slot) != 0 || len(g.inside) != 0 {
				t.Errorf("%d worked at once; at the end %d work, %d have the slot, and %d are inside", most, working, len(g.slot), len(g.inside))
			}
		})
	})
}

// TestOneOrganisationLeavesRoom: of an organisation that sends a hundred, one works and one waits, and the others are told at once to
// come back; so another organisation's is next but one.
func TestOneOrganisationLeavesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(gatePatience)
		work := func() error { time.Sleep(4 * time.Second); return nil }
		var all sync.WaitGroup
		var mu sync.Mutex
		refusals := 0
		for range 100 {
			all.Go(func() {
				if err := g.through(t.Context(), tenantdb.TenantID{1}, work); err != nil {
					busy(t, err)
					mu.Lock()
					refusals++
					mu.Unlock()
				}
			})
		}
		synctest.Wait()
		if refusals != 98 {
			t.Errorf("%d were refused at once", refusals)
		}
		begun := time.Now()
		if err := g.through(t.Context(), tenantdb.TenantID{2}, work); err != nil || time.Since(begun) != 12*time.Second {
			t.Errorf("the other organisation's: %v after %v", err, time.Since(begun))
		}
		all.Wait()
	})
}

func busy(t *testing.T, err error) {
	t.Helper()
	if p := problem.Of(err); p == nil || p.Kind != problem.Unavailable || p.HTTPStatus() != 503 || p.RetryAfter < time.Second || !p.Busy {
		t.Errorf("the refusal is %v", err)
	}
}

// TestPassphrasesWait: an import of something encrypted or of a picture, and an export under a passphrase, wait for their turn, and are
// refused with a time to come back if it does not come; what takes little memory does not wait; and whoever goes away is gone.
func TestPassphrasesWait(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	item := h.put(t, seedOf(TOTP))
	p := h.member(t)
	h.grant(t, item.ID, p.actor(), ForSeed)
	h.gate.patience = 50 * time.Millisecond
	h.gate.slot <- struct{}{} // somebody works
	var picture bytes.Buffer
	must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 8))))
	why := secret.Text("correct horse battery")
	before := len(h.Entries(t, h.acme))
	heavy := map[string]func(context.Context) error{
		"a picture": func(ctx context.Context) error {
			_, err := h.Import(ctx, h.boss, Import{Data: picture.Bytes()})
			return err
		},
		"an age file": func(ctx context.Context) error {
			_, err := h.Import(ctx, h.boss, Import{Data: []byte("age-encryption.org/v1\n"), Password: why})
			return err
		},
		"aegis": func(ctx context.Context) error {
			_, err := h.Import(ctx, h.boss, Import{Data: file(t, "aegis-encrypted.json"), Password: secret.Text("correct horse"), DryRun: true})
			return err
		},
		"an export": func(ctx context.Context) error {
			_, _, err := h.Export(ctx, p.caller(), Export{[]ID{item.ID}, portable.FormatAvouch, portable.Protection{Passphrase: why}, "moving"})
			return err
		},
	}
	for name, do := range heavy {
		err := do(t.Context())
		if busy(t, err); t.Failed() {
			t.Fatalf("%s: %v", name, err)
		}
		gone, cancel := context.WithCancel(t.Context())
		h.gate.patience = time.Hour
		time.AfterFunc(20*time.Millisecond, cancel)
		if err := do(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, of who went: %v", name, err)
		}
		h.gate.patience = 50 * time.Millisecond
	}
	if len(h.Entries(t, h.acme)) != before {
		t.Error("something was done")
	}
	if _, err := h.Import(t.Context(), h.boss, Import{Data: []byte("otpauth://totp/a?secret=JBSWY3DPEHPK3PXP"), DryRun: true}); err != nil {
		t.Errorf("in clear: %v", err)
	}
	if _, _, err := h.Export(t.Context(), p.caller(), Export{[]ID{item.ID}, portable.FormatAvouch, portable.Protection{Clear: true}, "moving"}); err != nil {
		t.Errorf("in clear: %v", err)
	}
	<-h.gate.slot
	h.gate.patience = time.Minute
	if err := heavy["aegis"](t.Context()); err != nil {
		t.Errorf("in its turn: %v", err)
	}
}

// leaving is the context of somebody who goes away after so many looks at it.
type leaving struct {
	context.Context
	looks int
}

func (l *leaving) Err() error {
	if l.looks--; l.looks < 0 {
		return context.Canceled
	}
	return nil
}

// TestImportsHeed: who goes away while a picture is looked at, or a password tried, is not worked for any longer.
func TestImportsHeed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var picture bytes.Buffer
	must(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 60, 60))))
	for name, in := range map[string]Import{
		"a picture": {Data: picture.Bytes()}, "pictures": {Data: picture.Bytes(), More: [][]byte{picture.Bytes()}}, "a password": {Data: file(t, "aegis-encrypted.json"), Password: secret.Text("correct horse")},
	} {
		if _, err := h.Import(&leaving{t.Context(), 1}, h.boss, in); !errors.Is(err, context.Canceled) { // the first look is that of who waits
			t.Errorf("%s: %v", name, err)
		}
	}
}
