package keyring

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// The times of a lease, as parts of its life (Config.OwnLife).
const (
	ownLife     = keyLife
	renewPart   = 2 // renewed when 1/2 of its life is over,
	patientPart = 4 // asked for so long,
	againPart   = 6 // and again after so long where that failed
)

// lease is what an organisation's own key management lets us have: its own key, for as long as a life after the key management gave
// it. Everything of the organisation that is in memory counts by it, however long it has been there. It is renewed ahead of its end,
// so no request waits for a key management that works; and once that has failed, no request waits for it either.
type lease struct {
	secret.Hidden
	ring   *Ring
	tenant tenantdb.TenantID
	until  atomic.Pointer[time.Time] // in force before
	over   atomic.Bool               // the organisation has no key management of its own any more

	mu      sync.Mutex
	keys    *ownKeys // nil after the lease
	setting SettingID
	wrapper KeyWrapper    // of the setting; nil after a failure: the setting may have been mended
	flight  chan struct{} // closed when the asking ends that is under way
	failed  error         // of the last asking
	since   time.Time     // it failed since
	next    time.Time     // it is not asked again before
}

// check refuses if the lease is over, and sees to its renewal.
func (l *lease) check(ctx context.Context, now time.Time) error {
	if until := l.until.Load(); until != nil && !over(now, *until) || l.over.Load() {
		return nil
	}
	return l.wait(ctx)
}

// open is an own key, while the lease is in force; errMoved if the lease is of an own file without it.
func (l *lease) open(ctx context.Context, sum ownSum) (cipher.AEAD, error) {
	if err := l.check(ctx, l.ring.now()); err != nil {
		return nil, err
	}
	k := l.held()
	if k == nil && !l.over.Load() {
		return nil, l.closed() // it ended a moment ago
	}
	if k == nil || k.aeads[sum] == nil {
		return nil, errMoved
	}
	return k.aeads[sum], nil
}

func (l *lease) held() *ownKeys {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys
}

// wait waits for the first asking, and refuses after one that failed.
func (l *lease) wait(ctx context.Context) error {
	l.begin(ctx)
	l.mu.Lock()
	flight, failed := l.flight, l.failed
	l.mu.Unlock()
	if failed == nil && flight != nil {
		select {
		case <-flight:
		case <-ctx.Done(): // it was not let, and that is what there is to say
		}
	}
	if until := l.until.Load(); until != nil && !over(l.ring.now(), *until) || l.over.Load() {
		return nil
	}
	return l.closed()
}

// begin asks the key management, unless somebody does at this moment, or it failed a moment ago.
func (l *lease) begin(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.ring.now()
	if l.flight != nil || !over(now, l.next) {
		return
	}
	flight := make(chan struct{})
	l.flight = flight
	ctx = context.WithoutCancel(ctx)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, l.ring.ownLife/patientPart)
		defer cancel()
		err := l.renew(ctx, now)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.settle(err, now)
		l.flight = nil
		close(flight)
	}()
}

// settle takes note of how an asking ended that was begun at a time.
func (l *lease) settle(err error, began time.Time) {
	was := l.failed
	l.failed = err
	if err == nil {
		l.next = began.Add(l.ring.ownLife / renewPart)
		l.since = time.Time{}
		if was != nil {
			l.ring.ownChanged(l.tenant, nil)
		}
		return
	}
	now := l.ring.now()
	l.wrapper = nil
	l.next = now.Add(l.ring.ownLife / againPart)
	if was == nil {
		l.since = now
		l.ring.ownChanged(l.tenant, err)
	}
}

// renew asks for the own keys. The lease counts from before it was asked.
func (l *lease) renew(ctx context.Context, began time.Time) error {
	o, err := l.ring.readOwn(ctx, l.tenant)
	if errors.Is(err, fs.ErrNotExist) {
		l.end()
		return nil
	}
	if err != nil {
		return err
	}
	w, err := l.wrapperOf(ctx, o.setting)
	if err != nil {
		return err
	}
	keys, err := openOwned(ctx, w, l.tenant, o)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = keys
	until := began.Add(l.ring.ownLife)
	l.until.Store(&until)
	return nil
}

// errOtherKey is not ErrSealed: what would not open is the organisation's affair, and not damage of ours.
var errOtherKey = errors.New("the key management opens the organisation's own key as another")

// errNoSettings is the installation's affair: it cannot ask, whatever the organisation allows.
var errNoSettings = errors.New("the settings are missing, or cannot be read")

// openOwned has a key management open all that an own file has.
func openOwned(ctx context.Context, w KeyWrapper, t tenantdb.TenantID, o owned) (*ownKeys, error) {
	all := &ownKeys{first: o.keys[0].sum, aeads: map[ownSum]cipher.AEAD{}}
	for _, k := range o.keys {
		key, err := unwrapOwn(ctx, w, t, k)
		if err != nil {
			return nil, err
		}
		a, err := newAEAD(key)
		key.Clear()
		if err != nil {
			return nil, err
		}
		all.aeads[k.sum] = a
	}
	return all, nil
}

func unwrapOwn(ctx context.Context, w KeyWrapper, t tenantdb.TenantID, k ownedKey) (secret.Bytes, error) {
	key, err := w.Unwrap(ctx, k.wrapped, ownBinding(t))
	if errors.Is(err, ErrSealed) {
		err = errOtherKey
	}
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("the organisation's own key: %w", err)
	}
	if len(key.Expose()) != keySize || checkOf(key) != k.sum {
		key.Clear()
		return secret.Bytes{}, errOtherKey
	}
	return key, nil
}

func (l *lease) wrapperOf(ctx context.Context, s SettingID) (KeyWrapper, error) {
	l.mu.Lock()
	w, of := l.wrapper, l.setting
	l.mu.Unlock()
	if w != nil && of == s {
		return w, nil
	}
	if l.ring.own == nil {
		return nil, errors.New("this process was not told how organisations' key managements are reached")
	}
	w, err := l.ring.own(ctx, l.tenant, s)
	if err != nil && !problem.Is(err, problem.Unavailable) {
		err = fmt.Errorf("%w: %w", errNoSettings, err)
	}
	if err != nil {
		return nil, fmt.Errorf("how its key management is reached: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrapper, l.setting = w, s
	return w, nil
}

// end lets go of a lease that is not needed any more: the organisation's keys are the platform's again.
func (l *lease) end() {
	l.over.Store(true)
	l.leave()
}

// leave has the next who asks begin another lease: this one is of an own file that is no more.
func (l *lease) leave() {
	l.ring.leases.CompareAndDelete(l.tenant, l)
	l.ring.owners.drop(func(t tenantdb.TenantID) bool { return t == l.tenant })
}

// tend renews a lease ahead of its end, and lets go of what is in memory when it is over.
func (l *lease) tend(ctx context.Context) {
	l.begin(ctx)
	if l.letGo() {
		l.ring.ForgetTenant(l.tenant)
	}
}

// letGo drops the own key if the lease is over. A renewal may end at this moment: it gives key and time under the same lock.
func (l *lease) letGo() (had bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := l.until.Load(); l.keys == nil || !over(l.ring.now(), *until) {
		return false
	}
	l.keys = nil
	return true
}

// closed says why the organisation is closed.
func (l *lease) closed() error {
	l.mu.Lock()
	err, since := l.failed, l.since
	l.mu.Unlock()
	if err == nil {
		err = ErrSilent
	}
	at := "now"
	if !since.IsZero() {
		at = "since " + since.UTC().Format(time.RFC3339)
	}
	p := problem.New(problem.TenantKey, "The organisation keeps its keys under its own key management, "+wordsOf(whyOwn(err)), at).Because(err)
	p.RetryAfter = max(l.ring.ownLife/againPart, time.Second)
	return p
}

// wordsOf says why it is closed since when, and who can do what.
func wordsOf(w Why) string {
	const then = ": then everything works as before."
	switch w {
	case Refused:
		return "which %s refuses to open them: the key there, or Avouch's access to it, was revoked or disabled. Allow it there again" + then
	case Silent:
		return "which %s does not answer. Make sure that Avouch reaches it" + then
	case Unset:
		return "and %s its settings are missing here, as after a database of before was restored. The key there is not the cause: the operator takes the settings again (avouch organisations kms repair)" + then
	}
	return "which %s answers with something that does not open them. Make sure that it is the same key, and that its version is enabled" + then
}

// Why is why an organisation's own key management gives no key.
type Why string

// The reasons, as operators and owners see them.
const (
	Refused Why = "refused"     // revoked or disabled
	Silent  Why = "unreachable" // nothing can be said
	Wrong   Why = "wrong"       // it answers, and not with the key
	Unset   Why = "settings"    // how it is reached is missing here, or cannot be read: it was not asked
)

func whyOwn(err error) Why {
	switch {
	case errors.Is(err, errNoSettings), problem.Is(err, problem.Missing):
		return Unset
	case errors.Is(err, ErrRefused):
		return Refused
	case errors.Is(err, ErrSilent), errors.Is(err, context.DeadlineExceeded), problem.Is(err, problem.Unavailable):
		return Silent
	}
	return Wrong
}

// WhyKMS says why a key management gave no key, from the error of its wrapper.
func WhyKMS(err error) Why { return whyOwn(err) }

// TendOwn renews what organisations' own key managements let us have, and lets go of what they do not any more. It is to be called a
// few times in the life of a lease, and waits for nobody.
func (r *Ring) TendOwn(ctx context.Context) {
	r.leases.Range(func(_, l any) bool {
		l.(*lease).tend(ctx)
		return true
	})
}

// OwnState is how it stands with an organisation's own key management.
type OwnState struct {
	Setting SettingID // zero if the platform opens by itself
	Open    bool      // a request would be served now
	Why     Why       // it is not, or the last asking failed
	Since   time.Time // the asking failed since
	Until   time.Time // in force before
}

// OwnStateOf says how it stands, and asks the key management only if this process never did.
func (r *Ring) OwnStateOf(ctx context.Context, t tenantdb.TenantID) (s OwnState, err error) {
	o, err := r.readOwn(ctx, t)
	if errors.Is(err, fs.ErrNotExist) {
		return OwnState{Open: true}, nil
	}
	if err != nil {
		return s, fmt.Errorf("keyring.OwnStateOf: %w", err)
	}
	l := r.leaseOf(t)
	s = OwnState{Setting: o.setting, Open: l.wait(ctx) == nil}
	if until := l.until.Load(); until != nil {
		s.Until = *until
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		s.Why, s.Since = whyOwn(l.failed), l.since
	}
	return s, nil
}
