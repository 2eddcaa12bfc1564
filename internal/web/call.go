package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// call is one run of a typed operation: who asks, and how it failed.
type call[C any] struct {
	caller C
	err    error
}

type callKey struct{}

// run lets huma decode, validate, call the handler and encode, into an answer that is sent only when it is whole.
func (a *API[C]) run(ctx context.Context, rt *route, r *http.Request, c C, body []byte) (*answer, error) {
	one := &call[C]{caller: c}
	r = r.WithContext(context.WithValue(ctx, callKey{}, one))
	r.Body = io.NopCloser(bytes.NewReader(body))
	reply := &answer{header: http.Header{}}
	rt.run(humago.NewContext(rt.described, r, reply))
	if one.err != nil {
		return nil, one.err
	}
	return reply, nil
}

// intercept is huma's transformer: it sees each body before it is encoded, and takes huma's own complaints.
func (a *API[C]) intercept(ctx huma.Context, _ string, v any) (any, error) {
	one, ok := ctx.Context().Value(callKey{}).(*call[C])
	if !ok || one.err != nil {
		return v, nil
	}
	switch complaint := v.(type) {
	case *huma.ErrorModel:
		one.err = invalidOf(complaint)
	case huma.StatusError:
		one.err = complaint
	}
	return v, nil
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
