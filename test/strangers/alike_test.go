package strangers

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/alike"
)

// unbounded lets a test ask as often as it takes to measure.
func unbounded(p *password.Config, s *signin.Config) {
	never := signin.Allowance{Most: 1 << 30, Forget: time.Nanosecond}
	s.Guesses = signin.Guesses{Network: never, Account: never, All: never}
	s.Mails = s.Guesses
	p.Patience, p.Permits = time.Minute, hashing
}

// quick is that with hashes that cost nothing, so that there is nothing but the rest to measure.
func quick(p *password.Config, s *signin.Config) {
	unbounded(p, s)
	p.Quick = true
}

// wide is that in steps as long as those of recovery: what else a sign-in takes may pass one of 50 ms on a busy machine, or five, and is
// not hidden then.
func wide(p *password.Config, s *signin.Config) {
	quick(p, s)
	s.Step = 20 * signin.DefaultStep
}

// unhidden is one of these without what hides the work of an answer.
func unhidden(change func(*password.Config, *signin.Config)) func(*password.Config, *signin.Config) {
	return func(p *password.Config, s *signin.Config) {
		change(p, s)
		p.Unhidden, s.Step = true, 0
	}
}

// hashing is how many real hashes are made at once.
const hashing = 2

// tries is of how many measurements most must find the same.
func tries() int {
	if soak() {
		return 5
	}
	return 3
}

// mostly reports whether most of some tries are so, and tries no more often than tells. A busy machine may find a difference where
// there is none or hide one, and slow what is quick; but not in most tries.
func mostly(so func(try int) bool) bool {
	yes, no := 0, 0
	for try := 1; yes <= tries()/2 && no <= tries()/2; try++ {
		if so(try) {
			yes++
		} else {
			no++
		}
	}
	return yes > no
}

// differing is what differs between any two answers, and nothing else may: ids, times, and the key that asks.
var differing = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[0-9:.]+Z|n\d+@[a-z.]+|key:\w+`)

// plain is an answer without that: the body, and of each header what it says but for what it says of one request.
func (r reply) plain() string {
	all := fmt.Sprint(r.status, " ", differing.ReplaceAllString(r.body, "-"))
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		says := r.header[name]
		switch name {
		case "Date", "Content-Length", "X-Request-Id", "Set-Cookie":
			says = []string{fmt.Sprint(len(says))}
		}
		all += fmt.Sprintf("\n%s: %s", name, differing.ReplaceAllString(strings.Join(says, ", "), "-"))
	}
	return all
}

// door is where strangers ask of addresses. Each kind of address is asked for by what ask returns, the first being one that
// nobody has.
type door struct {
	name  string
	times int           // that each kind is asked for by each who asks, in one measurement
	lanes int           // who ask at once
	pace  time.Duration // each asks once in so long, or as often as it gets answers: what is not held up is not to crowd more
	kinds []kind
}

type kind struct {
	name string
	ask  func(me somebody) func() (reply, error)
}

// likeness is what all answers of a door are.
type likeness struct {
	mu     sync.Mutex
	answer string
	other  bool // was said
}

func (l *likeness) hold(t *testing.T, what, answer string, err error) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answer == "" {
		l.answer = answer
	}
	if (err != nil || answer != l.answer) && !l.other {
		l.other = true
		t.Errorf("%s: %v %s\nand of the others: %s", what, err, answer, l.answer)
	}
}

// call is a kind for alike. It begins once in the pace, for which it waits before its time counts.
func (d door) call(t *testing.T, k kind, me somebody, all *likeness, begun time.Time, calls *int) alike.Kind {
	return func(int) func() {
		ask := k.ask(me)
		time.Sleep(time.Until(begun.Add(time.Duration(*calls) * d.pace)))
		*calls++
		return func() {
			got, err := ask()
			all.hold(t, d.name+", "+k.name, got.plain(), err)
		}
	}
}

// measure measures once. Each lane has a connection of its own, and begins at its own part of the pace.
func (h *house) measure(t *testing.T, d door, all *likeness) alike.Difference {
	t.Helper()
	took := make([][]float64, len(d.kinds))
	var mu sync.Mutex
	var wait sync.WaitGroup
	for lane := range d.lanes {
		me := h.from(t, lane)
		wait.Go(func() {
			_, _ = me.ask(t.Context(), "/api/v1/sign-in", nil) // connects; where it cannot, the calls below say so
			begun, made, calls := time.Now().Add(time.Duration(lane)*d.pace/time.Duration(d.lanes)), 0, []alike.Kind(nil)
			for _, k := range d.kinds {
				calls = append(calls, d.call(t, k, me, all, begun, &made))
			}
			mine := alike.Time(d.times, calls...)
			mu.Lock()
			defer mu.Unlock()
			for i := range took {
				took[i] = append(took[i], mine[i]...)
			}
		})
	}
	wait.Wait()
	if len(took[0]) == 0 { // each lane has failed
		return alike.Difference{}
	}
	return furthest(took)
}

// furthest goes by Welch's t of the ranks, where a call that a busy machine made ten times as long is but the last. By that of the
// times themselves, which is said too, a few calls that took a step more for want of a processor hide a difference or make one. It does
// not go by medians as package alike does: where answers take whole steps, two medians are the same or a whole step apart. The soak,
// which has the machine to itself, goes by both.
func furthest(took [][]float64) alike.Difference {
	d, plain := alike.Compare(ranked(took)), alike.Compare(took)
	d.Found = fmt.Sprintf("%s; of ranks t %.1f", plain.Found, d.T)
	if soak() {
		d.T = max(d.T, plain.T)
	}
	return d
}

// ranked has each value's place among all.
func ranked(took [][]float64) (ranks [][]float64) {
	all := slices.Concat(took...)
	slices.Sort(all)
	for _, some := range took {
		var places []float64
		for _, v := range some {
			i, _ := slices.BinarySearch(all, v)
			places = append(places, float64(i))
		}
		ranks = append(ranks, places)
	}
	return ranks
}

// alike reports whether most measurements find the kinds of a door alike.
func (h *house) alike(t *testing.T, d door, how string) bool {
	t.Helper()
	all, me, made := &likeness{}, h.from(t, 0), 0
	for _, k := range d.kinds {
		d.call(t, k, me, all, time.Time{}, &made)(0)() // what is read but once is in memory
	}
	return mostly(func(try int) bool {
		begun := time.Now()
		found := h.measure(t, d, all)
		t.Logf("measured: %s, %s, %s: try %d, %s, in %v", d.name, how, d.names(), try, found.Found, time.Since(begun).Round(time.Second/10))
		return found.T < alike.MostT
	})
}

func (h *house) same(t *testing.T, d door) {
	t.Helper()
	if !h.alike(t, d, "as it is") {
		t.Errorf("%s: strangers can tell by the time", d.name)
	}
}

// apart is the control: the same measure, as often, where something differs. Without it nobody would know that same can fail.
func (h *house) apart(t *testing.T, d door, how string) {
	t.Helper()
	if h.alike(t, d, how) {
		t.Errorf("%s, %s: that is not found, so the measure is none", d.name, how)
	}
}

func (d door) names() (all string) {
	for i, k := range d.kinds {
		all += fmt.Sprintf("%s (%d) ", k.name, i)
	}
	return all[:len(all)-1]
}

// wrong is a password that is nobody's, as long as theirs.
const wrong = "not the one, but as long"

// nobody is not there: another one each time.
func nobody() string { return fmt.Sprintf("n%d@else.example", 1e9+rand.IntN(9e9)) }

func always(address string) func() string { return func() string { return address } }

func signs(name func() string, plain string) func(somebody) func() (reply, error) {
	return asks("/api/v1/sign-in", func() map[string]any { return map[string]any{"address": name(), "password": plain} })
}

// asks makes what is sent ready before the time counts.
func asks(path string, body func() map[string]any) func(somebody) func() (reply, error) {
	return func(me somebody) func() (reply, error) {
		b := body()
		return func() (reply, error) { return me.ask(context.Background(), path, b) }
	}
}

// signIn is the door of passwords, as long as they cost what they do.
func signIn() door {
	return door{"sign-in", 4, hashing, 0, []kind{
		{"nobody's address", signs(nobody, wrong)},
		{"a wrong password", signs(always("ada@acme.example"), wrong)},
		{"suspended, the right password", signs(always("eve@acme.example"), goodPassword)},
		{"an account without a password", signs(always("sam@acme.example"), wrong)},
	}}
}

// signInBeside is the same, of which the password is no part.
func signInBeside() door {
	d := signIn()
	return door{"sign-in but for the hash", 2, 120, time.Second, []kind{d.kinds[0], d.kinds[2]}}
}

// recovery takes twenty steps.
func recovery() door {
	recovers := func(name func() string) func(somebody) func() (reply, error) {
		return asks("/api/v1/recovery", func() map[string]any { return map[string]any{"address": name()} })
	}
	return door{"recovery", 1, 30, time.Second, []kind{
		{"nobody's address", recovers(nobody)}, {"an account's", recovers(always("ada@acme.example"))}, {"one of several accounts", recovers(always("kay@acme.example"))},
	}}
}

// hosts invite, each as often as an organisation may in an hour.
type hosts struct {
	h    *house
	mu   sync.Mutex
	left int
	last company
}

func (o *hosts) next(t *testing.T) company {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left == 0 {
		o.last, o.left = o.h.company(t, "Hosts"), 200
	}
	o.left--
	return o.last
}

// invitation is the door of those who may invite. Of an address that others know, so many logs are told first: a difference as one
// would make it, which grows with what else a machine has to do.
func (h *house) invitation(t *testing.T, other company, told int) door {
	from := &hosts{h: h}
	invites := func(known bool) func(somebody) func() (reply, error) {
		return func(me somebody) func() (reply, error) {
			invited, member := nobody(), nobody()
			other.person(t, member, "member", "") // the same goes before both
			if known {
				invited = member
			}
			body, key := map[string]any{"address": invited, "roles": []string{"member"}}, from.next(t).key
			return func() (reply, error) {
				for n := 0; known && n < told; n++ {
					ev := audit.Event{Type: "signin.refused", Outcome: audit.Denied, Target: audit.Target{Kind: "person"}}
					if _, err := h.DB.Record(context.Background(), tenantdb.System(other.id, "test"), ev); err != nil {
						return reply{}, err
					}
				}
				return me.ask(context.Background(), "/api/v1/invitations", body, "Authorization", "Bearer "+key)
			}
		}
	}
	return door{"invitation", 25, 4, 0, []kind{{"nobody's address", invites(false)}, {"one of another organisation", invites(true)}}}
}

// neighbours are those of whom strangers ask.
func (h *house) neighbours(t *testing.T) (other company) {
	t.Helper()
	acme := h.company(t, "Acme")
	acme.person(t, "ada@acme.example", "member", goodPassword)
	acme.person(t, "sam@acme.example", "member", "")
	h.suspend(t, acme, acme.person(t, "eve@acme.example", "member", goodPassword))
	for n := range 5 {
		h.company(t, fmt.Sprint("Company ", n)).person(t, "kay@acme.example", "member", "")
	}
	return h.company(t, "Other")
}

// more is so many times as many in a soak.
func (d door) more(times int) door {
	if soak() {
		d.times *= times
	}
	return d
}

// TestAccountsTakeAsLongSoak asks for addresses that nobody has and for those of all sorts of accounts, over HTTP, with real hashes. The
// answers are the same and take as long. Without what hides the work the same measure finds it.
func TestAccountsTakeAsLongSoak(t *testing.T) {
	g := newGround(t)
	h := g.open(t, unbounded)
	h.neighbours(t)
	door := signIn().more(4)
	h.same(t, door)
	door.kinds = door.kinds[:2]
	g.open(t, unhidden(unbounded)).apart(t, door, "without what hides it")
}

// TestRestTakesAsLongSoak is that where hashes take nothing: what else there is to do for an account takes as long as for none, at each
// door.
func TestRestTakesAsLongSoak(t *testing.T) {
	g := newGround(t)
	h, wide, naked := g.open(t, quick), g.open(t, wide), g.open(t, unhidden(quick))
	other := h.neighbours(t)
	var both sync.WaitGroup // they sleep most of the time
	both.Go(func() { h.same(t, recovery().more(4)) })
	both.Go(func() { wide.same(t, signInBeside().more(4)) })
	both.Wait()
	both.Go(func() { naked.apart(t, recovery().more(4), "without what hides it") })
	both.Go(func() { naked.apart(t, signInBeside().more(4), "without what hides it") })
	both.Wait()
	h.same(t, h.invitation(t, other, 0).more(4))
	h.apart(t, h.invitation(t, other, 10).more(4), "where ten logs are told")
}

func (h *house) suspend(t *testing.T, c company, p tenantdb.PersonID) {
	t.Helper()
	must(t, h.DB.Change(t.Context(), tenantdb.System(c.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, ev, err := h.Org.Pause(t.Context(), tx, p, time.Now().UTC().Truncate(time.Microsecond))
		return ev, err
	}))
}
