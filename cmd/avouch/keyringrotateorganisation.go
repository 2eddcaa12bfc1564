package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring/rotation"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// organisations rotates the keys of organisations.
func (c *keyringRotate) organisations(ctx context.Context, g *globals, which string) error {
	only := tenantdb.Platform
	all := which == "all"
	if !all {
		by, err := c.organisation(g, which)
		if err != nil {
			return err
		}
		only = by.Tenant()
	} else if _, err := c.in(g, only); err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		if !all {
			return c.rotate(ctx, g, s, only, false)
		}
		failed := 0
		err := s.DB.Each(ctx, "operator", func(each tenantdb.Caller) error {
			err := c.rotate(ctx, g, s, each.Tenant(), true)
			if err != nil && ctx.Err() == nil {
				failed++
				fmt.Fprintf(g.Err, "%s: %v\n", each.Tenant(), err)
			}
			return ctx.Err()
		})
		if err == nil && failed > 0 {
			err = &exit{exitFalse, fmt.Errorf("%s could not be rotated", plural(int64(failed), "organisation", "organisations"))}
		}
		return err
	})
}

// rotate rotates the keys of one organisation.
func (c *keyringRotate) rotate(ctx context.Context, g *globals, s *server.Server, t tenantdb.TenantID, all bool) error {
	by, err := c.in(g, t)
	if err != nil {
		return err
	}
	run, err := s.Rotation.Begin(ctx, by)
	if problem.Is(err, problem.Conflict) && all { // deleted: nothing of it is to be rotated
		fmt.Fprintf(g.Err, "%s: %s\n", t, problem.Of(err).Detail)
		return nil
	}
	if err != nil {
		return refusal(err)
	}
	if run, err = c.step(ctx, g, s, by, run); err != nil {
		return err
	}
	if err := c.report(g, s, t, run); err != nil {
		return err
	}
	if run.MadeAt.IsZero() {
		return &exit{exitFalse, fmt.Errorf("%s: nothing is wrapped by version %d yet", t, run.Wrap)}
	}
	if run.Failed > 0 {
		return &exit{exitFalse, fmt.Errorf("%s: %s not be opened, and is left under the keys before: avouch incidents list says where, and what to do",
			t, plural(run.Failed, "value could", "values could"))}
	}
	return nil
}

// step goes over everything once, or waits for the server that does.
func (c *keyringRotate) step(ctx context.Context, g *globals, s *server.Server, by tenantdb.Caller, run rotation.Run) (rotation.Run, error) {
	told := g.Now()
	for {
		n, did, err := s.Rotation.Work(ctx, by, func(n rotation.Run) {
			if g.Now().Sub(told) >= time.Second {
				told = g.Now()
				fmt.Fprintf(g.Err, "%s: %s and %s of people wrapped.\n", by.Tenant(), plural(n.Rows, "value", "values"), plural(n.Keys, "key", "keys"))
			}
		})
		if err != nil {
			return run, refusal(err)
		}
		if did && n.ID == run.ID {
			return n, nil
		}
		if did { // another one of the organisation's came first
			continue
		}
		all, err := s.Rotation.Runs(ctx, by)
		if err != nil {
			return run, refusal(err)
		}
		for _, n := range all {
			if n.ID == run.ID && (!n.Wraps() || n.DueAt.After(g.Now())) {
				return n, nil // a server was faster
			}
		}
		fmt.Fprintf(g.Err, "%s: a server is at it.\n", by.Tenant())
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return run, errors.New("interrupted: the servers go on with it")
		}
	}
}

// report says how far a rotation is.
func (c *keyringRotate) report(g *globals, s *server.Server, t tenantdb.TenantID, n rotation.Run) error {
	kept := s.Rotation.KeptUntil(n)
	says := fmt.Sprintf("%s: %s and %s of people are wrapped by version %d of the organisation's keys.", t, plural(n.Rows, "value", "values"), plural(n.Keys, "key", "keys"), n.Wrap)
	switch {
	case n.MadeAt.IsZero():
		says = fmt.Sprintf("%s: a rotation began on %s, and version %d of the organisation's keys is not made yet. The servers make it after %s.",
			t, n.BegunAt.Local().Format(time.DateTime), n.Wrap, n.DueAt.Local().Format(time.DateTime))
	case !kept.IsZero():
		says += fmt.Sprintf(" Nothing needs the versions before; they are kept for backups until %s, and destroyed then.", kept.Local().Format(time.DateOnly))
	case n.Failed == 0:
		says += fmt.Sprintf(" The servers look once more after %s, when none of them uses the version before any more.", n.DueAt.Local().Format(time.TimeOnly))
	}
	return g.done(struct {
		Tenant   tenantdb.TenantID `json:"tenant_id"`
		Rotation rotation.ID       `json:"rotation_id"`
		Version  uint32            `json:"version"`
		Values   int64             `json:"values"`
		Keys     int64             `json:"subject_keys"`
		Failed   int64             `json:"failed"`
		Status   string            `json:"status"`
		Kept     time.Time         `json:"old_keys_kept_until,omitzero"`
	}{t, n.ID, n.Wrap, n.Rows, n.Keys, n.Failed, n.State(), kept.UTC()}, says)
}
