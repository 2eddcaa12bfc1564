package apikey

import (
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// soak says whether the full counts are asked for.
func soak() bool { return os.Getenv("AVOUCH_SOAK") == "1" }

// TestMain makes a run of rapid shorter than its default, since each step is several commits: -rapid.checks says otherwise.
func TestMain(m *testing.M) {
	checks := "12"
	if soak() {
		checks = "400"
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// modelKey is what a key ought to be, kept beside the real one. It is written from API-KEYS.md, not from the code.
type modelKey struct {
	made              Created
	life              time.Duration // 0 is for ever
	end               time.Time     // zero is never
	disabled, revoked bool
	before, after     *modelKey
	maker             *modelKey
	given             string   // to whom
	uses              int64    // that it was given, with all generations; 0 is unlimited
	left              []*int64 // of those, and of each that made it, while they lasted
}

func (k *modelKey) spent() bool {
	return slices.ContainsFunc(k.left, func(n *int64) bool { return *n == 0 })
}

// first is the first generation.
func (k *modelKey) first() *modelKey {
	for k.before != nil {
		k = k.before
	}
	return k
}

func (k *modelKey) status(now time.Time) Status {
	switch {
	case k.revoked:
		return Revoked
	case k.disabled:
		return Disabled
	case !k.end.IsZero() && !now.Before(k.end):
		return Expired
	}
	return Active
}

// keyMachine drives two servers and the model with the same operations.
type keyMachine struct {
	t     *rapid.T
	rooms []fixture
	owner tenantdb.Caller
	clock *stillClock
	keys  []*modelKey
}

func (m *keyMachine) room() *Room { return rapid.SampledFrom(m.rooms).Draw(m.t, "server").room }

func (m *keyMachine) pick() *modelKey {
	if len(m.keys) == 0 {
		m.create()
	}
	return rapid.SampledFrom(m.keys).Draw(m.t, "key")
}

// expect compares an outcome with the one that the model allows.
func (m *keyMachine) expect(what string, err error, possible bool, otherwise problem.Kind) bool {
	if possible && err != nil || !possible && !problem.Is(err, otherwise) {
		m.t.Fatalf("%s: %v, possible: %t", what, err, possible)
	}
	return possible
}

// mostOfOne is how many keys the machine lets one owner have.
const mostOfOne = 2

// full reports whether an owner has as many keys as he may: generations of one are one.
func (m *keyMachine) full(owner string) bool {
	in := map[*modelKey]bool{}
	for _, k := range m.keys {
		if k.given == owner && !k.revoked && (k.end.IsZero() || m.clock.Now().Before(k.end)) {
			in[k.first()] = true
		}
	}
	return owner != "" && len(in) >= mostOfOne
}

func (m *keyMachine) create() {
	k := &modelKey{
		life:  rapid.SampledFrom([]time.Duration{0, time.Hour + time.Second, 10*time.Hour + time.Second}).Draw(m.t, "life"),
		given: rapid.SampledFrom([]string{"", "alice", "alice", "alice"}).Draw(m.t, "given to"),
		uses:  rapid.Int64Range(0, 3).Draw(m.t, "uses"),
	}
	n := NewKey{Name: "x", Kind: Service, Scopes: maker, GivenTo: k.given, NeverExpires: k.life == 0}
	if k.life > 0 {
		k.end = m.clock.Now().Add(k.life)
		n.ExpiresAt = k.end
	}
	m.make(k, m.owner, n)
}

func (m *keyMachine) make(k *modelKey, by tenantdb.Caller, n NewKey) {
	if k.uses > 0 {
		n.MaxUses, k.left = &k.uses, append(k.left, new(k.uses))
	}
	made, err := m.room().Create(m.t.Context(), by, n)
	if m.expect("create", err, !m.full(k.given), problem.Conflict) {
		k.made = made
		m.keys = append(m.keys, k)
	}
}

// child has a key make one, for its own owner, with as many uses as it has itself or fewer.
func (m *keyMachine) child() {
	by, now := m.pick(), m.clock.Now()
	c, err := m.room().Authenticate(m.t.Context(), by.made.Secret.Expose(), web.RequestMeta{})
	if !m.expect("authenticate", err, by.status(now) == Active, problem.Unauthenticated) {
		return
	}
	k := &modelKey{maker: by, given: by.given, uses: by.uses, left: slices.Clone(by.left), life: DefaultLife}
	if by.uses > 1 && rapid.Bool().Draw(m.t, "fewer") {
		k.uses = 1
	}
	if k.end = now.Add(DefaultLife); !by.end.IsZero() && by.end.Before(k.end) {
		k.end = by.end
	}
	k.life = k.end.Sub(now)
	m.make(k, c, NewKey{Name: "x", Kind: Service, Scopes: maker})
}

func (m *keyMachine) use() {
	k, room := m.pick(), m.room()
	c, err := room.Authenticate(m.t.Context(), k.made.Secret.Expose(), web.RequestMeta{})
	if !m.expect("authenticate", err, k.status(m.clock.Now()) == Active, problem.Unauthenticated) {
		return
	}
	if m.expect("use", room.Admit(m.t.Context(), c, "test"), !k.spent(), problem.TooMany) {
		for _, n := range k.left {
			*n--
		}
	}
}

func (m *keyMachine) revoke() {
	k, children := m.pick(), rapid.Bool().Draw(m.t, "with children")
	if k.after != nil && rapid.Bool().Draw(m.t, "its successor") { // while it goes on itself, perhaps
		k = k.after
	}
	e, err := m.room().End(m.t.Context(), m.owner, k.made.ID, children)
	m.expect("revoke", err, true, "")
	k.revoked = true
	ended, left := 0, 0
	for g := k; g != nil; g = g.before {
		for _, c := range m.line(g) {
			switch {
			case children && !c.revoked:
				c.revoked = true
				ended++
			case !c.revoked && (c.end.IsZero() || m.clock.Now().Before(c.end)):
				left++
			}
		}
	}
	if e.Children != ended || e.Left != left {
		m.t.Fatalf("%d keys ended with one and %d are left, want %d and %d", e.Children, e.Left, ended, left)
	}
}

// line is what a key made, and what that made.
func (m *keyMachine) line(k *modelKey) (all []*modelKey) {
	for _, c := range m.keys {
		if c.maker == k {
			all = append(append(all, c), m.line(c)...)
		}
	}
	return all
}

func (m *keyMachine) disable() {
	k := m.pick()
	_, err := m.room().Disable(m.t.Context(), m.owner, k.made.ID)
	if m.expect("disable", err, !k.revoked, problem.Conflict) {
		k.disabled = true
	}
}

func (m *keyMachine) enable() {
	k := m.pick()
	_, err := m.room().Enable(m.t.Context(), m.owner, k.made.ID)
	if m.expect("enable", err, !k.revoked, problem.Conflict) {
		k.disabled = false
	}
}

func (m *keyMachine) rotate() {
	k, now := m.pick(), m.clock.Now()
	overlap := rapid.SampledFrom([]time.Duration{0, time.Minute + time.Second, 5*time.Hour + time.Second, MostOverlap - 9*time.Second}).Draw(m.t, "overlap")
	made, err := m.room().Rotate(m.t.Context(), m.owner, k.made.ID, overlap)
	if !m.expect("rotate", err, k.after == nil && k.status(now) == Active, problem.Conflict) {
		return
	}
	next := &modelKey{made: made, life: k.life, before: k, maker: k.maker, given: k.given, uses: k.uses, left: k.left}
	if k.life > 0 {
		next.end = now.Add(k.life)
	}
	if k.before != nil {
		k.before.revoked = true
	}
	k.after = next
	if overlap == 0 {
		k.revoked = true
	} else if end := now.Add(overlap); k.end.IsZero() || end.Before(k.end) {
		k.end = end
	}
	m.keys = append(m.keys, next)
}

// tick moves the clock by multiples of 10 s, and what ends within a run does so a second after one (DefaultLife is beyond it): entries
// of a log that are written at one time are put microseconds apart, which the model doesn't know.
func (m *keyMachine) tick() {
	m.clock.move(rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute, time.Hour, 11 * time.Hour}).Draw(m.t, "time"))
}

// check holds the real keys to the model: their state, whose they are found to be, and how many generations live.
func (m *keyMachine) check() {
	now := m.clock.Now()
	for _, k := range m.keys {
		got, err := m.room().Get(m.t.Context(), m.owner, k.made.ID)
		if err != nil {
			m.t.Fatal(err)
		}
		if s := k.status(now); got.Status(now) != s {
			m.t.Fatalf("a key is %s, want %s: %+v", got.Status(now), s, got.Key)
		}
		if by := k.maker; by != nil && got.MadeBy != by.made.ID || by == nil && got.MadeBy != m.owner.Actor().ID {
			m.t.Fatalf("a key was made by %q", got.MadeBy)
		}
		if id, found, err := m.room().Find(m.t.Context(), m.owner.Tenant(), k.made.Secret.Expose()); err != nil || !found || id != k.made.ID {
			m.t.Fatalf("a key is found as %q, %t, %v", id, found, err)
		}
		if old := k.before; old != nil && old.before != nil && old.before.status(now) == Active {
			m.t.Fatal("three generations live")
		}
	}
}

// TestKeyStateMachineSoak: create, with a cap for each owner, have keys make keys, use, revoke with what came from it or without,
// disable, enable, rotate, expire and tick, on two servers, against a model.
func TestKeyStateMachineSoak(t *testing.T) {
	t.Parallel()
	f, clock := open(t).still(func(c *Config) { c.KeysPerOwner = mostOfOne })
	other := f.beside(t)
	rapid.Check(t, func(rt *rapid.T) {
		_, owner := f.owner(t, "Acme")
		m := &keyMachine{t: rt, rooms: []fixture{f, other}, owner: owner, clock: clock}
		rt.Repeat(map[string]func(*rapid.T){
			"create":  func(*rapid.T) { m.create() },
			"another": func(*rapid.T) { m.create() },
			"child":   func(*rapid.T) { m.child() },
			"use":     func(*rapid.T) { m.use() },
			"use too": func(*rapid.T) { m.use() },
			"revoke":  func(*rapid.T) { m.revoke() },
			"disable": func(*rapid.T) { m.disable() },
			"enable":  func(*rapid.T) { m.enable() },
			"rotate":  func(*rapid.T) { m.rotate() },
			"tick":    func(*rapid.T) { m.tick() },
			"":        func(*rapid.T) { m.check() },
		})
	})
}
