package keyring

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestReadersWhileKeysMove: nobody who reads or seals on another server notices that keys are given away, given to another
// key management and taken back.
func TestReadersWhileKeysMove(t *testing.T) {
	t.Parallel()
	dir, c := newStoreDir(t), &clock{at: time.Now()}
	kms, other, all := twoCustomers(t)
	r := ringOf(t, dir, c, all)
	id := newTenant(t, r)
	sealed, fields := sealedOf(t, r, id)
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		reader := ringOf(t, dir, c, all)
		readers.Go(func() {
			for ctx.Err() == nil {
				opens(t, reader, id, sealed, fields)
				if _, err := reader.Seal(t.Context(), id, "i", "f", 1, nil); err != nil {
					t.Error(err)
				}
				reader.ForgetOwner(id) // as a server that has nothing in memory
			}
		})
	}
	for range 15 {
		handOver(t, r, id, kms)
		if _, err := r.HandOver(t.Context(), id, otherSetting, other); err != nil {
			t.Error(err)
		}
		if err := r.TakeBack(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	stop()
	readers.Wait()
}

// between is a wrapper that has something happen once, after a certain number of keys were opened.
type between struct {
	KeyWrapper
	left atomic.Int64
	do   func()
}

func (b *between) Unwrap(ctx context.Context, w Wrapped, at Binding) (secret.Bytes, error) {
	key, err := b.KeyWrapper.Unwrap(ctx, w, at)
	if b.left.Add(-1) == -1 {
		b.do()
	}
	return key, err
}

// TestReaderInBetween: the same, with the move between any two things that a reader reads.
func TestReaderInBetween(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Now()}
	_, _, all := twoCustomers(t)
	to := func(r *Ring, id tenantdb.TenantID, s SettingID) {
		if _, err := r.HandOver(t.Context(), id, s, all[s]); err != nil {
			t.Error(err)
		}
	}
	back := func(r *Ring, id tenantdb.TenantID) {
		if err := r.TakeBack(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	for name, move := range map[string]func(*Ring, tenantdb.TenantID){
		"back": back, "elsewhere": func(r *Ring, id tenantdb.TenantID) { to(r, id, otherSetting) },
		"back and there": func(r *Ring, id tenantdb.TenantID) { back(r, id); to(r, id, testSetting) },
		"and back again": func(r *Ring, id tenantdb.TenantID) { to(r, id, otherSetting); back(r, id) },
	} {
		for n, moved := int64(0), true; moved; n++ {
			dir := newStoreDir(t)
			r, reader := ringOf(t, dir, c, all), ringOf(t, dir, c, all)
			id := newTenant(t, r)
			sealed, fields := sealedOf(t, r, id)
			to(r, id, testSetting)
			moved = false
			hook := &between{KeyWrapper: reader.wrapper, do: func() { moved = true; move(r, id) }}
			hook.left.Store(n)
			reader.wrapper = hook
			opens(t, reader, id, sealed, fields)
			reader.ForgetTenant(id) // the keys, and not what its key management let it have
			opens(t, reader, id, sealed, fields)
			if t.Failed() {
				t.Fatalf("%s after %d keys were opened", name, n)
			}
		}
	}
}

// handOverChild hands keys over and takes them back until it is killed.
func handOverChild(dir, tenant string) int {
	p, _ := ParsePlatform([]byte(firstPlatformKey))
	theirs, _ := ParsePlatform([]byte(customersKey))
	kms, _ := theirs.Wrapper("customer")
	id, err := tenantdb.ParseTenantID(tenant)
	if err != nil {
		return 3
	}
	r, err := New(context.Background(), Config{Dir: dir, Platform: p, Own: func(context.Context, tenantdb.TenantID, SettingID) (KeyWrapper, error) { return kms, nil }})
	if err != nil {
		return 4
	}
	fmt.Println("ready")
	for {
		if _, err := r.HandOver(context.Background(), id, testSetting, kms); err != nil {
			return 5
		}
		if err := r.TakeBack(context.Background(), id); err != nil {
			return 6
		}
		if _, err := r.Renew(context.Background(), id, UsePII); err != nil {
			return 7
		}
	}
}

// TestHandOverKilled: a process that is killed anywhere on the way leaves keys that open, and the next call goes on from there.
func TestHandOverKilled(t *testing.T) {
	t.Parallel()
	dir, c, kms := newStoreDir(t), newClock(), newCustomer(t)
	r := ownRing(t, dir, c, kms)
	id := newTenant(t, r)
	sealed, fields := sealedOf(t, r, id)
	for i := range 12 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], dir, id.String())
		cmd.Env = append(os.Environ(), child+"=handover")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); cmd.ProcessState.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
		r.ForgetOwner(id)
		opens(t, r, id, sealed, fields)
	}
	handOver(t, r, id, kms)
	opens(t, r, id, sealed, fields)
	closedFor(t, ringOn(t, dir, c.now), id, sealed, fields)
}
