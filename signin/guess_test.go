package signin

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/problem"
)

var someday = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func home(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, byte(n >> 8), byte(n)}) }

// wrong makes wrong guesses until one is refused, and counts those that were let through.
func wrong(t *testing.T, most int, guess func(n int) (*guess, error), now time.Time) (n int, refused error) {
	t.Helper()
	for n = range most {
		g, err := guess(n)
		if err != nil {
			return n, err
		}
		g.ended(true, now)
	}
	return most, nil
}

func TestGuessesRunOut(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		guess func(g *guesses, n int) (*guess, error)
		want  int
	}{
		"of one network": {func(g *guesses, n int) (*guess, error) { return g.stranger(home(1), fmt.Sprint(n), someday) }, 10},
		"of one account": {func(g *guesses, n int) (*guess, error) { return g.stranger(home(n), "ada", someday) }, 10},
		"of all":         {func(g *guesses, n int) (*guess, error) { return g.stranger(home(n), fmt.Sprint(n), someday) }, 40},
		"of one IPv6 /64": {func(g *guesses, n int) (*guess, error) {
			return g.stranger(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n+1)), fmt.Sprint(n), someday)
		}, 10},
		"of one device": {func(g *guesses, n int) (*guess, error) { return g.known("ada", []string{"laptop"}, someday) }, 10},
		"of one device, with something else beside it each time": {func(g *guesses, n int) (*guess, error) {
			return g.known("ada", []string{fmt.Sprint(n), "laptop"}, someday)
		}, 10},
		"of one session": {func(g *guesses, n int) (*guess, error) { return g.own("s1", someday) }, 10},
	} {
		g := newGuesses(DefaultGuesses())
		n, err := wrong(t, 100, func(n int) (*guess, error) { return c.guess(g, n) }, someday)
		if n != c.want || !problem.Is(err, problem.TooMany) || problem.Of(err).RetryAfter <= 0 {
			t.Errorf("%s: %d wrong guesses were let through, want %d; then %v", what, n, c.want, err)
		}
	}
}

func TestKnownDevicesGoOn(t *testing.T) {
	t.Parallel()
	g := newGuesses(DefaultGuesses())
	wrong(t, 1000, func(n int) (*guess, error) { return g.stranger(home(n), "ada", someday) }, someday)
	wrong(t, 1000, func(n int) (*guess, error) { return g.stranger(home(n), fmt.Sprint(n), someday) }, someday)
	if _, err := g.stranger(home(5000), "ada", someday); err == nil {
		t.Fatal("strangers go on: the test does not test")
	}
	if _, err := g.known("ada", []string{"laptop"}, someday); err != nil {
		t.Errorf("a known device is kept out: %v", err)
	}
	if _, err := g.own("session", someday); err != nil {
		t.Errorf("who has a session is kept out: %v", err)
	}
}

func TestManyAtOnceAreNoWayAround(t *testing.T) {
	t.Parallel()
	g := newGuesses(DefaultGuesses())
	var through []*guess
	for range 200 {
		one, err := g.stranger(home(1), "ada", someday)
		if err == nil {
			through = append(through, one)
		} else if !problem.Is(err, problem.Unavailable) || problem.Of(err).RetryAfter <= 0 {
			t.Fatalf("while they are under way: %v", err)
		}
	}
	if len(through) != 10 {
		t.Errorf("%d at once", len(through))
	}
	for _, one := range through {
		one.ended(false, someday)
	}
	if _, err := g.stranger(home(1), "ada", someday); err != nil {
		t.Errorf("after all were right: %v", err)
	}
}

func TestGuessesAreForgotten(t *testing.T) {
	t.Parallel()
	g := newGuesses(DefaultGuesses())
	ask := func(at time.Time) error {
		one, err := g.stranger(home(1), "ada", at)
		if err == nil {
			one.ended(true, at)
		}
		return err
	}
	wrong(t, 100, func(int) (*guess, error) { return g.stranger(home(1), "ada", someday) }, someday)
	if ask(someday.Add(time.Minute)) == nil {
		t.Error("the account forgot after a minute")
	}
	if err := ask(someday.Add(7 * time.Minute)); err != nil {
		t.Errorf("after seven: %v", err)
	}
	if ask(someday.Add(7*time.Minute)) == nil {
		t.Error("two more were let through")
	}
	if err := ask(someday.Add(-time.Hour)); err == nil {
		t.Error("a clock that went back forgot")
	}
	g.sweep(someday.Add(24 * time.Hour))
	if len(g.buckets) != 0 {
		t.Errorf("%d buckets are left after a day", len(g.buckets))
	}
}

// TestGuessModel: whatever the order, no bucket lets more through that were wrong than it may, and sweeping changes nothing.
func TestGuessModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultGuesses()
		g, now, begun := newGuesses(cfg), someday, someday
		let := map[string]int{}
		var pending []*guess
		var whose []string
		t.Repeat(map[string]func(*rapid.T){
			"guess": func(t *rapid.T) {
				account := rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "account")
				one, err := g.stranger(home(rapid.IntRange(1, 500).Draw(t, "from")), account, now)
				if err == nil {
					pending, whose = append(pending, one), append(whose, account)
				}
			},
			"end": func(t *rapid.T) {
				if len(pending) == 0 {
					t.Skip("skipped: nothing is under way")
				}
				bad := rapid.Bool().Draw(t, "wrong")
				pending[0].ended(bad, now)
				if bad {
					let[whose[0]]++
				}
				pending, whose = pending[1:], whose[1:]
			},
			"wait":  func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "s")) * time.Second) },
			"sweep": func(*rapid.T) { g.sweep(now) },
			"": func(t *rapid.T) {
				for account, n := range let {
					if most := cfg.Account.Most + int(now.Sub(begun)/cfg.Account.Forget) + 1; n > most {
						t.Fatalf("%d wrong guesses of %s in %v, want at most %d", n, account, now.Sub(begun), most)
					}
				}
			},
		})
	})
}

// TestNobodyKeepsOthersFromRecovering: strangers who ask for links for addresses that nobody has keep nobody from asking for one.
func TestNobodyKeepsOthersFromRecovering(t *testing.T) {
	t.Parallel()
	g := newGuesses(DefaultMails())
	wrong(t, 1000, func(n int) (*guess, error) { return g.stranger(home(n), fmt.Sprint(n), someday) }, someday)
	if _, err := g.stranger(home(5000), "ada", someday); err != nil {
		t.Errorf("somebody who forgot a password: %v", err)
	}
}

// TestFullMemoryIsNoWayAround: who has more networks and addresses than are remembered gets no further by that at one account, and
// keeps nobody else out.
func TestFullMemoryIsNoWayAround(t *testing.T) {
	t.Parallel()
	g := newGuesses(DefaultMails())
	network := func(n int) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 1, 5: byte(n >> 16), 6: byte(n >> 8), 7: byte(n), 15: 1})
	}
	fill := func(from int) {
		wrong(t, mostBuckets, func(n int) (*guess, error) { return g.stranger(network(from+n), fmt.Sprint(from+n), someday) }, someday)
	}
	fill(0)
	if n, _ := wrong(t, 100, func(n int) (*guess, error) { return g.stranger(network(1<<20+n), "ada", someday) }, someday); n > 3 {
		t.Errorf("%d mails to one person, from many networks", n)
	}
	fill(1 << 18)
	if _, err := g.stranger(network(1<<21), "ada", someday); err == nil {
		t.Error("what was counted of a person is forgotten for the sake of strangers")
	}
	if n, _ := wrong(t, 100, func(n int) (*guess, error) { return g.stranger(network(1<<22), fmt.Sprint("x", n), someday) }, someday); n > 10 {
		t.Errorf("%d from one network", n)
	}
	if _, err := g.stranger(home(1), "bob", someday); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	if len(g.buckets) > mostBuckets {
		t.Errorf("%d are remembered", len(g.buckets))
	}
}
