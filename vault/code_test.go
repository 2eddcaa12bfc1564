package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestTOTPVectors: appendix B of RFC 6238, through an item, at the RFC's instants; and the last digits of these for fewer, more of the
// same number for more.
func TestTOTPVectors(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	all := "1234567890123456789012345678901234567890123456789012345678901234"
	for algorithm, v := range map[otp.Algorithm]struct {
		key   string
		codes []string // of 8 digits
	}{
		otp.SHA1:   {all[:20], []string{"94287082", "07081804", "14050471", "89005924", "69279037", "65353130"}},
		otp.SHA256: {all[:32], []string{"46119246", "68084774", "67062674", "91819424", "90698825", "77737706"}},
		otp.SHA512: {all[:64], []string{"90693936", "25091201", "99943326", "93441116", "38618901", "47863826"}},
	} {
		items := map[int]ID{}
		for digits := 6; digits <= 10; digits++ {
			n := seedOf(TOTP)
			n.content.Key, n.content.Algorithm, n.content.Digits = []byte(v.key), algorithm, digits
			items[digits] = h.put(t, n).ID
		}
		for k, at := range []int64{59, 1111111109, 1111111111, 1234567890, 2000000000, 20000000000} {
			h.clock.set(time.Unix(at, 0))
			var ten string
			for _, digits := range []int{10, 9, 8, 7, 6} {
				c := h.fetchAs(t, h.anybody(t, items[digits]), items[digits])
				if ten == "" {
					ten = c.Code
				}
				if len(c.Code) != digits || !strings.HasSuffix(ten, c.Code) || !strings.HasSuffix(c.Code, v.codes[k][max(0, 8-digits):]) {
					t.Errorf("%s at %d: %s of %d digits, the RFC has %s", algorithm, at, c.Code, digits, v.codes[k])
				}
			}
		}
	}
	steam := seedOf(Steam)
	steam.content.Key = rfcKey
	i := h.put(t, steam)
	h.clock.set(time.Unix(1600000000, 0))
	if c := h.fetchAs(t, h.boss, i.ID); c.Code != otp.OfSteam().CodeOf(otp.Steam, rfcKey, 1600000000/30) || len(c.Code) != 5 || strings.Trim(c.Code, "23456789BCDFGHJKMNPQRTVWXY") != "" {
		t.Errorf("Steam: %s", c.Code)
	}
}

// anybody is a new member who was granted the item: the rate of each caller is limited.
func (h *house) anybody(t testing.TB, i ID) tenantdb.Caller {
	t.Helper()
	p := h.member(t)
	h.grant(t, i, p.actor(), ForCode)
	return p.caller()
}

func (h *house) fetchAs(t testing.TB, c tenantdb.Caller, i ID) Code {
	t.Helper()
	got, err := h.Code(t.Context(), c, i, "")
	must(t, err)
	return got
}

// TestExpiry: what an answer says of its time, at the borders of a window.
func TestExpiry(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i := h.put(t, seedOf(TOTP))
	n := seedOf(TOTP)
	n.content.Period = 90
	slow := h.put(t, n)
	begin := time.Unix(1_700_000_010, 0).UTC() // of a window of 30 and of 90 seconds
	for _, c := range []struct {
		after     time.Duration
		item      ID
		expiresIn int64
		next      time.Duration
	}{
		{0, i.ID, 30, 30 * time.Second}, {1, i.ID, 30, 30 * time.Second}, {time.Second, i.ID, 29, 30 * time.Second},
		{30*time.Second - time.Microsecond, i.ID, 1, 30 * time.Second}, {30 * time.Second, i.ID, 30, time.Minute}, {0, slow.ID, 90, 90 * time.Second}, {89 * time.Second, slow.ID, 1, 90 * time.Second},
	} {
		h.clock.set(begin.Add(c.after))
		got := h.fetchAs(t, h.boss, c.item)
		if got.ExpiresIn != c.expiresIn || !got.NextAt.Equal(begin.Add(c.next)) || got.Counter != nil || got.Left != nil {
			t.Errorf("%v on: %+v", c.after, got)
		}
	}
}

// TestHOTPVectors: appendix D of RFC 4226 in its order, each once; the entry says which.
func TestHOTPVectors(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i := h.put(t, seedOf(HOTP))
	for n, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		got := h.fetchAs(t, h.boss, i.ID)
		if got.Code != want || *got.Counter != int64(n) || got.Period != 0 || !got.NextAt.IsZero() {
			t.Errorf("%d: %+v, want %s", n, got, want)
		}
		if e := h.Last(t, h.acme); e.Type != "vault.code_given" || e.Field("place") != fmt.Sprint(n) || strings.Contains(string(e.Body), want) {
			t.Errorf("the log says %s", e.Body)
		}
	}
}

// TestTriedAgain: with the same key a fetch gets the same code and burns nothing, also twenty at once, on two servers.
func TestTriedAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sides := []*side{h.side, h.server(t, h.Another(t))}
	for _, k := range []Kind{HOTP, Codes} {
		i := h.put(t, seedOf(k))
		codes := make([]string, 20)
		var wg sync.WaitGroup
		for n := range codes {
			wg.Go(func() {
				c, err := sides[n%2].Code(t.Context(), h.boss, i.ID, "once")
				if err != nil {
					t.Error(err)
				}
				codes[n] = c.Code
			})
		}
		wg.Wait()
		if slices.Sort(codes); codes[0] == "" || codes[0] != codes[19] {
			t.Errorf("%s: one key got %v", k, codes)
		}
		second, err := h.Code(t.Context(), h.boss, i.ID, "another")
		must(t, err)
		if second.Code == codes[0] || k == HOTP && *second.Counter != 1 || k == Codes && *second.Left != 1 {
			t.Errorf("%s: the next key got %+v", k, second)
		}
		// The key of one is not another's.
		other := h.anybody(t, i.ID)
		if third, err := h.Code(t.Context(), other, i.ID, "once"); err != nil || third.Code == codes[0] || third.Code == second.Code {
			t.Errorf("%s: another's same key got %+v, %v", k, third, err)
		}
		n := seedOf(k)
		if k == HOTP {
			n.content.Key = []byte("another key of twenty")
		}
		_, err = h.Replace(t.Context(), h.boss, i.ID, "", n.content, 0)
		must(t, err)
		_, err = h.Code(t.Context(), h.boss, i.ID, "once")
		refused(t, "a key of before the secret was replaced", err, problem.Conflict, "the secret that the item had before")
	}
	h.clock.pass(keepFetches + time.Minute)
	must(t, h.Forget(t.Context(), tenantdb.System(h.acme, "test")))
	if n := h.Text(t, `SELECT count(*)::text FROM avouch.vault_fetch`); n != "0" {
		t.Errorf("%s fetches are kept for good", n)
	}
}

// TestCountersAreConsecutive: fifty fetches at once on two servers get fifty counters, and none twice.
func TestCountersAreConsecutive(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sides := []*side{h.side, h.server(t, h.Another(t))}
	n := seedOf(HOTP)
	n.Counter = 7
	i := h.put(t, n)
	robots := []robot{h.robot(t, "read:codes"), h.robot(t, "read:codes")}
	for _, b := range robots {
		h.grant(t, i.ID, b.actor(), ForCode)
	}
	var mu sync.Mutex
	var got []int64
	var wg sync.WaitGroup
	for k := range 50 {
		wg.Go(func() {
			c, err := sides[k%2].ask(t, h, robots[k/2%2], i.ID, "")
			if err != nil {
				t.Error(err)
				return
			}
			if want := otp.Usual().Code(rfcKey, uint64(*c.Counter)); c.Code != want {
				t.Errorf("the code of %d is %s, not %s", *c.Counter, c.Code, want)
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, *c.Counter)
		})
	}
	wg.Wait()
	slices.Sort(got)
	for k, c := range got {
		if c != int64(7+k) {
			t.Fatalf("the counters are %v", got)
		}
	}
	if len(got) != 50 {
		t.Errorf("%d were answered", len(got))
	}
}

// TestResync: the counter goes behind two codes that the device showed, or where it is put; nobody else moves it.
func TestResync(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i := h.put(t, seedOf(HOTP))
	at := func(n uint64) string { return otp.Usual().Code(rfcKey, n) }
	number := func(n int64) *int64 { return &n }
	for what, c := range map[string]struct {
		codes   []string
		counter *int64
	}{
		"codes in the wrong order": {[]string{at(6), at(5)}, nil}, "codes that are apart": {[]string{at(5), at(7)}, nil}, "codes too far ahead": {[]string{at(1000), at(1001)}, nil},
		"one code": {[]string{at(5)}, nil}, "nothing": {nil, nil}, "both": {[]string{at(5), at(6)}, number(3)}, "a counter below 0": {nil, number(-1)},
	} {
		if n, err := h.Resync(t.Context(), h.boss, i.ID, c.codes, c.counter); !problem.Is(err, problem.Invalid) || n != 0 {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
	n, err := h.Resync(t.Context(), h.boss, i.ID, []string{at(998), at(999)}, nil)
	must(t, err)
	if c := h.fetchAs(t, h.boss, i.ID); n != 1000 || *c.Counter != 1000 || c.Code != at(1000) {
		t.Errorf("resynced to %d, then %+v", n, c)
	}
	_, err = h.Resync(t.Context(), h.boss, i.ID, nil, number(5))
	must(t, err)
	if c := h.fetchAs(t, h.boss, i.ID); *c.Counter != 5 || h.given(t, "vault.item_resynced") != 2 {
		t.Errorf("put to 5: %+v", c)
	}
	_, err = h.Resync(t.Context(), h.anybody(t, i.ID), i.ID, nil, number(0))
	refused(t, "somebody who may use it", err, problem.Denied, "Who made the item decides")
	_, err = h.Resync(t.Context(), h.boss, h.put(t, seedOf(TOTP)).ID, nil, number(0))
	refused(t, "a code of time", err, problem.Conflict, "has a counter")
	_, err = h.Resync(t.Context(), h.boss, i.ID, nil, number(1<<63-1))
	must(t, err)
	_, err = h.Code(t.Context(), h.boss, i.ID, "")
	refused(t, "at the end", err, problem.Conflict, "at its end")
}

// TestRecoveryCodes: each is given once, in order, then there are none; what was used elsewhere is not given.
func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	n := seedOf(Codes)
	n.taken = []int32{2}
	i := h.put(t, n)
	for k, want := range []string{"alpha-1", "charlie-3"} {
		if c := h.fetchAs(t, h.boss, i.ID); c.Code != want || *c.Left != 1-k {
			t.Errorf("%d: %+v", k, c)
		}
	}
	_, err := h.Code(t.Context(), h.boss, i.ID, "")
	refused(t, "a fourth", err, problem.Conflict, "All of these recovery codes have been taken")
	i = h.put(t, seedOf(Codes))
	var mu sync.Mutex
	var got []string
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if c, err := h.Code(t.Context(), h.boss, i.ID, ""); err == nil {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, c.Code)
			}
		})
	}
	wg.Wait()
	if slices.Sort(got); !slices.Equal(got, []string{"alpha-1", "bravo-2", "charlie-3"}) {
		t.Errorf("ten at once got %v", got)
	}
}

// TestOnce: the code of a window is given to one, or once to each, on all servers together; a window later it is given again, and
// another secret has windows of its own, also where they are longer.
func TestOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sides := []*side{h.side, h.server(t, h.Another(t))}
	for uses, want := range map[Uses]int{Once: 1, OnceEach: 2} {
		i := h.put(t, seedOf(TOTP))
		h.policy(t, i.ID, Policy{Uses: uses})
		robots := []robot{h.robot(t, "read:codes"), h.robot(t, "read:codes")}
		for _, b := range robots {
			h.grant(t, i.ID, b.actor(), ForCode)
		}
		round := func() (given int) {
			var mu sync.Mutex
			var wg sync.WaitGroup
			for k := range 8 {
				wg.Go(func() {
					c, err := sides[k%2].ask(t, h, robots[k/2%2], i.ID, "")
					if err != nil {
						refused(t, string(uses), err, problem.Denied, "was given out already: the item's policy gives each once. The next begins at")
						if p := problem.Of(err); p.RetryAfter <= 0 || c.Code != "" {
							t.Errorf("%+v, %+v", p, c)
						}
						return
					}
					mu.Lock()
					defer mu.Unlock()
					given++
				})
			}
			wg.Wait()
			return given
		}
		for _, wait := range []time.Duration{0, 30 * time.Second, 30 * time.Second} {
			h.clock.pass(wait)
			if n := round(); n != want {
				t.Errorf("%s: %d were given in a window", uses, n)
			}
		}
		n := seedOf(TOTP)
		n.content.Period = 60 // whose steps have smaller numbers
		_, err := h.Replace(t.Context(), h.boss, i.ID, "", n.content, 0)
		must(t, err)
		if n := round(); n != want {
			t.Errorf("%s: %d were given of the new secret", uses, n)
		}
	}
}

// TestSixtyAMinute: a caller gets sixty codes a minute, of all kinds together and with those that are tried again, and learns when to come
// again; others go on.
func TestSixtyAMinute(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i, j := h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(HOTP)).ID
	c := h.anybody(t, i)
	h.grant(t, j, actorOf(c.Actor()), ForCode)
	for n := range mostFetches / 3 {
		h.fetchAs(t, c, i)
		for range 2 {
			_, err := h.Code(t.Context(), c, j, fmt.Sprint(n/2))
			must(t, err)
		}
	}
	before, at := h.given(t, "vault.code_given"), h.moved(t, j)
	for what, once := range map[ID][]string{i: {""}, j: {"", "0", "new"}} {
		for _, key := range once {
			_, err := h.Code(t.Context(), c, what, key)
			refused(t, "the next one", err, problem.TooMany, "60 codes in the last minute")
			if p := problem.Of(err); p.RetryAfter <= 0 || p.RetryAfter > time.Minute {
				t.Errorf("%+v", p)
			}
		}
	}
	if h.given(t, "vault.code_given") != before || h.moved(t, j) != at {
		t.Error("what was refused is in the log, or moved something")
	}
	for _, k := range []ID{i, j} {
		h.fetchAs(t, h.anybody(t, k), k)
	}
}

// TestTokenUses: a token with a number of uses fetches as many codes, also of what moves; a fetch that is tried again takes none.
func TestTokenUses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	b := h.robot(t, "read:codes")
	for _, k := range []Kind{TOTP, HOTP} {
		i := h.put(t, seedOf(k))
		h.grant(t, i.ID, b.actor(), ForCode)
		token, err := h.agents.Issue(t.Context(), h.Caller(h.acme, tenantdb.Everything), b.id, agent.Wish{MaxUses: 2})
		must(t, err)
		b.token = token.Token.Expose()
		for n := range 2 {
			_, err := h.ask(t, h, b, i.ID, fmt.Sprint(n))
			must(t, err)
		}
		if k == HOTP {
			_, err := h.ask(t, h, b, i.ID, "1")
			must(t, err)
		}
		before := h.given(t, "vault.code_given")
		_, err = h.ask(t, h, b, i.ID, "2")
		refused(t, string(k), err, problem.Unauthenticated, "uses are spent")
		if h.given(t, "vault.code_given") != before {
			t.Error("it is in the log that it was given")
		}
	}
}

// TestStalledLogGivesNothing: while the log cannot be written, no code leaves; others are answered meanwhile, and the same fetch
// afterwards.
func TestStalledLogGivesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, k := range []Kind{TOTP, HOTP, Codes} {
		i := h.put(t, seedOf(k))
		c := h.anybody(t, i.ID)
		if k == TOTP {
			h.fetchAs(t, c, i.ID) // now its counter is there
		}
		before := h.given(t, "vault.code_given")
		let := h.hold(t)
		ctx, cancel := bounded(t)
		got, err := h.Code(ctx, c, i.ID, "once")
		cancel()
		let()
		if err == nil || got.Code != "" {
			t.Errorf("%s: given %+v, %v", k, got, err)
		}
		after := h.given(t, "vault.code_given")
		again, err := h.Code(t.Context(), c, i.ID, "once")
		must(t, err)
		if n := h.given(t, "vault.code_given"); again.Code == "" || n <= after || k != TOTP && (after != before || n != after+1) { // an append that was given up may still land
			t.Errorf("%s: %d, %d, then %d entries", k, before, after, n)
		}
	}
}

func bounded(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), 500*time.Millisecond)
}

// hold takes the log's head, as a transaction that hangs does, until the returned function is called.
func (h *house) hold(t testing.TB) (let func()) {
	t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = h.DB.Change(context.WithoutCancel(t.Context()), tenantdb.System(h.acme, "test"), func(*tenantdb.Tx) (audit.Event, error) {
			close(held)
			<-free
			return audit.Event{}, nil // which rolls back
		})
	}()
	<-held
	return func() { close(free); <-done }
}
