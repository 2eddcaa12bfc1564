package web

import (
	"context"
	"fmt"
	"net/http"
)

// run decodes, validates, calls the handler and encodes, into an answer that is sent only when it is whole.
func (a *API[C]) run(ctx context.Context, rt *route, r *http.Request, c C, body []byte) (*answer, error) {
	in, err := rt.bound.read(r, body)
	if err != nil {
		return nil, err
	}
	out, err := rt.run(ctx, c, in)
	if err != nil {
		return nil, err
	}
	return rt.bound.answer(out)
}

// within runs fn under the operation's time limit. If fn does not heed it, the caller is answered without waiting: fn
// then ends by itself, and what it answers is dropped (an idempotent operation keeps it for the next try).
func (a *API[C]) within(r *http.Request, rt *route, fn func(context.Context) (*answer, error)) (*answer, error) {
	type outcome struct {
		reply *answer
		err   error
	}
	ctx, cancel := context.WithTimeout(r.Context(), or(rt.op.Timeout, a.cfg.Timeout))
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if v := recover(); v != nil {
				o = outcome{err: crashOf(v)}
			}
			done <- o
		}()
		o.reply, o.err = fn(ctx)
	}()
	select {
	case o := <-done:
		return o.reply, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("web.within: %s: %w", rt.op.ID, late().Because(ctx.Err()))
	}
}
