package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/problem"
)

// codeView is a code as the API gives it.
type codeView struct {
	Type      string     `json:"type"`
	Code      string     `json:"code"`
	ExpiresIn *int64     `json:"expires_in"`
	Period    *int64     `json:"period"`
	NextAt    *time.Time `json:"next_at"`
	Counter   *int64     `json:"counter"`
	Left      *int       `json:"left"`
}

// note says what there is to know of a code that no time ends.
func (v codeView) note() string {
	switch {
	case v.Left != nil:
		return plural(int64(*v.Left), "code is left", "codes are left")
	case v.Counter != nil:
		return fmt.Sprintf("counter %d", *v.Counter)
	}
	return ""
}

type vaultCode struct {
	asker `embed:""`
	once  `embed:""`
	Item  string `arg:"" help:"The item's id, or its name."`
	Watch bool   `help:"Fetch the next code when this one ends, until Ctrl-C. Each fetch is in the log."`
	Quiet bool   `short:"q" help:"Print the code alone, for a variable of the shell."`
}

// Help is shown under the usage.
func (*vaultCode) Help() string {
	return `On a terminal the line counts down until the code ends; Ctrl-C ends it sooner. That the code was given is in the log before it is shown. Of hotp and of recovery codes a fetch takes one: with the same --idempotency-key it gets the same again.

    avouch vault code "AWS root"
    code=$(avouch vault code "AWS root" --quiet)
    AGENT_TOKEN=... avouch vault code ITEM-ID --as agent --quiet`
}

// Run fetches a code, and others if it is to watch.
func (c *vaultCode) Run(ctx context.Context, g *globals) error {
	switch {
	case c.Quiet && g.JSON:
		return misused("--quiet prints the code alone, and --json an object: give one of them")
	case c.Watch && c.IdempotencyKey != "":
		return misused("--watch fetches several codes, and --idempotency-key one: give one of them")
	}
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	id, err := asks.find(ctx, c.Item)
	if err == nil && c.Watch {
		err = asks.watchable(ctx, id)
	}
	if err != nil {
		return err
	}
	for {
		got := time.Now() // of this machine's clock only how much passes is used
		answer, err := asks.do(ctx, client.Call{Method: http.MethodPost, Path: vaultItem(id, "code"), Header: c.header()})
		if c.Watch && ctx.Err() != nil { // which is how a watch ends
			return nil
		}
		if err != nil {
			return err
		}
		var v codeView
		if err := answer.Into(&v); err != nil {
			return err
		}
		if err := c.print(ctx, g, answer, v, got); err != nil || !c.Watch || ctx.Err() != nil {
			return err
		}
		if v.ExpiresIn == nil {
			return notWatched(v.Type)
		}
		if wait(ctx, got.Add(time.Duration(*v.ExpiresIn)*time.Second)) != nil {
			return nil
		}
	}
}

func notWatched(kind string) error {
	return misused("--watch is for codes that change by time; one of %s is taken by each fetch", kind)
}

// watchable refuses an item of whose codes each fetch takes one, before one is taken. Who may fetch and not look learns it by the first.
func (a *asking) watchable(ctx context.Context, id string) error {
	answer, err := a.do(ctx, client.Call{Path: vaultItem(id)})
	var p *client.Problem
	if errors.As(err, &p) && (p.Kind == problem.Denied || p.Kind == problem.Missing) {
		return nil
	}
	var i itemView
	if err == nil {
		err = answer.Into(&i)
	}
	if err == nil && (i.Type == "hotp" || i.Type == "codes") {
		err = notWatched(i.Type)
	}
	return err
}

func (c *vaultCode) print(ctx context.Context, g *globals, answer client.Answer, v codeView, got time.Time) error {
	p, code := g.page(), clean(v.Code)
	switch {
	case g.JSON:
		return printJSON(g.Out, answer.Body)
	case c.Quiet:
		_, err := fmt.Fprintln(p.to, code)
		return err
	case v.ExpiresIn == nil:
		_, err := fmt.Fprintf(p.to, "%s  %s\n", p.paint(code, bold), v.note())
		return err
	case p.width == 0:
		_, err := fmt.Fprintf(p.to, "%s  good for %ds\n", code, *v.ExpiresIn)
		return err
	}
	return countDown(ctx, p, code, got.Add(time.Duration(*v.ExpiresIn)*time.Second))
}

// countDown shows a code in one line that is written again each second, until the code ends or the context does.
func countDown(ctx context.Context, p page, code string, ends time.Time) error {
	const bar = 20
	begun := time.Until(ends)
	for {
		left := time.Until(ends)
		says, over := "ended", left <= 0
		seconds := (left + time.Second - 1) / time.Second // that have begun
		if !over {
			full := int(min(bar, (bar*left+begun-1)/max(begun, 1)))
			says = fmt.Sprintf("%s%s %3ds", strings.Repeat("#", full), strings.Repeat(".", bar-full), seconds)
		}
		room := max(p.width-1-columns(code)-2, 0)
		line := p.paint(code, bold) + "  " + cut(says, room) + strings.Repeat(" ", max(0, min(room, bar+6)-columns(cut(says, room))))
		if _, err := io.WriteString(p.to, "\r"+line); err != nil {
			return err
		}
		if over || wait(ctx, ends.Add(-(seconds-1)*time.Second)) != nil {
			_, err := io.WriteString(p.to, "\n")
			return err
		}
	}
}

// wait waits until an instant; its error is the context's.
func wait(ctx context.Context, until time.Time) error {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
