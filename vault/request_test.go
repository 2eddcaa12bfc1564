package vault

import (
	"fmt"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestRequestsAreBounded: who asks and withdraws, again and again, is stopped after a day's requests, of all items together, and asks again a
// day later; the owners are mailed of no more than a hundred a day, whoever asks.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	b := h.robot(t, "read:codes")
	c, _, _, err := b.at(h.side).Stand(ctx, true)
	must(t, err)
	items := []ID{h.put(t, seedOf(TOTP)).ID, h.put(t, seedOf(HOTP)).ID}
	ask := func(c tenantdb.Caller, n int) error {
		q, err := h.Ask(ctx, c, items[n%2], ForCode, "r", time.Hour)
		if err == nil {
			_, err = h.Withdraw(ctx, c, q.ID)
		}
		return err
	}
	mails := func() string {
		return h.Text(t, `SELECT count(*)::text FROM avouch_jobs.river_job WHERE args->>'template' = 'vault_requested'`)
	}
	for n := range mostAsked {
		must(t, ask(c, n))
	}
	refused(t, "one more", ask(c, 0), problem.TooMany, "20 requests of yours in the last 24 hours")
	if n := mails(); n != "40" {
		t.Errorf("two owners have %s mails", n)
	}
	must(t, ask(h.member(t).caller(), 0)) // others go on
	for range 4 {
		p := h.member(t)
		for n := range mostAsked {
			must(t, ask(p.caller(), n))
		}
	}
	if n := mails(); n != "200" {
		t.Errorf("two owners have %s mails", n)
	}
	h.clock.pass(askedIn + time.Second)
	must(t, ask(c, 0))
	if n := mails(); n != "202" {
		t.Errorf("a day later two owners have %s mails", n)
	}
}

// TestRequestPages: the newest first, page by page, each once; one whose asker was erased hides no other.
func TestRequestPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	i := h.put(t, seedOf(TOTP))
	gone := h.member(t)
	for n := range 7 {
		p := gone
		if n != 3 {
			p = h.member(t)
		}
		h.clock.pass(time.Second)
		_, err := h.Ask(t.Context(), p.caller(), i.ID, ForCode, fmt.Sprint(n), time.Hour)
		must(t, err)
	}
	must(t, h.Ring.DestroySubject(t.Context(), h.acme, gone.id))
	var got string
	for after, more := (RequestID{}), true; more; more = after != (RequestID{}) {
		all, next, err := h.Requests(t.Context(), h.boss, "waiting", after, 3)
		must(t, err)
		for _, q := range all {
			got += q.Reason + ","
		}
		after = next
	}
	if got != "6,5,4,,2,1,0," {
		t.Errorf("the pages have %s", got)
	}
}
