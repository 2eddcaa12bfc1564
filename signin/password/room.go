package password

import (
	"context"
	"crypto/fips140"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Config is what the room needs.
type Config struct {
	Ring *keyring.Ring
	// Breached is where passwords that others know are looked up; nil has the built-in list alone.
	Breached *Breached
	// Permits is how many hashes are made at once; 0 is DefaultPermits.
	Permits int
	// Patience is how long somebody waits for a permit, and the known device to which the next one goes twice as long; 0 is
	// DefaultPatience.
	Patience time.Duration
	// FIPS has new hashes made by PBKDF2, which FIPS 140-3 knows; it is on by itself where Go's FIPS mode is.
	FIPS bool
	Now  func() time.Time // nil is time.Now
	// Quick is for tests: a hash costs next to nothing, and any other room finds it outdated. False in a server.
	Quick bool
	// Unhidden is a failpoint for tests: whoever has no password is refused without the work. False in a server.
	Unhidden bool
}

// DefaultPatience leaves a request time for the hash itself, after the wait for a permit: within two seconds it is either
// served or told to come back.
const DefaultPatience = 1500 * time.Millisecond

// DefaultPermits leaves one processor to everything else.
func DefaultPermits() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// Room is the passwords of all people.
type Room struct {
	cfg     Config
	want    scheme
	permits *permits
	made    atomic.Uint64

	once  sync.Mutex
	decoy Stored
}

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Permits == 0 {
		cfg.Permits = DefaultPermits()
	}
	if cfg.Patience == 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Breached == nil {
		cfg.Breached = &Breached{}
	}
	want := argon2idNow
	switch {
	case cfg.Quick:
		want = quick
	case cfg.FIPS || fips140.Enabled():
		want = pbkdf2Now
	}
	return &Room{cfg: cfg, want: want, permits: newPermits(cfg.Permits, cfg.Patience)}
}

// Counts tell how the room is getting on, for metrics.
type Counts struct {
	Waiting int    // for a permit, now
	Made    uint64 // hashes, since the start
	Refused uint64 // since the start, for want of a permit
	Failed  uint64 // look-ups in a breached list that could not be made, since the start
}

// Counts are the present counts.
func (r *Room) Counts() Counts {
	waiting, refused := r.permits.counts()
	return Counts{Waiting: waiting, Made: r.made.Load(), Refused: refused, Failed: r.cfg.Breached.Failed()}
}

// Hash is what is kept of a new password, sealed for one person. Store keeps it.
type Hash struct {
	secret.Hidden
	tenant tenantdb.TenantID
	person tenantdb.PersonID
	sealed []byte
}

// Sealed is the hash to be kept elsewhere for a while: only for its person does it open.
func (h Hash) Sealed() []byte { return h.sealed }

// Kept is a hash that was kept elsewhere, by Sealed.
func Kept(t tenantdb.TenantID, p tenantdb.PersonID, sealed []byte) Hash {
	return Hash{tenant: t, person: p, sealed: sealed}
}

// Hash makes the hash of a password of a person. It takes a permit, and as long as a sign-in: never call it in a transaction. It
// does not Check.
func (r *Room) Hash(ctx context.Context, from From, t tenantdb.TenantID, p tenantdb.PersonID, plain secret.String) (Hash, error) {
	clean, err := normalise(plain)
	if err != nil {
		return Hash{}, fmt.Errorf("password.Hash: %w", err)
	}
	made := phc{scheme: r.want, salt: make([]byte, saltSize)}
	rand.Read(made.salt)
	if made.sum, err = r.derive(ctx, from, made, clean); err != nil {
		return Hash{}, fmt.Errorf("password.Hash: %w", err)
	}
	h, err := r.seal(ctx, t, p, made)
	if err != nil {
		return Hash{}, fmt.Errorf("password.Hash: %w", err)
	}
	return h, nil
}

func (r *Room) seal(ctx context.Context, t tenantdb.TenantID, p tenantdb.PersonID, made phc) (Hash, error) {
	sealed, err := r.cfg.Ring.Seal(ctx, t, p.String(), sealedField, sealedVersion, []byte(made.String()))
	return Hash{tenant: t, person: p, sealed: sealed}, err
}

// The place that a hash is sealed in, beside its tenant and person. Its version is not the row's: whoever could put an old hash
// back could put back its version too.
const (
	sealedField   = "password"
	sealedVersion = 1
)

// Stored is the password of a person as it is kept, or of nobody: the zero value.
type Stored struct {
	ChangedAt time.Time // zero if there is none

	hash    Hash
	version int64
}

// Same reports whether it is what another reading found: nobody has changed the password in between.
func (s Stored) Same(o Stored) bool { return s.version == o.version && s.IsZero() == o.IsZero() }

// IsZero reports whether there is no password.
func (s Stored) IsZero() bool { return s.hash.sealed == nil }

// Verify tells whether a password is the one that is stored, and whether its hash is of a kind that is made no longer: then Hash
// it again and Upgrade. A zero Stored is false after the same work. The error is problem.Unavailable, with a time to come back,
// if too many others wait; problem.Internal if what is stored cannot be opened. Never call it in a transaction.
func (r *Room) Verify(ctx context.Context, from From, s Stored, plain secret.String) (ok, outdated bool, err error) {
	decoy, err := r.pretend(ctx)
	if err != nil {
		return false, false, fmt.Errorf("password.Verify: %w", err)
	}
	known := !s.IsZero()
	if !known {
		if r.cfg.Unhidden {
			return false, false, nil
		}
		s = decoy
	}
	kept, err := r.open(ctx, s)
	if err != nil {
		return false, false, fmt.Errorf("password.Verify: %w", err)
	}
	clean, invalid := normalise(plain)
	sum, err := r.derive(ctx, from, kept, clean)
	if err != nil {
		return false, false, fmt.Errorf("password.Verify: %w", err)
	}
	ok = kept.equal(sum) && known && invalid == nil
	return ok, ok && kept.scheme != r.want, nil
}

func (r *Room) open(ctx context.Context, s Stored) (phc, error) {
	text, err := r.cfg.Ring.Open(ctx, s.hash.tenant, s.hash.person.String(), sealedField, sealedVersion, s.hash.sealed)
	if err != nil {
		return phc{}, err
	}
	return parsePHC(string(text))
}

// decoyLife is shorter than a version of a key is kept that nothing is sealed under any more: no rotation finds what is in memory.
const decoyLife = time.Hour

// pretend is the decoy: what is opened and hashed for whoever has no password. It is a hash of nothing, sealed like all others.
func (r *Room) pretend(ctx context.Context) (Stored, error) {
	r.once.Lock()
	defer r.once.Unlock()
	if !r.decoy.IsZero() && r.cfg.Now().Sub(r.decoy.ChangedAt) < decoyLife {
		return r.decoy, nil
	}
	made := phc{scheme: r.want, salt: make([]byte, saltSize), sum: make([]byte, r.want.size)}
	rand.Read(made.salt)
	rand.Read(made.sum)
	h, err := r.seal(ctx, tenantdb.Platform, tenantdb.PersonID{}, made)
	if err != nil {
		return Stored{}, err
	}
	r.decoy = Stored{hash: h, ChangedAt: r.cfg.Now()}
	return r.decoy, nil
}

// derive waits for a permit and hashes.
func (r *Room) derive(ctx context.Context, from From, p phc, clean []byte) ([]byte, error) {
	if err := r.permits.take(ctx, from); err != nil {
		return nil, err
	}
	r.made.Add(1)
	sum, err := p.derive(clean)
	// The memory of a hash is garbage now. It must be gone before the next takes its own, or a crowd would take as much as
	// the collector lets pile up; but who waits for this answer need not wait for that.
	if p.heavy() {
		go func() {
			collect()
			r.permits.give()
		}()
	} else {
		r.permits.give()
	}
	return sum, err
}

// Load reads the password of a person of the transaction's organisation; zero if there is none.
func (r *Room) Load(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (Stored, error) {
	s, err := load(ctx, tx, p)
	if err != nil {
		return Stored{}, fmt.Errorf("password.Load: %w", err)
	}
	return s, nil
}

var errNotTheirs = errors.New("the hash is another person's")

// Store makes a password the person's, in place of the one that there is.
func (r *Room) Store(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, h Hash) error {
	if h.sealed == nil || h.tenant != tx.Tenant() || h.person != p {
		return fmt.Errorf("password.Store: %w", errNotTheirs)
	}
	if err := store(ctx, tx, h, r.cfg.Now().UTC().Truncate(time.Microsecond)); err != nil {
		return fmt.Errorf("password.Store: %w", err)
	}
	return nil
}

// Upgrade puts a new hash of the same password in the place of what Verify found outdated. It does nothing, and says so, if the
// password was changed meanwhile: the old one must not come back.
func (r *Room) Upgrade(ctx context.Context, tx *tenantdb.Tx, s Stored, h Hash) (done bool, err error) {
	if h.sealed == nil || s.IsZero() || h.tenant != tx.Tenant() || h.tenant != s.hash.tenant || h.person != s.hash.person {
		return false, fmt.Errorf("password.Upgrade: %w", errNotTheirs)
	}
	if done, err = upgrade(ctx, tx, h, s.version); err != nil {
		return false, fmt.Errorf("password.Upgrade: %w", err)
	}
	return done, nil
}

// End removes the password of a person, if there is one, and says how many those were. Why is for others.
func (r *Room) End(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, _ string) (int, error) {
	n, err := end(ctx, tx, p)
	if err != nil {
		return 0, fmt.Errorf("password.End: %w", err)
	}
	return n, nil
}

// busy is for whoever found no permit.
func busy() error {
	e := problem.New(problem.Unavailable, "Too many people are signing in at this moment. Try again in a few seconds.")
	e.RetryAfter, e.Busy = comeBack, true
	return e
}
