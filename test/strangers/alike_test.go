package strangers

import (
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/test/alike"
)

// unbounded lets the one client of a test ask as often as it takes to measure.
func unbounded(p *password.Config, s *signin.Config) {
	never := signin.Allowance{Most: 1 << 30, Forget: time.Nanosecond}
	s.Guesses = signin.Guesses{Network: never, Account: never, All: never}
	s.Mails = s.Guesses
	p.Patience = time.Minute
}

// unhidden is that, without what hides the work of an answer.
func unhidden(p *password.Config, s *signin.Config) {
	unbounded(p, s)
	p.Unhidden, s.Step = true, 0
}

// differing is what differs between any two answers, and nothing else may: ids, and times.
var differing = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[0-9:.]+Z|n\d+@[a-z.]+`)

func (r reply) plain() string {
	return fmt.Sprint(r.status, " ", differing.ReplaceAllString(r.body, "-"))
}

// door is where strangers ask of addresses. Each kind of address is asked for by what ask returns, the first being one that
// nobody has.
type door struct {
	name  string
	times int
	kinds []kind
}

type kind struct {
	name string
	ask  func(n int) func() (reply, error)
}

// calls are the kinds for alike. Each answer must be the first kind's first.
func (d door) calls(t *testing.T) (all []alike.Kind) {
	t.Helper()
	want := ""
	for _, k := range d.kinds {
		all = append(all, func(n int) func() {
			ask := k.ask(n)
			return func() {
				got, err := ask()
				if want == "" {
					want = got.plain()
				}
				if err != nil || got.plain() != want {
					t.Errorf("%s, %s: %v %s, and of the others: %s", d.name, k.name, err, got.plain(), want)
				}
			}
		})
		all[len(all)-1](0)() // what is read but once is in memory
	}
	return all
}

// measured measures until the kinds are as wanted, five times at most: a busy machine may find a difference where there is none, or
// hide one, and neither in all of them. It goes by Welch's t alone, not as package alike by medians too: where answers take
// a whole number of steps, two medians are the same or a whole step apart.
func (d door) measured(t *testing.T, how string, wanted func(alike.Difference) bool) {
	t.Helper()
	calls := d.calls(t)
	for try := range 5 {
		found := alike.Compare(alike.Time(d.times, calls...))
		t.Logf("measured: %s %s, %s: try %d, %s", d.name, how, d.names(), try+1, found.Found)
		if wanted(found) {
			return
		}
	}
	t.Errorf("%s %s: it is not so", d.name, how)
}

func (d door) same(t *testing.T) {
	t.Helper()
	d.measured(t, "takes as long", func(f alike.Difference) bool { return f.T < alike.MostT })
}

// apart is the control, where something differs.
func (d door) apart(t *testing.T) {
	t.Helper()
	d.measured(t, "without what hides it takes longer", func(f alike.Difference) bool { return f.T >= alike.MostT })
}

func (d door) names() (all string) {
	for i, k := range d.kinds {
		all += fmt.Sprintf("%s (%d) ", k.name, i)
	}
	return all[:len(all)-1]
}

// doors are those of a house, for a company of it and another one.
func (h *house) doors(t *testing.T, acme, other company) (signIn, recovery, invitation door) {
	t.Helper()
	me := h.from(t, 1)
	var n atomic.Int64
	fresh := func() string { return fmt.Sprintf("n%d@else.example", n.Add(1)) }
	signs := func(name func() string, plain string) func(int) func() (reply, error) {
		return func(int) func() (reply, error) {
			a := name()
			return func() (reply, error) { return me.signIn(t.Context(), a, plain) }
		}
	}
	always := func(a string) func() string { return func() string { return a } }
	const wrong = "not the one, but as long"
	signIn = door{"sign-in", 12, []kind{
		{"nobody's address", signs(fresh, wrong)},
		{"a wrong password", signs(always("ada@acme.example"), wrong)},
		{"suspended, the right password", signs(always("eve@acme.example"), goodPassword)},
		{"an account without a password", signs(always("sam@acme.example"), wrong)},
	}}
	recovers := func(name func() string) func(int) func() (reply, error) {
		return func(int) func() (reply, error) {
			a := name()
			return func() (reply, error) {
				return me.ask(t.Context(), "/api/v1/recovery", map[string]any{"address": a})
			}
		}
	}
	recovery = door{"recovery", 8, []kind{
		{"nobody's address", recovers(fresh)}, {"an account's", recovers(always("ada@acme.example"))}, {"one of several accounts", recovers(always("kay@acme.example"))},
	}}
	invites := func(known bool) func(int) func() (reply, error) {
		return func(int) func() (reply, error) {
			a := fresh()
			if b := fresh(); known {
				other.person(t, a, "member", "")
			} else {
				other.person(t, b, "member", "") // the same goes before both
			}
			return func() (reply, error) {
				return me.ask(t.Context(), "/api/v1/invitations", map[string]any{"address": a, "roles": []string{"member"}}, "Authorization", "Bearer "+acme.key)
			}
		}
	}
	invitation = door{"invitation", 40, []kind{{"nobody's address", invites(false)}, {"one of another organisation", invites(true)}}}
	return signIn, recovery, invitation
}

// TestAccountsTakeAsLongSoak asks for addresses that nobody has and for those of all sorts of accounts, over HTTP, with real hashes. The
// answers are the same and take as long. Without what hides the work the same measure finds it.
func TestAccountsTakeAsLongSoak(t *testing.T) {
	g := newGround(t)
	h := g.open(t, unbounded)
	acme, other := h.company(t, "Acme"), h.company(t, "Other")
	acme.person(t, "ada@acme.example", "member", goodPassword)
	acme.person(t, "sam@acme.example", "member", "")
	h.suspend(t, acme, acme.person(t, "eve@acme.example", "member", goodPassword))
	for n := range 5 {
		h.company(t, fmt.Sprint("Company ", n)).person(t, "kay@acme.example", "member", "")
	}
	signIn, recovery, invitation := h.doors(t, acme, other)
	if soak() {
		signIn.times, recovery.times, invitation.times = 60, 40, 100
	}
	invitation.same(t)
	var both sync.WaitGroup // those who ask for recovery sleep most of the time
	both.Go(func() { recovery.same(t) })
	both.Go(func() { signIn.same(t) })
	both.Wait()
	naked := g.open(t, unhidden)
	signIn, recovery, _ = naked.doors(t, acme, other)
	signIn.times, recovery.times = 5, 150
	signIn.kinds, recovery.kinds = signIn.kinds[:2], recovery.kinds[:2]
	signIn.apart(t)
	recovery.apart(t)
}

func (h *house) suspend(t *testing.T, c company, p tenantdb.PersonID) {
	t.Helper()
	must(t, h.DB.Change(t.Context(), tenantdb.System(c.id, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, ev, err := h.Org.Pause(t.Context(), tx, p, time.Now().UTC().Truncate(time.Microsecond))
		return ev, err
	}))
}
