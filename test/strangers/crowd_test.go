package strangers

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/password"
)

// one is a sign-in of a crowd.
type one struct {
	who     somebody
	address string
	nobody  bool // has the address
}

// told is what a crowd was told, and after how long, without what the machine stood meanwhile.
type told struct {
	in, away []time.Duration // compared with a hash, and told to come back; from the soonest
	raw      time.Duration   // the slowest of all, with that
	wrong    []string
}

// rush has all do the same at the same moment.
func rush(all []one, ask func(one) (reply, error), wanted func(one, reply) (in, away bool)) (out told) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	gate, stood := make(chan struct{}), watch()
	defer stood.end()
	for _, o := range all {
		wait.Go(func() {
			<-gate
			before, begun := stood.total(), time.Now()
			r, err := ask(o)
			raw := time.Since(begun)
			took := raw - (stood.total() - before)
			mu.Lock()
			defer mu.Unlock()
			out.raw = max(out.raw, raw)
			switch in, away := wanted(o, r); {
			case err == nil && in:
				out.in = append(out.in, took)
			case err == nil && away:
				out.away = append(out.away, took)
			default:
				out.wrong = append(out.wrong, fmt.Sprint(err, " ", r.status, " ", r.header.Get("Retry-After"), " ", r.body))
			}
		})
	}
	close(gate)
	wait.Wait()
	slices.Sort(out.in)
	slices.Sort(out.away)
	return out
}

// hash is the longest that one took of those that were made, so many at a time: in the crowd, as slow as that makes them. The first
// have waited for nobody.
func (o told) hash(permits int) (most time.Duration) {
	for i, end := range o.in {
		if i >= permits {
			end -= o.in[i-permits]
		}
		most = max(most, end)
	}
	return most
}

func last(of []time.Duration) time.Duration {
	if len(of) == 0 {
		return 0
	}
	return of[len(of)-1]
}

// signsIn is for rush.
func signsIn(ctx context.Context) func(one) (reply, error) {
	return func(o one) (reply, error) { return o.who.signIn(ctx, o.address, goodPassword) }
}

func signedIn(o one, r reply) (in, away bool) {
	in = r.status == http.StatusOK && !o.nobody || r.status == http.StatusUnauthorized && o.nobody
	return in, r.status == http.StatusServiceUnavailable && seconds(r) >= 1 && seconds(r) <= 10
}

// noLink is one in form.
var noLink = "avl_" + strings.Repeat("a", 52)

// follows is a link that nobody was sent: as much work for a server as to turn somebody away who signs in, with nothing to wait for.
func follows(ctx context.Context) func(one) (reply, error) {
	return func(o one) (reply, error) {
		return o.who.ask(ctx, "/api/v1/recovery/finish", map[string]any{"link": noLink, "password": goodPassword})
	}
}

func refused(_ one, r reply) (in, away bool) {
	return false, r.status >= 400 && r.status < 500
}

func seconds(r reply) int {
	n, _ := strconv.Atoi(r.header.Get("Retry-After")) // none is too few
	return n
}

const crowd = 200

// crowds are those that come, a row each: strangers at one account, known devices, which no bound of guesses holds up, and strangers
// at as many accounts. Of those there are so many, and the rest nobody has.
func crowds(t *testing.T, url string, people int, devices [][]string) (all [3][]one) {
	t.Helper()
	for n := range crowd {
		s := from(t, url, n)
		all[0] = append(all[0], one{s, address(0), false})
		all[2] = append(all[2], one{s, address(n), n >= people})
		p := n % len(devices)
		s.cookie = devices[p][n/len(devices)]
		all[1] = append(all[1], one{s, address(p), false})
	}
	return all
}

// answered is within what all of a crowd are to know whether they are in, but for the hash itself. Of that, left is for all but to
// wait for a permit.
const (
	answered = 2 * time.Second
	left     = answered / 4
)

// inTime has a crowd sign in, and reports whether each was told in time. On a machine where a crowd is slow at what nobody waits for,
// it is allowed to be as slow at this.
func (p *process) inTime(t *testing.T, name string, all []one) bool {
	t.Helper()
	beside := rush(all, follows(t.Context()), refused)
	got := rush(all, signsIn(t.Context()), signedIn)
	hash, slack := got.hash(p.permits), max(0, last(beside.away)-left)
	t.Logf("measured: %s: of %d sign-ins at once %d were compared with a hash, the slowest after %v, and %d were told to come back, the slowest after %v; one hash took %v, the slowest of all %v by the clock, and %v where nobody waits for a hash",
		name, len(all), len(got.in), ms(last(got.in)), len(got.away), ms(last(got.away)), ms(hash), ms(got.raw), ms(last(beside.away)))
	for _, w := range slices.Concat(beside.wrong, got.wrong)[:min(3, len(beside.wrong)+len(got.wrong))] {
		t.Errorf("%s: %s", name, w)
	}
	if len(got.in) == 0 || len(got.away) == 0 {
		t.Errorf("%s: %d are served and %d are told to come back", name, len(got.in), len(got.away))
	}
	return last(got.away) <= answered+slack && last(got.in) <= answered+slack+hash
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// TestSignInCrowdSoak: however many sign in at once, the process grows by the memory of its permits, one more, and 32 MiB. Those who
// cannot be served are told within two seconds when to come back, the others are served within that and a hash, and the log
// is not filled with them.
func TestSignInCrowdSoak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: the measure is Linux's")
	}
	g := newGround(t)
	seed := g.open(t, func(p *password.Config, _ *signin.Config) { p.Permits = processors })
	c := seed.company(t, "Acme")
	people, devices := 5, make([][]string, 5)
	if soak() {
		people = crowd
	}
	for n := range people {
		p := c.person(t, address(n), "member", goodPassword)
		for n < len(devices) && len(devices[n]) < crowd/len(devices) {
			devices[n] = append(devices[n], c.device(t, p))
		}
	}
	s := g.serve(t)
	idle := s.memory("VmRSS")
	for i, all := range crowds(t, s.url, people, devices) {
		name := []string{"strangers at one account", "known devices", "strangers at 200 accounts"}[i]
		if s.inTime(t, name, all) {
			continue
		}
		for range 2 { // a busy machine makes one crowd late, and not the next two
			if !s.inTime(t, name, all) {
				t.Errorf("%s: they wait for longer than %v", name, answered)
			}
		}
	}
	grown, most := s.memory("VmHWM")-idle, (64*(s.permits+1)+32)<<10
	t.Logf("measured: %d MiB idle, %d more at most (bound %d, of %d permits)", idle>>10, grown>>10, most>>10, s.permits)
	if grown > most || grown < 64<<10 {
		t.Errorf("it grew by %d KiB; at least 65536 or the measure is none, at most %d", grown, most)
	}
	if said := s.said(); strings.Contains(said, "ERROR") {
		t.Errorf("%d lines of error are in the log:\n%.2000s", strings.Count(said, "ERROR"), said)
	}
}
