package mfa

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/tenantdb/doortest"
)

// What nobody would bring is refused at once, for those whom it is about alone: nobody waits for it, and no job tries.
func TestWhatIsNotSent(t *testing.T) {
	t.Parallel()
	mute := map[tenantdb.TenantID]map[string]bool{}
	f := open(t, func(c *Config) {
		c.Sends = func(_ context.Context, tx *tenantdb.ReadTx, kind string) (bool, error) {
			return !mute[tx.Tenant()][kind], nil
		}
	})
	other := f.Tenant(t, "Globex")
	factors := map[string]Factor{}
	factors[SMS], _ = f.add(t, f.ada, Wanted{Kind: SMS, To: "+4930123456"})
	factors[Email], _ = f.add(t, f.ada, Wanted{Kind: Email})
	jobs := func() int { return len(f.jobs(t, "sms.send")) + len(f.jobs(t, "mail.send")) }
	for i, kind := range []string{SMS, Email} {
		wanted := Wanted{Kind: kind}
		if kind == SMS {
			wanted.To = "+4930123456"
		}
		mute[f.tenant], mute[other] = nil, map[string]bool{SMS: true, Email: true}
		waiting, err := f.room.Begin(t.Context(), f.as(f.ada, Passkey), wanted)
		if err != nil {
			t.Errorf("%s, where the other organisation has none: %v", kind, err)
		}
		f.clock.pass(time.Minute)
		mute[f.tenant], mute[other] = map[string]bool{kind: true}, nil
		before := jobs()
		if _, err := f.room.Begin(t.Context(), f.as(f.ada, Passkey), wanted); !isKind(err, problem.Invalid) {
			t.Errorf("%s enrolled: %v", kind, err)
		}
		if err := f.room.Resend(t.Context(), f.as(f.ada, Passkey), waiting.ID); !isKind(err, problem.Invalid) {
			t.Errorf("%s sent again: %v", kind, err)
		}
		if _, _, err := f.ask(t, f.room, Asked{Attempt: attempt(kind), Person: f.ada, Factor: factors[kind].ID, Sending: 1}); !isKind(err, problem.Invalid) {
			t.Errorf("%s asked: %v", kind, err)
		}
		if n := jobs(); n != before {
			t.Errorf("%s: %d jobs", kind, n-before)
		}
		if _, err := f.room.Begin(t.Context(), f.as(f.ada, Passkey), Wanted{Kind: TOTP, Name: fmt.Sprint(i)}); err != nil {
			t.Errorf("what is not sent, without %s: %v", kind, err)
		}
		api := f.API(func(*http.Request, web.RequestMeta) (tenantdb.Caller, error) { return f.as(f.ada, Passkey), nil })
		f.room.Routes(api)
		if a := doortest.Call(t, api, doortest.Request{Method: "GET", Path: "/api/v1/factors"}); a.Status != 200 || a.Body["texts"] != (kind != SMS) {
			t.Errorf("listed without %s: %+v", kind, a)
		}
	}
	broken := errors.New("no database")
	cfg := f.cfg
	cfg.Sends = func(context.Context, *tenantdb.ReadTx, string) (bool, error) { return true, broken }
	if _, _, err := f.ask(t, New(cfg), Asked{Attempt: attempt("broken"), Person: f.ada, Factor: factors[SMS].ID, Sending: 1}); !errors.Is(err, broken) {
		t.Errorf("who cannot say whether it is sent: %v", err)
	}
}

// Text messages cost money, and whoever makes an organisation may enrol any number: on all servers, by all its people and at the
// same time, no more than its texts of the day are sent, and the others' are their own.
func TestTextsOfTheDay(t *testing.T) {
	t.Parallel()
	const most = 12
	f := open(t, func(c *Config) { c.TextsPerDay = most })
	if n := New(Config{PublicURL: public(t)}).cfg.TextsPerDay; n != DefaultTexts {
		t.Errorf("%d, if nobody says how many", n)
	}
	people := make([]tenantdb.PersonID, 2*most)
	for i := range people {
		people[i] = f.person(t, f.tenant, fmt.Sprintf("p%d@example.com", i))
	}
	begin := func(r *Room, c tenantdb.Caller, kind string) error {
		w := Wanted{Kind: kind}
		if kind == SMS {
			w.To = "+4930123456"
		}
		_, err := r.Begin(t.Context(), c, w)
		return err
	}
	var all sync.WaitGroup
	var sent atomic.Int32
	for i, p := range people {
		all.Go(func() {
			err := begin([]*Room{f.room, f.other}[i%2], f.as(p, Passkey), SMS)
			if err == nil {
				sent.Add(1)
			} else if p := problem.Of(err); p.Kind != problem.TooMany || p.RetryAfter != 15*time.Hour { // it is nine o'clock
				t.Errorf("one more: %v, %v", err, p.RetryAfter)
			}
		})
	}
	all.Wait()
	if n := len(f.jobs(t, "sms.send")); n != most || sent.Load() != most {
		t.Errorf("%d were sent, by %d jobs", sent.Load(), n)
	}
	if err := begin(f.room, f.as(f.ada, Passkey), Email); err != nil {
		t.Errorf("a mail: %v", err)
	}
	tenant := f.tenant
	f.tenant = f.Tenant(t, "Globex")
	p := f.person(t, f.tenant, "other@example.com")
	if err := begin(f.room, f.as(p, Passkey), SMS); err != nil {
		t.Errorf("another organisation: %v", err)
	}
	f.tenant = tenant
	f.clock.pass(15*time.Hour - time.Second)
	if err := begin(f.room, f.as(f.ada, Passkey), SMS); !isKind(err, problem.TooMany) {
		t.Errorf("a second before midnight: %v", err)
	}
	f.clock.pass(time.Second)
	if err := begin(f.room, f.as(f.ada, Passkey), SMS); err != nil {
		t.Errorf("the next day: %v", err)
	}
	cfg := f.cfg
	cfg.TextsPerDay = -1
	unlimited := New(cfg)
	for _, p := range people {
		if err := begin(unlimited, f.as(p, Passkey), SMS); err != nil {
			t.Fatalf("without a limit: %v", err)
		}
	}
}
