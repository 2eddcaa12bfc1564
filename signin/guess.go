package signin

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

// Guesses bounds how often strangers may be wrong. A stranger is whoever does not come from a device on which the person has
// signed in before: a flood of guesses costs strangers their turn, and nobody who is known.
//
// Only what was wrong counts. While it is not known yet whether a guess was wrong it counts too, so that many at once are no
// way around.
type Guesses struct {
	Network, Account Allowance
	All              Allowance // zero is no bound: strangers must not be able to take everybody's turn
}

// Allowance is how many wrong guesses there may be at once, and in how long one is forgotten.
type Allowance struct {
	Most   int
	Forget time.Duration
}

// DefaultGuesses lets a person mistype, and an attacker with any number of addresses try some tens, and then one in five seconds
// of all accounts together.
func DefaultGuesses() Guesses {
	return Guesses{Network: Allowance{10, time.Minute}, Account: Allowance{10, 6 * time.Minute}, All: Allowance{40, 5 * time.Second}}
}

// bucket is the wrong guesses of one network, of one account, or of all.
type bucket struct {
	wrong   float64 // as of at
	at      time.Time
	forget  time.Duration
	pending int
}

// left is how many of its wrong guesses are not forgotten yet.
func (b *bucket) left(now time.Time) float64 {
	if b == nil {
		return 0
	}
	return max(0, b.wrong-max(0, float64(now.Sub(b.at))/float64(b.forget)))
}

type bucketKey [sha256.Size]byte

// mostBuckets bounds the memory, but for what is under way.
const mostBuckets = 20_000

// guesses is the present state, of one process: servers do not share it.
type guesses struct {
	cfg     Guesses
	mu      sync.Mutex
	buckets map[bucketKey]*bucket
	swept   time.Time
}

func newGuesses(cfg Guesses) *guesses { return &guesses{cfg: cfg, buckets: map[bucketKey]*bucket{}} }

// guess is one that was let through. Its end must be told, once.
type guess struct {
	of   *guesses
	keys []bucketKey
	most []Allowance
}

// stranger lets a guess of a stranger through, or refuses it: too many were wrong, or too many are under way.
func (g *guesses) stranger(from netip.Addr, account string, now time.Time) (*guess, error) {
	keys, most := []bucketKey{networkKey(from), key("account", account)}, []Allowance{g.cfg.Network, g.cfg.Account}
	if g.cfg.All.Most > 0 {
		keys, most = append(keys, key("all", "")), append(most, g.cfg.All)
	}
	return g.begin(keys, most, now)
}

// known is for a device from which the person has signed in: it is bounded by itself, and by nothing that others do. The device is
// all that it says of itself, of which one value is known: each is bounded, or who has that one would be another device with
// whatever stands beside it.
func (g *guesses) known(account string, device []string, now time.Time) (*guess, error) {
	keys, most := make([]bucketKey, len(device)), make([]Allowance, len(device))
	for i, value := range device {
		keys[i], most[i] = key("device", account+"\x00"+value), g.cfg.Account
	}
	return g.begin(keys, most, now)
}

// mail takes one of the few mails that a person can have sent to addresses that are nobody's yet.
func (g *guesses) mail(p [16]byte, now time.Time) error {
	t, err := g.begin([]bucketKey{key("person", string(p[:]))}, []Allowance{g.cfg.Account}, now)
	if err != nil {
		many := problem.New(problem.TooMany, "Too many mails were asked for. Try again later.")
		many.RetryAfter = problem.Of(err).RetryAfter
		return many
	}
	t.ended(true, now)
	return nil
}

// own is for who has a session and proves to be still there.
func (g *guesses) own(session string, now time.Time) (*guess, error) {
	return g.begin([]bucketKey{key("session", session)}, []Allowance{g.cfg.Account}, now)
}

func (g *guesses) begin(keys []bucketKey, most []Allowance, now time.Time) (*guess, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweep(now)
	if len(g.buckets)+len(keys) > mostBuckets {
		g.makeRoom(now)
	}
	for i, k := range keys {
		b := g.buckets[k]
		wrong := b.left(now)
		if wrong+1 > float64(most[i].Most) {
			wait := time.Duration((wrong + 1 - float64(most[i].Most)) * float64(most[i].Forget))
			err := problem.New(problem.TooMany, "Too many sign-ins were wrong. Try again later, or from a device on which you have signed in before.")
			err.RetryAfter = max(wait, time.Second).Round(time.Second)
			return nil, err
		}
		if b != nil && wrong+float64(b.pending)+1 > float64(most[i].Most) {
			err := problem.New(problem.Unavailable, "Too many sign-ins are under way. Try again in a moment.")
			err.RetryAfter, err.Busy = time.Second, true
			return nil, err
		}
	}
	for i, k := range keys {
		g.of(k, now, most[i]).pending++
	}
	return &guess{g, keys, most}, nil
}

// ended tells how a guess ended. One that was right leaves nothing; one that could not be looked at neither.
func (t *guess) ended(wrong bool, now time.Time) {
	g := t.of
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, k := range t.keys {
		b := g.of(k, now, t.most[i])
		b.pending = max(0, b.pending-1)
		if wrong {
			b.wrong++
		}
	}
}

// of is a bucket as of now. The lock is held.
func (g *guesses) of(k bucketKey, now time.Time, a Allowance) *bucket {
	b := g.buckets[k]
	if b == nil {
		b = &bucket{at: now, forget: a.Forget}
		g.buckets[k] = b
	}
	if now.After(b.at) {
		b.wrong, b.at = b.left(now), now
	}
	return b
}

// sweep forgets buckets that are as good as new, now and then. The lock is held.
func (g *guesses) sweep(now time.Time) {
	if now.Sub(g.swept) < time.Minute {
		return
	}
	g.swept = now
	for k, b := range g.buckets {
		if b.pending == 0 && b.left(now) == 0 {
			delete(g.buckets, k)
		}
	}
}

// makeRoom forgets that half of the buckets that holds least: who fills the memory pushes out what it was filled with, and neither
// what was counted of one person nor anybody who comes later. The lock is held.
func (g *guesses) makeRoom(now time.Time) {
	held := make([]float64, 0, len(g.buckets))
	for _, b := range g.buckets {
		if b.pending == 0 {
			held = append(held, b.left(now))
		}
	}
	slices.Sort(held)
	most := (len(held) + 1) / 2
	for k, b := range g.buckets {
		if most > 0 && b.pending == 0 && b.left(now) <= held[len(held)/2] {
			delete(g.buckets, k)
			most--
		}
	}
}

// key keeps what a bucket is of out of memory dumps, and short.
func key(kind, of string) bucketKey { return sha256.Sum256([]byte(kind + "\x00" + of)) }

// networkKey counts an IPv6 network of 64 bits as one address: anybody has that many.
func networkKey(a netip.Addr) bucketKey {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	n, _ := a.Prefix(bits) // fails only for no address at all, as on a Unix socket: those count as one
	return key("network", n.String())
}
