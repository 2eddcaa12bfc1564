package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

type traceCmd struct {
	remote `embed:""`
	ID     string `arg:"" name:"request-id" help:"The request's id: from X-Request-Id, a problem, or an entry."`
}

// Help is shown under the usage.
func (*traceCmd) Help() string {
	return `Shows the entries of the request in your organisation's log, with their private fields, and what the server spent its time on, if your organisation sent the request, and this server answered it lately and traced it. A request that left no entry, such as a list, is found only by that. A collector has all traces, under the attribute avouch.request_id.`
}

// Run shows what a request did.
func (c *traceCmd) Run(ctx context.Context, g *globals) error {
	answer, err := c.do(ctx, g, client.Call{Path: api("requests", c.ID)})
	if err != nil {
		return err
	}
	return show(g, answer.Body, func(p page, v traceView) error { return v.print(p, g.Now()) })
}

// traceView is a request as the API shows it.
type traceView struct {
	Request string      `json:"request_id"`
	Entries []entryView `json:"entries"`
	Spans   []spanView  `json:"spans"`
}

// spanView is a part of the work on a request.
type spanView struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Parent   string    `json:"parent"`
	Start    time.Time `json:"start"`
	Duration int64     `json:"duration_us"`
	Failed   bool      `json:"failed"`
}

// start is when the request began, as far as is known.
func (v *traceView) start() (first time.Time) {
	for _, e := range v.Entries {
		first = earlier(first, e.Time)
	}
	for _, s := range v.Spans {
		first = earlier(first, s.Start)
	}
	return first
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// milliseconds is a length of time as long as those of requests are.
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// print draws the request along its time: what was recorded, then what the time was spent on.
func (v traceView) print(p page, now time.Time) error {
	start := v.start()
	fmt.Fprintf(p.to, "%s %s  %s\n", p.paint("request", faint), p.paint(clean(v.Request), bold), instant(start, now))
	if len(v.Entries) == 0 {
		fmt.Fprintln(p.to, "  no entries: it recorded nothing in this organisation's log")
	}
	for i, e := range v.Entries {
		branch, trunk := "├─", "│ "
		if i == len(v.Entries)-1 {
			branch, trunk = "└─", "  "
		}
		fmt.Fprintf(p.to, "%s %d  ", branch, e.Seq)
		e.Request = "" // it stands above
		if err := e.details(p, trunk+"   ", "+"+milliseconds(e.Time.Sub(start))); err != nil {
			return err
		}
	}
	if len(v.Spans) == 0 {
		return nil
	}
	t := table{columns: []column{{name: "what the time went to", soft: true}, {name: "began", right: true}, {name: "took", right: true}, {name: ""}}}
	for _, s := range nested(v.Spans) {
		failed := cell{}
		if s.Failed {
			failed = cell{"failed", bad}
		}
		t.rows = append(t.rows, []cell{{text: strings.Repeat("  ", s.depth) + s.Name}, {text: "+" + milliseconds(s.Start.Sub(start))},
			{text: milliseconds(time.Duration(s.Duration) * time.Microsecond)}, failed})
	}
	fmt.Fprintln(p.to)
	return t.write(p)
}

// placed is a span in its place.
type placed struct {
	spanView
	depth int
}

// nested puts each span below its parent, in the order of their starts. One whose parent is not there begins a tree.
func nested(spans []spanView) []placed {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b spanView) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(b.Duration, a.Duration)) })
	known := map[string]bool{}
	for _, s := range spans {
		known[s.ID] = true
	}
	done := make([]bool, len(spans))
	var all []placed
	var below func(parent string, depth int)
	below = func(parent string, depth int) {
		for i, s := range spans {
			if !done[i] && (s.Parent == parent || depth == 0 && !known[s.Parent]) {
				done[i] = true
				all = append(all, placed{s, depth})
				below(s.ID, depth+1)
			}
		}
	}
	below("", 0)
	for i, s := range spans { // what is its own ancestor, which no tracer makes, is shown and not lost
		if !done[i] {
			all = append(all, placed{s, 0})
		}
	}
	return all
}
