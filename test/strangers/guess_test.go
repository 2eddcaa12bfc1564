package strangers

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/password"
)

// guesses are what became of some.
type guesses struct {
	mu              sync.Mutex
	reached, turned int // compared with a hash, or not
	atOne           int // of the first, those at one account
	took            time.Duration
	wrong           []string
}

func (g *guesses) count(at int, r reply, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil && r.status == http.StatusUnauthorized:
		if g.reached++; at == 0 {
			g.atOne++
		}
	case err == nil && (r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable) && r.header.Get("Retry-After") != "":
		g.turned++
	default:
		g.wrong = append(g.wrong, fmt.Sprint(err, " ", r.status, " ", r.body))
	}
}

// flood guesses from so many addresses at once, half of it at one account, so often from each and until it is over.
func (h *house) flood(t *testing.T, addresses, each int, over <-chan struct{}) *guesses {
	t.Helper()
	g, begun := &guesses{}, time.Now()
	var guessing sync.WaitGroup
	for from := range addresses {
		s := h.from(t, from)
		guessing.Go(func() {
			for n, last := 0, false; n < each || !last; n++ {
				at := 0
				if n%2 == 1 {
					at = from % 7 // of which two nobody has
				}
				r, err := s.signIn(t.Context(), address(at), fmt.Sprintf("guess number %d of %d", n, from))
				g.count(at, r, err)
				select {
				case <-over:
					last = true
				default:
				}
			}
		})
	}
	guessing.Wait()
	g.took = time.Since(begun)
	return g
}

// longest is for how long a flood may last. Guesses are forgotten meanwhile, so that one of five minutes shows nothing.
const longest = 5 * time.Minute

// hold holds what reached a hash to what may, of a flood that did not last too long to tell.
func (g *guesses) hold(t *testing.T, hashed int) {
	t.Helper()
	for _, w := range g.wrong[:min(5, len(g.wrong))] {
		t.Error(w)
	}
	cfg := signin.DefaultGuesses()
	may := func(a signin.Allowance) int { return min(100, a.Most+int(g.took/a.Forget)+1) }
	if g.reached > may(cfg.All) || g.atOne > may(cfg.Account) || hashed > may(cfg.All) || g.reached == 0 {
		t.Errorf("%d guesses were compared, %d of them at one account, and %d hashes made; at most %d and %d may", g.reached, g.atOne, hashed, may(cfg.All), may(cfg.Account))
	}
	if g.took >= longest {
		t.Errorf("the guesses took %v, and what is forgotten in that time is no bound", g.took)
	}
}

// household is a company of which five addresses have an account, and a device of the first.
func (h *house) household(t *testing.T) (known somebody) {
	t.Helper()
	c := h.company(t, "Acme")
	known = h.from(t, 20_000)
	for n := range 5 {
		if p := c.person(t, address(n), "member", goodPassword); n == 0 {
			known.cookie = c.device(t, p)
		}
	}
	return known
}

// TestGuessesSoak: of guesses from many addresses, half of them at one account, few are compared with a hash, however fast it is.
func TestGuessesSoak(t *testing.T) {
	h := newGround(t).open(t, func(p *password.Config, _ *signin.Config) { p.Quick = true })
	h.household(t)
	addresses, over := 50, make(chan struct{})
	if soak() {
		addresses = 500
	}
	close(over)
	made := h.Passwords.Counts().Made
	g := h.flood(t, addresses, 20, over)
	hashed := int(h.Passwords.Counts().Made - made)
	t.Logf("measured: of %d guesses from %d addresses in %v, half of them at one account, %d were compared with a hash, %d of these at that account, and %d were turned away",
		addresses*20, addresses, g.took.Round(time.Second/10), g.reached, g.atOne, g.turned)
	g.hold(t, hashed)
	if g.reached+g.turned+len(g.wrong) != addresses*20 {
		t.Errorf("%d and %d guesses are not %d", g.reached, g.turned, addresses*20)
	}
}

// signsIn signs in so often in a row, by a known device, and says how long each took without what the machine stood.
func (s somebody) signsIn(t *testing.T, times int) (took []time.Duration) {
	t.Helper()
	stood := watch()
	defer stood.end()
	for range times {
		before := stood.total()
		r, err := s.signIn(t.Context(), address(0), goodPassword)
		if err != nil || r.status != http.StatusOK {
			t.Errorf("the known device: %v %d %s", err, r.status, r.body)
		}
		took = append(took, r.took-(stood.total()-before))
		t.Logf("the known device took %v by the clock", ms(r.took))
		time.Sleep(200 * time.Millisecond) // or strangers would have no turn
	}
	slices.Sort(took)
	return took
}

// soonEnough is within what somebody on a known device is in, whoever guesses.
const soonEnough = 5 * time.Second

// TestKnownDeviceInAFloodSoak: whoever has signed in from a device before signs in from it while strangers guess. One sign-in in
// twenty, or one, may be late: a machine is. Where it takes most of a second with no guesses at all, it may take longer with them.
func TestKnownDeviceInAFloodSoak(t *testing.T) {
	h := newGround(t).open(t, nil)
	known := h.household(t)
	addresses, each, times := 50, 4, 6
	if soak() {
		addresses, each, times = 500, 20, 40
	}
	quiet := known.signsIn(t, 3)
	over, made := make(chan struct{}), h.Passwords.Counts().Made
	var took []time.Duration
	var meanwhile sync.WaitGroup
	meanwhile.Go(func() {
		defer close(over)
		took = known.signsIn(t, times)
	})
	g := h.flood(t, addresses, each, over)
	meanwhile.Wait()
	hashed := int(h.Passwords.Counts().Made-made) - times
	bound, late := max(soonEnough, 8*quiet[1]), max(1, times/20)
	t.Logf("measured: while %d guesses came from %d addresses in %v, of which %d were compared with a hash, a known device signed in %d times, half of them within %v, all but %d within %v, and all within %v; without guesses within %v (bound %v)",
		g.reached+g.turned, addresses, g.took.Round(time.Second/10), g.reached, times, ms(took[times/2]), late, ms(took[times-1-late]), ms(last(took)), ms(quiet[1]), ms(bound))
	if took[times-1-late] > bound {
		t.Errorf("the known device waited for %v, more than %v", took[times-1-late], bound)
	}
	g.hold(t, hashed)
}
