package keyring

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/fresh"
	"github.com/avouch-dev/avouch/internal/secret"
)

// SigningStore keeps the records of signing keys: the database (SigningTable), or memory in tests.
type SigningStore interface {
	// Load reads all records.
	Load(ctx context.Context) ([]SigningKey, error)
	// Change lets decide see all records, and stores the record that it returns together with the log entry of the
	// change; no other Change runs meanwhile. If decide says false, nothing is changed or logged.
	Change(ctx context.Context, decide func([]SigningKey) (SigningKey, audit.Event, bool)) error
}

// Signing is the token signing keys: it signs, checks signatures, publishes the JWKS and rotates. What it signs and
// checks with is a snapshot of the records, replaced as a whole by Refresh. It is safe for use by many goroutines.
type Signing struct {
	secret.Hidden
	store   SigningStore
	wrapper KeyWrapper
	now     func() time.Time

	set   atomic.Pointer[keySet]
	reads *fresh.Reads[struct{}, []SigningKey]
	// making are the first keys of lines that somebody asked for.
	making *fresh.Reads[line, struct{}]

	held   Held
	turns  chan struct{} // of signatures that a KMS is asked for
	strays strays

	mu      sync.Mutex // of what is below; nothing waits while it is held
	asked   *reading   // the last that an unknown kid asked for,
	askedAt time.Time  // and when
}

const (
	maxSteps = 48 // of three lines
	noKeys   = `{"keys":[]}`
	// makePatience bounds the making of an RSA key on a busy machine.
	makePatience = time.Minute
)

// ErrUnknownKey means that no published key has this kid: it was never ours, or has retired.
var ErrUnknownKey = errors.New("no published signing key has this kid")

// ErrRevokedKey means that the kid is of a key that was revoked.
var ErrRevokedKey = errors.New("the signing key of this kid was revoked")

// keySet is a snapshot. It never changes.
type keySet struct {
	at      time.Time
	keys    []SigningKey          // those that could be proved, and those that were revoked or have retired
	lines   map[line][]SigningKey // the same
	opened  map[string]*openKey
	left    map[string]leftOut // those that could not be proved
	revoked map[string]bool    // seen revoked by this process, now or earlier
	index   map[string]int
	agents  document
	people  document
}

// openKey is a published key. The wrapped form tells whether the record is still the one that was opened.
type openKey struct {
	of      line
	public  crypto.PublicKey
	private crypto.Signer // nil if a KMS holds it
	held    reference     // where that has it
	wrapped string
	header  map[string]string // by typ, those that keys of its line sign: the encoded JWS header and its dot
}

// NewSigning makes the signing keys' keeper; w is the wrapper of the private keys, such as Platform.Wrapper(ForSigning).
// Call Rotate once before serving (it makes the first key), then Refresh and Rotate every minute or so, and Refresh when
// another server says that a key was revoked.
func NewSigning(store SigningStore, w KeyWrapper, now func() time.Time) *Signing {
	s := &Signing{store: store, wrapper: w, now: now, reads: fresh.New[struct{}, []SigningKey](readPatience), making: fresh.New[line, struct{}](makePatience), turns: make(chan struct{}, heldAtOnce)}
	s.set.Store(&keySet{revoked: map[string]bool{}, agents: document{body: []byte(noKeys)}, people: document{body: []byte(noKeys)}})
	return s
}

// Refresh reads the records again. A record that is not proved by its wrapped private key is left out, whatever it was
// before (see Unusable); the others count from then on all the same. An error means that the truth could not be read, or not
// in the caller's time. Callers share a read, which begins after each of them asked.
func (s *Signing) Refresh(ctx context.Context) error {
	if _, err := s.read(ctx); err != nil {
		return fmt.Errorf("keyring.Refresh: %w", err)
	}
	return nil
}

// refresh returns all records as they were read, those left out too.
func (s *Signing) refresh(ctx context.Context) ([]SigningKey, error) {
	now := s.now()
	keys, err := s.store.Load(ctx)
	if err != nil {
		return nil, err
	}
	set, err := s.build(ctx, now, keys)
	s.set.Store(set)
	return keys, err
}

func (s *Signing) build(ctx context.Context, now time.Time, keys []SigningKey) (*keySet, error) {
	old := s.set.Load()
	set := &keySet{at: now, opened: map[string]*openKey{}, left: map[string]leftOut{}, revoked: maps.Clone(old.revoked), index: map[string]int{}, lines: map[line][]SigningKey{}}
	var doubt error
	for _, k := range keys {
		if k.revoked() {
			set.revoked[k.KID] = true
		}
		if k.published(now) {
			o, err := k.admit(ctx, s.wrapper, old)
			if err != nil {
				set.left[k.KID] = leftOut{k, err}
				if !errors.Is(err, ErrUnusableKey) {
					doubt = errors.Join(doubt, fmt.Errorf("signing key %q: %w", k.KID, err))
				}
				continue
			}
			set.opened[k.KID] = o
		}
		set.keys = append(set.keys, k)
	}
	slices.SortFunc(set.keys, func(a, b SigningKey) int { return cmp.Or(a.SignsFrom.Compare(b.SignsFrom), cmp.Compare(a.KID, b.KID)) })
	for i, k := range set.keys {
		set.index[k.KID] = i
	}
	for _, l := range lines(set.keys) {
		set.lines[l] = l.of(set.keys)
	}
	set.publish()
	return set, doubt
}

// sameRecord reports whether what open proved of the record is unchanged.
func sameRecord(old *keySet, k *SigningKey) bool {
	i, ok := old.index[k.KID]
	return ok && old.keys[i].Algorithm == k.Algorithm && old.keys[i].Use == k.Use && slices.Equal(old.keys[i].Public, k.Public)
}

// VerifySignature checks a JWS signature of an agent's token by the key of this kid, which must be one of agents' tokens: its algorithm
// is ES256. It wants r and s of 32 bytes each, as RFC 7518 has it. Both s and n-s are accepted, since signers differ and no standard says
// otherwise: so a token's bytes are not its identity, its jti is.
func (s *Signing) VerifySignature(ctx context.Context, kid, signingInput string, signature []byte) error {
	if err := s.verify(ctx, agents, kid, signingInput, signature); err != nil {
		return fmt.Errorf("keyring.VerifySignature: %w", err)
	}
	return nil
}

// verify takes nothing of a key of another line: to who asks for one, it is as unknown as if it were nobody's.
func (s *Signing) verify(ctx context.Context, l line, kid, signingInput string, signature []byte) error {
	key, err := s.published(ctx, kid)
	switch {
	case err != nil:
		return err
	case key.of != l:
		return ErrUnknownKey
	case !verifies(key.public, signingInput, signature):
		return ErrBadSignature
	}
	return nil
}

// KeyInForce says whether tokens of this kid count now, from the snapshot alone: for a caller that remembers having
// checked the signature.
func (s *Signing) KeyInForce(kid string) error {
	_, err := s.set.Load().find(kid, s.now())
	return err
}

func (set *keySet) find(kid string, now time.Time) (*openKey, error) {
	if l, ok := set.left[kid]; ok {
		return nil, l.why
	}
	i, ok := set.index[kid]
	if !ok {
		return nil, ErrUnknownKey
	}
	k := &set.keys[i]
	if k.revoked() {
		return nil, ErrRevokedKey
	}
	if !k.published(now) {
		return nil, ErrUnknownKey
	}
	o, ok := set.opened[kid]
	if !ok { // retired when the snapshot was made: the clock went back
		return nil, ErrUnknownKey
	}
	return o, nil
}

// lineOf is the line of a key; of one that nobody knows, agents'.
func (set *keySet) lineOf(kid string) line {
	l := agents
	if i, in := set.index[kid]; in {
		l = set.keys[i].line()
	} else if out, there := set.left[kid]; there {
		l = out.record.line()
	}
	if !l.supported() {
		return agents
	}
	return l
}

func (set *keySet) knows(kid string) bool {
	_, in := set.index[kid]
	_, out := set.left[kid]
	return in || out
}

// published finds a key, and reads the records again if it is unknown and that was not done a moment ago.
func (s *Signing) published(ctx context.Context, kid string) (*openKey, error) {
	set := s.set.Load()
	key, err := set.find(kid, s.now())
	if err == nil || set.knows(kid) || len(kid) != thumbprintSize {
		return key, err
	}
	if err := s.readForUnknown(ctx); err != nil {
		return nil, err
	}
	return s.set.Load().find(kid, s.now())
}
