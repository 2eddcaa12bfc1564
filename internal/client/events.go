package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// Event is a server-sent event.
type Event struct {
	ID   string // of the last event that had one: where to go on
	Name string // "message" if the server said none
	Data []byte
}

// maxLine is the longest line of a stream. An entry of the log with all its private fields is a fraction of it.
const maxLine = 8 << 20

// Follow reads a stream of events and, when it breaks or ends, goes on behind the last event that it had. It ends by the
// context, by a refusal that will not pass, or if the first connection fails. interrupted is told of each break, and how
// long the wait is before the next try.
func (c *Client) Follow(ctx context.Context, call Call, interrupted func(error, time.Duration)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := follower{client: c, call: call, wait: time.Second, yield: yield}
		f.call.Header = http.Header{}
		for name, values := range call.Header {
			f.call.Header[name] = values
		}
		for {
			err := f.once(ctx)
			if f.done || ctx.Err() != nil {
				return
			}
			var p *Problem
			if !f.began || errors.As(err, &p) && !p.Passing() {
				yield(Event{}, err)
				return
			}
			wait := f.pause(p)
			if err != nil {
				interrupted(err, wait)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
}

type follower struct {
	client *Client
	call   Call
	wait   time.Duration
	yield  func(Event, error) bool
	began  bool // a connection was made once
	done   bool // the reader wants no more
	failed int  // connections in a row that brought nothing
}

// pause is how long to wait before the next connection: as the server says, longer each time that nothing comes of it.
func (f *follower) pause(p *Problem) time.Duration {
	wait := min(f.wait<<min(f.failed, 5), 30*time.Second)
	if p != nil && p.RetryAfter > wait {
		wait = min(p.RetryAfter, 5*time.Minute)
	}
	f.failed++
	return wait
}

// once reads one connection to its end.
func (f *follower) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(f.client.cfg.Timeout, cancel)
	defer timer.Stop()
	resp, err := f.client.send(ctx, f.call, "text/event-stream")
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = &Unreachable{f.client.base.Host, context.DeadlineExceeded}
		}
		return err
	}
	body := &quiet{body: resp.Body, timer: timer, most: f.client.cfg.Silence, cancel: cancel}
	defer body.Close()
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "text/event-stream" {
		f.began = false
		return &Unreachable{f.client.base.Host, errors.New("the answer is not a stream of events")}
	}
	f.began = true
	for e, err := range events(body, func(d time.Duration) { f.wait = max(min(d, time.Minute), 10*time.Millisecond) }) {
		if err != nil {
			return &Unreachable{f.client.base.Host, err}
		}
		f.failed = 0
		if e.ID != "" {
			f.call.Header.Set("Last-Event-ID", e.ID)
		}
		if !f.yield(e, nil) {
			f.done = true
			return nil
		}
	}
	return nil
}

// events reads a stream as the HTML standard says, section 9.2.6. An event that the stream breaks in is dropped: it comes
// again after the reconnection. retry is told how long the server wants its readers to wait before that.
func events(r io.Reader, retry func(time.Duration)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 0, 64<<10), maxLine)
		lines.Split(splitLines())
		e, first := Event{}, true
		var data []byte
		for lines.Scan() {
			line := lines.Bytes()
			if first {
				line, first = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")), false
			}
			if len(line) > 0 {
				data = e.field(line, data, retry)
				if len(data) > maxLine {
					yield(Event{}, fmt.Errorf("an event of the stream is longer than %d MiB", maxLine>>20))
					return
				}
				continue
			}
			if data != nil {
				out := Event{e.ID, e.Name, bytes.TrimSuffix(data, []byte("\n"))}
				if out.Name == "" {
					out.Name = "message"
				}
				if !yield(out, nil) {
					return
				}
			}
			e.Name, data = "", nil
		}
		if err := lines.Err(); err != nil {
			yield(Event{}, err)
		}
	}
}

// field takes in one line of a stream, and returns the event's data with it.
func (e *Event) field(line, data []byte, retry func(time.Duration)) []byte {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		return append(append(data, value...), '\n')
	case "event":
		e.Name = string(value)
	case "id":
		if !bytes.ContainsRune(value, 0) {
			e.ID = string(value)
		}
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			retry(time.Duration(ms) * time.Millisecond)
		}
	}
	return data
}

// splitLines splits at LF, CR LF and CR. A line that a CR ends is told at once, and an LF that follows belongs to it:
// waiting for it would hold back an event until the next one.
func splitLines() bufio.SplitFunc {
	afterCR := false
	return func(b []byte, atEOF bool) (int, []byte, error) {
		skip := 0
		if afterCR && len(b) > 0 {
			afterCR = false
			if b[0] == '\n' {
				skip = 1
			}
		}
		if i := bytes.IndexAny(b[skip:], "\r\n"); i >= 0 {
			afterCR = b[skip+i] == '\r'
			return skip + i + 1, b[skip : skip+i], nil
		}
		// What is left at the end is no line: it was cut off.
		if atEOF {
			return len(b), nil, nil
		}
		return skip, nil, nil
	}
}
