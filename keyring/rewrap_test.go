package keyring

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

const bothPlatformKeys = firstPlatformKey + "," + secondPlatformKey

// rewrapChild rewraps a store under the second platform key, until it is done or killed: by itself, before a call of the wrapper, or by
// whoever started it.
func rewrapChild(dir, point string) int {
	r, err := openUnder(dir, bothPlatformKeys)
	if err == nil {
		var left int
		if left, err = strconv.Atoi(point); left > 0 {
			r.wrapper = &deadly{r.wrapper, left}
		}
	}
	if err == nil {
		_, err = r.Rewrap(context.Background(), nil)
	}
	if err != nil {
		_, _ = io.WriteString(os.Stderr, err.Error())
		return 3
	}
	return 0
}

// deadly kills the process before one of its calls. Rewrap makes three for each key: it opens it, wraps it and opens that.
type deadly struct {
	KeyWrapper
	left int
}

func (d *deadly) call() {
	if d.left--; d.left == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (d *deadly) Wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	d.call()
	return d.KeyWrapper.Wrap(ctx, key, b)
}

func (d *deadly) Unwrap(ctx context.Context, w Wrapped, b Binding) (secret.Bytes, error) {
	d.call()
	return d.KeyWrapper.Unwrap(ctx, w, b)
}

// openUnder opens a store with a platform key, and a pepper that stays: what is tried here is the wraps.
func openUnder(dir, platform string) (*Ring, error) {
	p, err := ParsePlatform([]byte(platform))
	if err != nil {
		return nil, err
	}
	return New(context.Background(), Config{Dir: dir, Platform: p})
}

// TestRewrap: after a rewrapping the new platform key alone opens everything, and everything says what it said.
func TestRewrap(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, one := newRing(t)
	two := newTenant(t, r)
	subject := newSubject(t)
	if err := r.Destroy(ctx, two, UsePII, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Renew(ctx, two, UseWrap); err != nil {
		t.Fatal(err)
	}
	sealed, err := r.Seal(ctx, one, "item", "seed", 1, []byte("seed"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := r.SealFields(ctx, two, subject, []byte("private"), nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Open(r.store.file(keyName{tenant: one, use: UseWrap}, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()

	both, err := openUnder(r.store.dir, bothPlatformKeys)
	if err != nil {
		t.Fatal(err)
	}
	var told []Progress
	p, err := both.Rewrap(ctx, func(p Progress) { told = append(told, p) })
	if err != nil {
		t.Fatal(err)
	}
	// Two tenants of five keys each, one of them with a second version and without a destroyed one; the decoy; the mark.
	if want := (Progress{Keys: 12, Wrapped: 12}); p != want || len(told) != 3 {
		t.Errorf("%+v, told %d times", p, len(told))
	}
	if again, err := both.Rewrap(ctx, nil); err != nil || again != (Progress{Keys: 12}) {
		t.Errorf("again: %+v, %v", again, err)
	}
	needed, err := both.Needed(ctx)
	if err != nil || len(needed) != 1 || needed[Wrapping{"platform/" + ForKeyStore, 2}] != 12 {
		t.Errorf("needed: %v, %v", needed, err)
	}
	if b, err := io.ReadAll(before); err != nil || len(b) == 0 || len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("the bytes that the old key opened are still there: %d, %v", len(b), err)
	}

	alone, err := openUnder(r.store.dir, secondPlatformKey)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := alone.Open(ctx, one, "item", "seed", 1, sealed); err != nil || string(b) != "seed" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := alone.OpenFields(ctx, two, subject, private, nil); err != nil || string(b) != "private" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := openUnder(r.store.dir, firstPlatformKey); err == nil {
		t.Error("the old platform key still opens the store")
	}
}

// TestRewrapKilled kills a rewrapping at three seeded points, and twice at any time: both keys open everything at each, the next goes on,
// and readers notice nothing.
func TestRewrapKilled(t *testing.T) {
	t.Parallel()
	rewrapKilled(t, 41)
}

// TestRewrapSoak is the same with a thousand organisations in the soak, and measures.
func TestRewrapSoak(t *testing.T) {
	organisations := 8
	if os.Getenv("AVOUCH_SOAK") == "1" {
		organisations = 1000
	}
	rewrapKilled(t, organisations)
}

func rewrapKilled(t *testing.T, organisations int) {
	h := newRewrapping(t, organisations)
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() { h.keepReading(stop) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	began, wrapped := time.Now(), 0
	for range 3 {
		point := 6 + rnd.IntN(organisations*len(tenantUses)*3/4) // behind the three calls of a key; of those that all take, a quarter at most
		if how := h.child(strconv.Itoa(point), 0); how != "signal: killed" {
			t.Errorf("at call %d, it ended so: %s", point, how)
		}
		now := h.wrapped()
		if now <= wrapped || now >= h.keys {
			t.Errorf("killed before call %d: %d keys of %d are wrapped anew, %d before", point, now, h.keys, wrapped)
		}
		wrapped = now
		h.opens(h.both)
	}
	for range 2 {
		h.child("0", time.Duration(1+rnd.IntN(60))*time.Millisecond)
		h.opens(h.both)
	}
	p, err := h.both.Rewrap(t.Context(), nil)
	if err != nil || p.Keys != h.keys {
		t.Fatalf("%+v of %d, %v", p, h.keys, err)
	}
	took := time.Since(began)
	close(stop)
	reading.Wait()
	alone, err := openUnder(h.dir, secondPlatformKey)
	if err != nil {
		t.Fatal(err)
	}
	h.opens(alone)
	t.Logf("measured: %d keys of %d organisations wrapped anew in %s with five kills and %d reads beside, %.0f keys/s", h.keys, organisations, took.Round(time.Millisecond), h.reads, float64(h.keys)/took.Seconds())
}

// rewrapping is a store of many organisations, on its way from one platform key to another.
type rewrapping struct {
	t       *testing.T
	dir     string
	both    *Ring
	tenants []tenantdb.TenantID
	sealed  [][]byte
	keys    int
	reads   int // by who keeps reading
}

func newRewrapping(t *testing.T, organisations int) *rewrapping {
	t.Helper()
	r, first := newRing(t)
	h := &rewrapping{t: t, dir: r.store.dir, tenants: []tenantdb.TenantID{first}, keys: organisations*len(tenantUses) + 2} // the decoy and the mark
	for range organisations - 1 {
		h.tenants = append(h.tenants, newTenant(t, r))
	}
	for _, tenant := range h.tenants {
		s, err := r.Seal(t.Context(), tenant, "item", "f", 1, tenant[:])
		if err != nil {
			t.Fatal(err)
		}
		h.sealed = append(h.sealed, s)
	}
	var err error
	if h.both, err = openUnder(h.dir, bothPlatformKeys); err != nil {
		t.Fatal(err)
	}
	return h
}

// child rewraps in a process of its own, and says how that ended. It is killed after a while, if that is not 0.
func (h *rewrapping) child(point string, after time.Duration) string {
	c := exec.Command(os.Args[0], h.dir, point)
	c.Env = append(os.Environ(), child+"=rewrap")
	if err := c.Start(); err != nil {
		h.t.Fatal(err)
	}
	if after > 0 {
		time.Sleep(after)
		_ = c.Process.Kill()
	}
	_ = c.Wait()
	return c.ProcessState.String()
}

// wrapped counts the keys that need the new platform key.
func (h *rewrapping) wrapped() int {
	needed, err := h.both.Needed(h.t.Context())
	if err != nil {
		h.t.Error(err)
	}
	return needed[Wrapping{"platform/" + ForKeyStore, 2}]
}

func (h *rewrapping) opens(r *Ring) {
	for i := range h.tenants {
		h.open(r, i)
	}
}

func (h *rewrapping) open(r *Ring, i int) {
	if b, err := r.Open(h.t.Context(), h.tenants[i], "item", "f", 1, h.sealed[i]); err != nil || !bytes.Equal(b, h.tenants[i][:]) {
		h.t.Errorf("%s: %v", h.tenants[i], err)
	}
}

// keepReading reads with nothing in memory.
func (h *rewrapping) keepReading(stop <-chan struct{}) {
	for i := 0; ; i = (i + 1) % len(h.tenants) {
		select {
		case <-stop:
			return
		default:
		}
		h.both.ForgetTenant(h.tenants[i])
		h.open(h.both, i)
		h.reads++
	}
}

// meddling does something else inside of a call of Wrap, between reading a key and replacing its file.
type meddling struct {
	KeyWrapper
	with func(Binding)
}

func (m *meddling) Wrap(ctx context.Context, key secret.Bytes, b Binding) (Wrapped, error) {
	m.with(b)
	return m.KeyWrapper.Wrap(ctx, key, b)
}

// TestRewrapBringsNothingBack: a key that is destroyed while it is wrapped anew stays destroyed, and its bytes go: also if whoever destroys it
// comes no further than the tombstone.
func TestRewrapBringsNothingBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	died := map[string]bool{}
	files := map[string]*os.File{}
	for _, use := range tenantUses {
		n := keyName{tenant: tenant, use: use}
		died[n.item(1)] = use != UseWrap && use != UsePII
		f, err := os.Open(r.store.file(n, 1))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[n.item(1)] = f
	}
	both, err := openUnder(r.store.dir, bothPlatformKeys)
	if err != nil {
		t.Fatal(err)
	}
	both.wrapper = &meddling{both.wrapper, func(b Binding) {
		f := files[b.Item]
		switch {
		case b.Tenant != tenant:
		case died[b.Item]:
			if err := os.WriteFile(f.Name()+tombstone, nil, 0o600); err != nil {
				t.Error(err)
			}
		default:
			for _, use := range tenantUses {
				n := keyName{tenant: tenant, use: use}
				if n.item(1) == b.Item {
					if err := r.Destroy(ctx, tenant, use, 1); err != nil {
						t.Error(err)
					}
				}
			}
		}
	}}
	if _, err := both.Rewrap(ctx, nil); err != nil {
		t.Fatal(err)
	}
	for item, f := range files {
		if _, err := os.Lstat(f.Name()); err == nil {
			t.Errorf("%s, which was destroyed, has a file again", item)
		}
		if b, err := io.ReadAll(f); err != nil || len(b) == 0 || len(bytes.Trim(b, "\x00")) > 0 {
			t.Errorf("the bytes of %s are still there: %d, %v", item, len(b), err)
		}
	}
}

// TestRewrapReplacesNothingUnread: where a key does not open, or what was wrapped would not, the store stays as it is and says so.
func TestRewrapReplacesNothingUnread(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	file := r.store.file(keyName{tenant: tenant, use: UseWrap}, 1)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	both, err := openUnder(r.store.dir, bothPlatformKeys)
	if err != nil {
		t.Fatal(err)
	}
	both.wrapper = forgetful{both.wrapper}
	if _, err := both.Rewrap(ctx, nil); err == nil {
		t.Error("a wrapper that wraps what it cannot open")
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, good) {
		t.Error("the only good copy was replaced")
	}
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	if err := os.WriteFile(file, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	both, err = openUnder(r.store.dir, bothPlatformKeys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Rewrap(ctx, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.store.dir, markerFile)); err != nil {
		t.Error(err)
	}
}

// forgetful wraps other keys than it is given.
type forgetful struct{ KeyWrapper }

func (f forgetful) Wrap(ctx context.Context, _ secret.Bytes, b Binding) (Wrapped, error) {
	return f.KeyWrapper.Wrap(ctx, newKey(), b)
}

func TestRewrapSealed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, tenant := newRing(t)
	sealed, err := r.Seal(ctx, tenant, "item", "seed", 3, []byte("seed"))
	if err != nil {
		t.Fatal(err)
	}
	if same, again, err := r.RewrapSealed(ctx, tenant, "item", sealed); err != nil || again || !bytes.Equal(same, sealed) {
		t.Errorf("under the newest: %v, %v", again, err)
	}
	if _, err := r.Renew(ctx, tenant, UseWrap); err != nil {
		t.Fatal(err)
	}
	anew, again, err := r.RewrapSealed(ctx, tenant, "item", sealed)
	if err != nil || !again {
		t.Fatalf("%v, %v", again, err)
	}
	_, body, _ := parseEnvelope(sealed)
	if _, moved, _ := parseEnvelope(anew); !bytes.Equal(body, moved) {
		t.Error("what is sealed has moved")
	}
	if err := r.Destroy(ctx, tenant, UseWrap, 1); err != nil {
		t.Fatal(err)
	}
	if b, err := r.Open(ctx, tenant, "item", "seed", 3, anew); err != nil || string(b) != "seed" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := r.Open(ctx, tenant, "item", "seed", 3, sealed); !errors.Is(err, ErrDestroyed) {
		t.Errorf("under the version that was destroyed: %v", err)
	}
	other := newTenant(t, r)
	theirs, err := r.Seal(ctx, other, "item", "seed", 3, []byte("seed"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Renew(ctx, other, UseWrap); err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]func() ([]byte, bool, error){
		"another item":   func() ([]byte, bool, error) { return r.RewrapSealed(ctx, other, "other", theirs) },
		"another tenant": func() ([]byte, bool, error) { return r.RewrapSealed(ctx, other, "item", sealed) },
		"destroyed":      func() ([]byte, bool, error) { return r.RewrapSealed(ctx, tenant, "item", sealed) },
		"no envelope":    func() ([]byte, bool, error) { return r.RewrapSealed(ctx, tenant, "item", []byte("x")) },
	} {
		if b, _, err := got(); err == nil || b != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
