package strangers

import (
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// one is a sign-in of a crowd.
type one struct {
	who     somebody
	address string
	nobody  bool // has the address
}

// told is what a crowd was told.
type told struct {
	in, away int           // compared with a hash, and told to come back
	slowest  time.Duration // of those who were sent away
	wrong    []string
}

// rush has all sign in at the same moment.
func rush(t *testing.T, all []one) (out told) {
	t.Helper()
	var mu sync.Mutex
	var wait sync.WaitGroup
	gate, stood := make(chan struct{}), watch()
	defer stood.end()
	for _, o := range all {
		wait.Go(func() {
			<-gate
			before := stood.total()
			r, err := o.who.signIn(t.Context(), o.address, goodPassword)
			took := r.took - (stood.total() - before)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && (r.status == http.StatusOK && !o.nobody || r.status == http.StatusUnauthorized && o.nobody):
				out.in++
			case err == nil && r.status == http.StatusServiceUnavailable && seconds(r) >= 1 && seconds(r) <= 10:
				out.away++
				out.slowest = max(out.slowest, took)
			default:
				out.wrong = append(out.wrong, fmt.Sprint(err, " ", r.status, " ", r.header.Get("Retry-After"), " ", r.body))
			}
		})
	}
	close(gate)
	wait.Wait()
	return out
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

// TestSignInCrowdSoak: however many sign in at once, the process grows by the memory of its permits, one more, and 32 MiB. Those who
// cannot be served are told within two seconds when to come back, and the log is not filled with them.
func TestSignInCrowdSoak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: the measure is Linux's")
	}
	g := newGround(t)
	seed := g.open(t, nil)
	c := seed.company(t, "Acme")
	people, devices := 10, make([][]string, 10)
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
	idle, permits := s.memory("VmRSS"), max(1, runtime.GOMAXPROCS(0)-1)
	for i, all := range crowds(t, s.url, people, devices) {
		name := []string{"strangers at one account", "known devices", "strangers at 200 accounts"}[i]
		for try := 1; ; try++ { // a busy machine is slow in some tries
			got := rush(t, all)
			t.Logf("measured: %s: of %d sign-ins at once %d were compared with a hash, and %d were told to come back, the slowest after %v", name, crowd, got.in, got.away, got.slowest.Round(time.Millisecond))
			for _, w := range got.wrong[:min(3, len(got.wrong))] {
				t.Errorf("%s: %s", name, w)
			}
			if got.in == 0 {
				t.Errorf("%s: nobody is served", name)
			}
			if got.slowest <= 2*time.Second {
				break
			}
			if try == 5 {
				t.Errorf("%s: told to come back after %v", name, got.slowest)
				break
			}
		}
	}
	grown, most := s.memory("VmHWM")-idle, (64*(permits+1)+32)<<10
	t.Logf("measured: %d MiB idle, %d more at most (bound %d, of %d permits)", idle>>10, grown>>10, most>>10, permits)
	if grown > most || grown < 64<<10 {
		t.Errorf("it grew by %d KiB; at least 65536 or the measure is none, at most %d", grown, most)
	}
	if said := s.said(); strings.Contains(said, "ERROR") {
		t.Errorf("%d lines of error are in the log:\n%.2000s", strings.Count(said, "ERROR"), said)
	}
}
