package trail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// PassLimits bounds what the verification pass takes of the database and the processor. A zero field is the default.
type PassLimits struct {
	Rows  int           // a second, in all: 2,000. Asking a log for its head counts as ten
	Slice int           // new rows of one log in one pass: 20,000
	Again int           // rows of all logs that are read again in one pass: 1,000
	Every time.Duration // between passes: 5 s, and never less than the pass took
}

func (p *PassLimits) fill() {
	or(&p.Rows, 2_000)
	or(&p.Slice, 20_000)
	or(&p.Again, 1000)
	or(&p.Every, 5*time.Second)
}

// headCost is what asking for a head counts as, in rows: with many quiet logs it is all that a pass costs.
const headCost = 10

// mark is how far a log was found good.
type mark struct {
	log  audit.LogID
	size int64
	link [32]byte
}

// passState is the pass's memory. It is lost with the process: then every log is read from its beginning.
type passState struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	marks   map[tenantdb.TenantID]mark
	again   tenantdb.TenantID // whose log is being read again
	at      mark              // and how far
}

// kindBroken is the incident that the pass raises: in the tenant, and in the platform with the tenant as its subject.
const kindBroken = "log.broken"

// Watch makes passes until ctx ends.
func (r *Room) Watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		start := time.Now()
		if err := r.Pass(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Log.LogAttrs(ctx, slog.LevelError, "the verification pass could not read or report everything", slog.String("error", err.Error()))
		}
		timer.Reset(max(r.cfg.Pass.Every, time.Since(start)))
	}
}

// Pass checks what was appended to each log since the pass before, and then a slice of what had been found good already,
// round and round: an entry that is altered long after it was written is found too. What does not hold is raised as an
// incident, once while that is open. The error is about what could not be read or reported.
func (r *Room) Pass(ctx context.Context) error {
	p := &r.pass
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limiter == nil {
		p.limiter = rate.NewLimiter(rate.Limit(r.cfg.Pass.Rows), max(checkChunk, r.cfg.Pass.Rows/10))
	}
	var failed []error
	var all []tenantdb.TenantID
	err := r.cfg.DB.Each(ctx, "verification", func(c tenantdb.Caller) error {
		all = append(all, c.Tenant())
		if err := r.follow(ctx, c.Tenant()); err != nil {
			failed = append(failed, err)
		}
		return ctx.Err()
	})
	if err == nil {
		err = r.again(ctx, all)
	}
	if err = errors.Join(append(failed, err)...); err != nil {
		return fmt.Errorf("trail.Pass: %w", err)
	}
	return nil
}

// follow checks what is new in one log.
func (r *Room) follow(ctx context.Context, t tenantdb.TenantID) error {
	m, known := r.pass.marks[t]
	m, fault, err := r.advance(ctx, t, m, known, int64(r.cfg.Pass.Slice))
	if fault != nil {
		return r.alarm(ctx, t, fault)
	}
	if m != (mark{}) {
		r.pass.marks[t] = m
	}
	return err
}

// again reads a slice of what was found good once more, from log to log in the order of tenants.
func (r *Room) again(ctx context.Context, all []tenantdb.TenantID) error {
	p := &r.pass
	left := int64(r.cfg.Pass.Again)
	for range len(all) + 1 { // each log once at most, and the rest of the one it stopped in
		t, ok := atOrAfter(all, p.again)
		if !ok || left <= 0 {
			return nil
		}
		if t != p.again {
			p.again, p.at = t, mark{}
		}
		before := p.at.size
		m, fault, err := r.advance(ctx, t, p.at, p.at != (mark{}), left)
		if fault != nil {
			err = r.alarm(ctx, t, fault)
		}
		left -= max(m.size-before, 0)
		p.at = m
		if fault != nil || err != nil || left > 0 { // done with it, or it cannot be read: the others must not wait for it
			p.again, p.at = following(t), mark{}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// atOrAfter is the first tenant of a sorted list that is not before t, or the first of all if none is left.
func atOrAfter(all []tenantdb.TenantID, t tenantdb.TenantID) (tenantdb.TenantID, bool) {
	for _, other := range all {
		if bytes.Compare(other[:], t[:]) >= 0 {
			return other, true
		}
	}
	if len(all) == 0 {
		return t, false
	}
	return all[0], true
}

// following is the next possible identifier.
func following(t tenantdb.TenantID) tenantdb.TenantID {
	for i := len(t) - 1; i >= 0; i-- {
		if t[i]++; t[i] != 0 {
			break
		}
	}
	return t
}

// advance checks a log from a mark on, at most so many rows, and returns how far it is good. The head is read first and
// nothing beyond it is looked at, so entries that are appended meanwhile cannot look like faults.
func (r *Room) advance(ctx context.Context, t tenantdb.TenantID, m mark, known bool, most int64) (mark, *audit.Fault, error) {
	c := tenantdb.System(t, "verification")
	read := func(fn func(querier) error) error {
		return r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error { return fn(tx) })
	}
	if err := r.pass.limiter.WaitN(ctx, headCost); err != nil {
		return m, nil, err
	}
	h, fault, err := soundHead(ctx, t, read)
	if problem.Is(err, problem.TenantKey) { // closed by its own key management: nothing is said of it until that opens
		return m, nil, nil
	}
	if err != nil || fault != nil {
		return m, fault, err
	}
	switch {
	case !known:
		m = mark{log: h.log, link: audit.Genesis}
	case m.log != h.log:
		return m, faulty(audit.Whole, "the log is another than it was"), nil
	case m.size > h.size:
		return m, faulty(audit.Seq(h.size), "the log had %d entries before and has %d now: it was rolled back", m.size, h.size), nil
	}
	// The pass compares links and no roots, so the edge of the tree may be anything: only its size is used.
	tree, err := audit.NewTree(m.size, make([][32]byte, bits.OnesCount64(uint64(m.size))))
	if err != nil {
		return m, nil, err
	}
	k := newChecker(t, r.cfg.Sealer, audit.State{Log: m.log, Link: m.link, Tree: tree})
	end := min(h.size, m.size+most)
	fault, err = k.run(ctx, read, end, func(rows int) error { return r.pass.limiter.WaitN(ctx, rows) })
	state := k.verifier.State()
	if err != nil { // what could not be opened here is looked at again, and not taken for good
		state = k.whole
	}
	m.size, m.link = state.Tree.Size(), state.Link
	if fault == nil && err == nil && end == h.size {
		fault = k.end(h)
	}
	return m, fault, err
}

// alarm raises a fault: first where the operator looks, since the tenant's own log is the one that may not take it.
func (r *Room) alarm(ctx context.Context, t tenantdb.TenantID, f *audit.Fault) error {
	says := describe(f)
	r.cfg.Log.LogAttrs(ctx, slog.LevelError, "a log does not verify", slog.String("tenant_id", t.String()),
		slog.Int64("first_bad", int64(f.Index)), slog.String("reason", f.Reason))
	if r.cfg.Raise == nil {
		return errors.New("there is nobody to raise an incident with: " + says)
	}
	var subject string
	if t != tenantdb.Platform {
		subject = t.String()
	}
	_, err := r.cfg.Raise(ctx, tenantdb.System(tenantdb.Platform, "verification"), kindBroken, subject, says)
	if t != tenantdb.Platform {
		_, own := r.cfg.Raise(ctx, tenantdb.System(t, "verification"), kindBroken, "", says)
		err = errors.Join(err, own)
	}
	return err
}
