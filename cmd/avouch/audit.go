package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

type auditCmd struct {
	Tail   auditTail   `cmd:"" help:"Show the newest entries of your organisation's log, and follow it."`
	Check  auditCheck  `cmd:"" help:"Check a log: an export or a proof, trusting nobody, or the database."`
	Export auditExport `cmd:"" help:"Write a whole log as files that others can check."`
	Prove  auditProve  `cmd:"" help:"Make the proof of one entry from an export."`
}

type auditTail struct {
	remote   `embed:""`
	Follow   bool   `short:"f" help:"Go on with each entry as it is made, until interrupted."`
	Long     bool   `help:"Everything of each entry, on lines of its own."`
	Lines    int    `short:"n" default:"20" placeholder:"N" help:"How many entries to begin with."`
	Type     string `placeholder:"TYPE" help:"Only this type, or all under a prefix, as in agent.* for all about agents."`
	Decision string `placeholder:"WORD" help:"Only this decision, such as DENIED."`
	Actor    string `placeholder:"ID" help:"Only what this one did."`
	Target   string `placeholder:"ID" help:"Only what was done to this."`
	Request  string `placeholder:"ID" help:"Only what this request did."`
	Since    string `placeholder:"WHEN" help:"Not before this time, or for this long: 2h."`
	Until    string `placeholder:"WHEN" help:"Before this time, or until so long ago."`
}

// Help is shown under the usage.
func (*auditTail) Help() string {
	return `Reading the log is itself recorded in it. A connection that breaks is made again, and nothing is missed.

    avouch audit tail -f --decision DENIED
    avouch audit tail -n 500 --since 24h --type "agent.*" --json`
}

// Run shows the log's end.
func (c *auditTail) Run(ctx context.Context, g *globals) error {
	if c.Follow && c.Until != "" {
		return misused("--follow goes on without end, and --until is one")
	}
	if c.Lines < 0 {
		return misused("--lines is at least 0")
	}
	call, err := c.call(g.Now())
	if err != nil {
		return err
	}
	cl, err := c.client(g)
	if err != nil {
		return err
	}
	t := tail{cmd: c, client: cl, out: g, page: g.page()}
	if err := t.newest(ctx, call); err != nil || !c.Follow {
		return err
	}
	return t.follow(ctx)
}

// call asks for the newest entries that the flags let through.
func (c *auditTail) call(now time.Time) (client.Call, error) {
	q := filters("type", c.Type, "decision", c.Decision, "actor", c.Actor, "target", c.Target, "request_id", c.Request)
	q.Set("order", "newest")
	for name, text := range map[string]string{"since": c.Since, "until": c.Until} {
		if text == "" {
			continue
		}
		at, err := parseWhen(text, now, -1)
		if err != nil {
			return client.Call{}, misused("--%s %w", name, err)
		}
		q.Set(name, at.UTC().Format(time.RFC3339Nano))
	}
	return client.Call{Path: api("audit", "entries"), Query: q}, nil
}

// lets reports whether the flags let an entry of the stream through. The server has no filters there: it is the same rule.
func (c *auditTail) lets(e *entryView) bool {
	prefix, below := strings.CutSuffix(c.Type, ".*")
	switch {
	case below && !strings.HasPrefix(e.Type, prefix+"."), !below && c.Type != "" && e.Type != c.Type:
	case c.Decision != "" && e.Decision != c.Decision:
	case c.Actor != "" && e.Actor.ID != c.Actor:
	case c.Target != "" && e.Target.ID != c.Target:
	case c.Request != "" && e.Request != c.Request:
	default:
		return true
	}
	return false
}

// tail is one run of the command.
type tail struct {
	cmd    *auditTail
	client *client.Client
	out    *globals
	page   page
	head   int64 // the stream goes on with this entry
	shown  int64 // entries below were shown
}

// newest prints the last entries, the oldest of them first.
func (t *tail) newest(ctx context.Context, call client.Call) error {
	if t.cmd.Follow {
		// Where the log ends now: with filters, the entries below need not reach it.
		last := client.Call{Path: call.Path}
		_, err := pages(ctx, t.client, 1, last, "entries", func(raw json.RawMessage) error {
			e, err := readEntry(raw)
			t.head = e.Seq + 1
			return err
		})
		if err != nil {
			return err
		}
	}
	var all []json.RawMessage
	if t.cmd.Lines > 0 {
		_, err := pages(ctx, t.client, t.cmd.Lines, call, "entries", func(raw json.RawMessage) error {
			all = append(all, raw)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, raw := range slices.Backward(all) {
		e, err := readEntry(raw)
		if err != nil {
			return err
		}
		if err := t.print(raw, &e); err != nil {
			return err
		}
		t.shown = e.Seq + 1
	}
	if len(all) == 0 && !t.cmd.Follow && t.cmd.Lines > 0 && !t.out.JSON {
		fmt.Fprintln(t.out.Err, "There are none.")
	}
	return nil
}

func (t *tail) follow(ctx context.Context) error {
	call := client.Call{Path: api("audit", "stream"), Query: filters("from", strconv.FormatInt(t.head, 10))}
	broken := func(err error, wait time.Duration) {
		fmt.Fprintf(t.out.Err, "avouch: %s; trying again in %s\n", clean(err.Error()), wait.Round(time.Second/10))
	}
	for ev, err := range t.client.Follow(ctx, call, broken) {
		if err != nil {
			return err
		}
		if ev.Name == "end" {
			return lacks("the server has ended the stream: the key no longer counts")
		}
		if ev.Name != "entry" {
			continue
		}
		e, err := readEntry(ev.Data)
		if err != nil {
			return err
		}
		if e.Seq < t.shown || !t.cmd.lets(&e) {
			continue
		}
		if err := t.print(ev.Data, &e); err != nil {
			return err
		}
	}
	return nil
}

func (t *tail) print(raw json.RawMessage, e *entryView) error {
	if t.out.JSON {
		return printJSON(t.out.Out, raw)
	}
	if t.cmd.Long {
		fmt.Fprintf(t.page.to, "%d  ", e.Seq)
		return e.details(t.page, "    ", e.Time.Local().Format("2006-01-02 15:04:05.000000 MST"))
	}
	return e.line(t.page, t.out.Now())
}
