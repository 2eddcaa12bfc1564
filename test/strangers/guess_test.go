package strangers

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/tenantdb"
)

// guesses are what became of some.
type guesses struct {
	mu              sync.Mutex
	reached, turned int           // compared with a hash, or not
	slowest         time.Duration // sign-in of the known device
	signIns         int
	wrong           []string
}

func (g *guesses) count(r reply, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil && r.status == http.StatusUnauthorized:
		g.reached++
	case err == nil && (r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable) && r.header.Get("Retry-After") != "":
		g.turned++
	default:
		g.wrong = append(g.wrong, fmt.Sprint(err, " ", r.status, " ", r.body))
	}
}

// goOn signs in by a known device over and over until the guessing ends, and at least once.
func (g *guesses) goOn(ctx context.Context, over <-chan struct{}, me somebody) {
	stood := watch()
	defer stood.end()
	for {
		before := stood.total()
		r, err := me.signIn(ctx, address(0), goodPassword)
		took := r.took - (stood.total() - before)
		g.mu.Lock()
		g.signIns++
		g.slowest = max(g.slowest, took)
		if err != nil || r.status != http.StatusOK {
			g.wrong = append(g.wrong, fmt.Sprint("the known device: ", err, " ", r.status, " ", r.body))
		}
		g.mu.Unlock()
		select {
		case <-over:
			return
		case <-time.After(300 * time.Millisecond): // or strangers would have no turn
		}
	}
}

// TestGuessesSoak: of guesses from many addresses, half of them at one account, few are compared with a hash; and whoever has signed
// in from a device before signs in from it meanwhile.
func TestGuessesSoak(t *testing.T) {
	h := newGround(t).open(t, nil)
	c := h.company(t, "Acme")
	var first tenantdb.PersonID
	for n := range 5 {
		if p := c.person(t, address(n), "member", goodPassword); n == 0 {
			first = p
		}
	}
	known := h.from(t, 20_000)
	known.cookie = c.device(t, first)
	addresses, each := 50, 20
	if soak() {
		addresses = 500
	}
	g, over, made := &guesses{}, make(chan struct{}), h.Passwords.Counts().Made
	var guessing, other sync.WaitGroup
	other.Go(func() { g.goOn(t.Context(), over, known) })
	begun := time.Now()
	for from := range addresses {
		s := h.from(t, from)
		guessing.Go(func() {
			for n := range each {
				at := 0
				if n%2 == 1 {
					at = from % 7 // of which two nobody has
				}
				g.count(s.signIn(t.Context(), address(at), fmt.Sprintf("guess number %d of %d", n, from)))
			}
		})
	}
	guessing.Wait()
	took := time.Since(begun)
	close(over)
	other.Wait()
	hashed := int(h.Passwords.Counts().Made-made) - g.signIns
	t.Logf("measured: of %d guesses from %d addresses in %v, half of them at one account, %d were compared with a hash, %d were turned away; meanwhile a known device signed in %d times, within %v",
		addresses*each, addresses, took.Round(time.Second), g.reached, g.turned, g.signIns, g.slowest.Round(time.Millisecond))
	for _, w := range g.wrong[:min(5, len(g.wrong))] {
		t.Error(w)
	}
	all := signin.DefaultGuesses().All
	most := all.Most + int(took/all.Forget) + 1
	if most > 100 && took < 5*time.Minute { // on a machine that stands still, guesses are forgotten meanwhile
		most = 100
	}
	if g.reached > most || hashed > most || g.reached == 0 || g.reached+g.turned+len(g.wrong) != addresses*each {
		t.Errorf("%d guesses were compared, and %d hashes made; at most %d may", g.reached, hashed, most)
	}
	if g.slowest > 5*time.Second {
		t.Errorf("the known device waited for %v", g.slowest)
	}
}
