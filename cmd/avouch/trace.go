package main

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

type traceCmd struct {
	remote `embed:""`
	ID     string `arg:"" name:"request-id" help:"The request's id: from X-Request-Id, a problem, or an entry."`
}

// Help is shown under the usage.
func (*traceCmd) Help() string {
	return `Shows the entries of the request in your organisation's log, in order, with their private fields. Timed spans are with the collector that the server sends them to, under the attribute avouch.request_id.`
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
}

// print draws the request as a line of time: each entry with what it says below it.
func (v traceView) print(p page, now time.Time) error {
	fmt.Fprintf(p.to, "%s %s", p.paint("request", faint), p.paint(clean(v.Request), bold))
	if len(v.Entries) == 0 {
		_, err := fmt.Fprintln(p.to, "\n  no entries: it recorded nothing in this organisation's log")
		return err
	}
	start := v.Entries[0].Time
	fmt.Fprintf(p.to, "  %s\n", instant(start, now))
	for i, e := range v.Entries {
		branch, trunk := "├─", "│ "
		if i == len(v.Entries)-1 {
			branch, trunk = "└─", "  "
		}
		fmt.Fprint(p.to, branch)
		after := fmt.Sprintf("+%.1f ms", float64(e.Time.Sub(start).Microseconds())/1000)
		if err := e.details(p, trunk+"   ", after); err != nil {
			return err
		}
	}
	return nil
}
