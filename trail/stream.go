package trail

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Streams bounds the streams of a server. A zero field is the default.
type Streams struct {
	PerTenant int           // open at a time: 8
	All       int           // open at a time, of all tenants: 200
	Poll      time.Duration // how often the log is asked while nothing comes: 500 ms
	Beat      time.Duration // between signs of life while nothing comes, and between questions to Recheck while nothing changes: 15 s
	Patience  time.Duration // how long one write may take: 10 s. Whoever reads slower is cut off, and must resume
	Life      time.Duration // of one stream: an hour. Then it ends, and its reader is admitted and recorded anew
}

func (s *Streams) fill() {
	or(&s.PerTenant, 8)
	or(&s.All, 200)
	or(&s.Poll, 500*time.Millisecond)
	or(&s.Beat, 15*time.Second)
	or(&s.Patience, 10*time.Second)
	or(&s.Life, time.Hour)
}

func or[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// streamStep is how many entries are read and written at a time.
const streamStep = 200

// stream sends entries as server-sent events, from where the reader stopped. Entries come in the order of their numbers
// and none is left out: numbers are given under the head's lock, so a lower one is never committed later.
func (r *Room) stream(w http.ResponseWriter, req *http.Request, c tenantdb.Caller, _ web.RequestMeta) error {
	if err := allowRead(c); err != nil {
		return err
	}
	next, err := startOf(req)
	if err != nil {
		return err
	}
	h, err := r.head(req.Context(), c)
	if err != nil {
		return fmt.Errorf("trail.stream: %w", err)
	}
	if next > h.size {
		return problem.New(problem.Conflict, "The log has %d entries: it ends before the event that you resume after. If it had that event once, it was rolled back.", h.size)
	}
	release, err := r.streams.take(c.Tenant())
	if err != nil {
		return err
	}
	defer release()
	if next < 0 {
		next = h.size
	}
	if _, err := r.record(req.Context(), c, sawStream, []audit.Field{{Name: "from", Value: number(next)}}, ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(req.Context(), r.cfg.Streams.Life)
	defer cancel()
	f := feed{room: r, caller: c, next: next, w: w, rc: http.NewResponseController(w)}
	if err := f.begin(); err != nil {
		return nil
	}
	return f.run(ctx)
}

// startOf is the number of the first event to send, or -1 for whatever comes from now on.
func startOf(req *http.Request) (int64, error) {
	name, value, offset := "header.Last-Event-ID", req.Header.Get("Last-Event-ID"), int64(1)
	if value == "" {
		name, value, offset = "query.from", req.URL.Query().Get("from"), 0
	}
	if value == "" {
		return -1, nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 || n > audit.MaxSize || number(n) != value {
		p := problem.New(problem.Invalid, "The request does not fit its description. See `errors`.")
		p.Fields = []problem.Field{{Location: name, Message: "is not the number of an entry"}}
		return 0, p
	}
	return n + offset, nil
}

// feed is one stream.
type feed struct {
	room   *Room
	caller tenantdb.Caller
	next   int64
	w      http.ResponseWriter
	rc     *http.ResponseController
	buf    bytes.Buffer
	beat   time.Time // when something was sent last
	asked  time.Time // when the credential was looked at last
	epoch  int64     // the log's, from before that
}

func (f *feed) begin() error {
	h := f.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a buffering proxy would hold back events for minutes
	f.w.WriteHeader(http.StatusOK)
	f.buf.WriteString("retry: 2000\n\n")
	return f.send()
}

// send writes what is buffered, within the time that a reader has for it.
func (f *feed) send() error {
	// A server without deadlines, as in tests, has none to set: then the connection's own end must do.
	_ = f.rc.SetWriteDeadline(time.Now().Add(f.room.cfg.Streams.Patience))
	_, err := f.w.Write(f.buf.Bytes())
	f.buf.Reset()
	f.beat = time.Now()
	if err != nil {
		return err
	}
	return f.rc.Flush()
}

// run sends until the reader goes, falls behind, loses its right, or the stream's life ends. It returns an error only
// for what is our fault; then the connection is cut, and the reader resumes.
func (f *feed) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n, err := f.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("trail.stream: %w", err)
		}
		counts, err := f.counts(ctx, n > 0)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("trail.stream: %w", err)
		}
		if !counts {
			f.buf.Reset() // what was read meanwhile is not for this reader
			f.buf.WriteString("event: end\ndata: {\"reason\":\"the credential no longer counts\"}\n\n")
			_ = f.send() // it ends either way
			return nil
		}
		if n == 0 && time.Since(f.beat) >= f.room.cfg.Streams.Beat {
			f.buf.WriteString(": beat\n\n")
		}
		if f.buf.Len() > 0 && f.send() != nil {
			return nil
		}
		if n == streamStep {
			continue
		}
		timer.Reset(f.room.cfg.Streams.Poll)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

// counts reports whether the credential still counts. It is asked each Beat, and before entries are sent if the epoch has
// moved: whatever takes a credential's right away moves it, in a commit that comes before each entry that follows. So
// what is appended after a revocation's answer is not shown, and what is shown costs one read of the head's row. A person's
// session ends without moving it, and is asked about before all that is sent.
func (f *feed) counts(ctx context.Context, entries bool) (bool, error) {
	due := time.Since(f.asked) >= f.room.cfg.Streams.Beat
	if f.room.cfg.Recheck == nil || !entries && !due {
		return true, nil
	}
	epoch, err := readEpoch(ctx, f.room.cfg.DB, f.caller) // before Recheck: a change in between shows the next time
	if err != nil {
		return false, err
	}
	if _, session := f.caller.Person(); !due && epoch == f.epoch && !session {
		return true, nil
	}
	f.asked, f.epoch = time.Now(), epoch
	return f.room.cfg.Recheck(ctx, f.caller) == nil, nil
}

// step reads what is new, in one short transaction, and buffers it.
func (f *feed) step(ctx context.Context) (int, error) {
	var rows []row
	err := f.room.cfg.DB.Read(ctx, f.caller, func(tx *tenantdb.ReadTx) (err error) {
		rows, err = readSpan(ctx, tx, f.caller.Tenant(), f.next, audit.MaxSize, false, streamStep)
		return err
	})
	if err != nil {
		return 0, err
	}
	entries, err := f.room.show(ctx, f.caller.Tenant(), rows)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		data, err := json.Marshal(e)
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(&f.buf, "id: %d\nevent: entry\ndata: %s\n\n", e.Seq, data)
		f.next = e.Seq + 1
	}
	return len(rows), nil
}
