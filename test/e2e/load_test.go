package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wire is one connection to a server. It is net/http's client without what would cost more than the server's own work.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
}

func dial(addr string) (*wire, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wire{conn, bufio.NewReader(conn)}, nil
}

// send writes a request and reads the whole answer.
func (w *wire) send(request []byte) (status int, body []byte, err error) {
	w.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := w.conn.Write(request); err != nil {
		return 0, nil, err
	}
	r, err := http.ReadResponse(w.r, nil)
	if err != nil {
		return 0, nil, err
	}
	defer r.Body.Close()
	body, err = io.ReadAll(r.Body)
	return r.StatusCode, body, err
}

// verification is a request to /verify as it goes over the wire.
func verification(addr, key, token string, scopes ...string) []byte {
	body, err := json.Marshal(map[string]any{"token": token, "scopes_requested": scopes})
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, "POST /api/v1/verify HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		addr, key, len(body), body)
}

// target is what callers verify in one round. Its three marks are set and read so that what counts is beyond doubt: a mark
// is read before a request is written, or after its answer was read.
type target struct {
	request []byte
	yes, no string      // how the answer begins that allows, and the one once the change is acknowledged
	after   string      // what that one decides, or its status, such as "401" if the key is gone
	fetches bool        // codes of the vault
	going   atomic.Bool // the change is about to be asked for
	gone    atomic.Bool // its acknowledgement has been read
	back    atomic.Bool // its undoing is about to be asked for
	allows  chan struct{}
	denials chan struct{}
	allowed atomic.Int64
	late    atomic.Int64
}

// A round changes something once so many were allowed, and ends once so many were sent after the acknowledgement.
const (
	allowedBefore = 2
	sentAfter     = 2
)

// tally is what became of verifications.
type tally struct {
	all, allowed atomic.Int64
	after        atomic.Int64 // sent after an acknowledgement had been read
	violations   atomic.Int64 // of those: allowed
	refused      atomic.Int64 // denied though nothing had been changed yet
	flight       atomic.Int64 // under way now
}

// counts is a tally that has ended.
type counts struct{ rounds, all, allowed, after, violations, refused, fewest int64 }

func (c *tally) counts() counts {
	return counts{all: c.all.Load(), allowed: c.allowed.Load(), after: c.after.Load(), violations: c.violations.Load(), refused: c.refused.Load()}
}

func (c *counts) add(o counts) {
	if c.rounds == 0 || o.fewest < c.fewest {
		c.fewest = o.fewest
	}
	c.rounds, c.all, c.allowed, c.after = c.rounds+o.rounds, c.all+o.all, c.allowed+o.allowed, c.after+o.after
	c.violations, c.refused = c.violations+o.violations, c.refused+o.refused
}

// call verifies what current holds until stop is closed.
func (c *tally) call(t testing.TB, addr string, current *atomic.Pointer[target], stop <-chan struct{}) {
	w, err := dial(addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer w.conn.Close()
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := c.one(w, current.Load()); err != nil {
			t.Error(err)
			return
		}
	}
}

func (c *tally) one(w *wire, g *target) error {
	gone := g.gone.Load()
	c.flight.Add(1)
	status, body, err := w.send(g.request)
	c.flight.Add(-1)
	if err != nil {
		return err
	}
	going, back := g.going.Load(), g.back.Load()
	allowed := status == http.StatusOK && strings.HasPrefix(string(body), g.yes)
	if status == http.StatusTooManyRequests && g.fetches {
		return nil // as often as an agent may, whatever it was granted
	}
	denied := g.after == strconv.Itoa(status) || status == http.StatusOK && strings.HasPrefix(string(body), g.no)
	if !allowed && !denied {
		return fmt.Errorf("neither allowed nor %s: %d %.300s", g.after, status, body)
	}
	c.all.Add(1)
	if allowed {
		c.allowed.Add(1)
		if g.allowed.Add(1) == allowedBefore {
			close(g.allows)
		}
	}
	if denied && !going {
		c.refused.Add(1)
	}
	if gone && !back {
		c.after.Add(1)
		if allowed {
			c.violations.Add(1)
		}
		if g.late.Add(1) == sentAfter {
			close(g.denials)
		}
	}
	return nil
}

// round is one change of one thing, and how it is undone, if it is.
type round struct {
	key, token   string
	change, undo func()
	given        string // what is asked about, if it is not a token: a key, or an item of the vault, whose codes are fetched
}

// arena makes the same change again and again while callers verify what it is about.
type arena struct {
	name    string
	rounds  int
	after   string
	next    func() round
	stop    chan struct{} // ends its callers
	extra   bool
	current atomic.Pointer[target]
	tally   tally
	done    int   // rounds
	fewest  int64 // verifications under way, of all arenas, when a change was asked for
}

func (a *arena) target(addr string, r round) *target {
	g := &target{
		request: verification(addr, r.key, r.token, "read:email"), after: a.after, allows: make(chan struct{}), denials: make(chan struct{}),
		yes: `{"allowed":true,"decision":"ALLOWED",`, no: `{"allowed":false,"decision":"` + a.after + `",`,
	}
	if strings.HasPrefix(r.given, vaultItems) {
		g.request, g.yes, g.fetches = fetching(addr, r.key, r.given), `{"type":"totp","code":"`, true
	} else if r.given != "" {
		g.request, g.yes, g.no = keyQuestion(addr, r.key, r.given), `{"valid":true,"code":"VALID",`, `{"valid":false,"code":"`+a.after+`",`
	}
	return g
}

var errStuck = errors.New("the round does not end")

// run is the rounds. flight says how many verifications are under way; change makes a change.
func (a *arena) run(addr string, flight func() int64, change func(func())) error {
	a.fewest = 1 << 30
	for n := range a.rounds {
		r := a.next()
		g := a.target(addr, r)
		a.current.Store(g)
		if !within(g.allows) {
			return fmt.Errorf("%s, round %d: nothing is allowed: %w", a.name, n, errStuck)
		}
		a.fewest = min(a.fewest, flight())
		g.going.Store(true)
		change(r.change)
		g.gone.Store(true)
		if !within(g.denials) {
			return fmt.Errorf("%s, round %d: nothing is sent after the change: %w", a.name, n, errStuck)
		}
		if r.undo != nil {
			g.back.Store(true)
			change(r.undo)
		}
		a.done++
	}
	return nil
}

func within(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-time.After(time.Minute):
		return false
	}
}
