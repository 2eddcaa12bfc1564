package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"sync/atomic"
)

// chore is what runs over and over beside a measurement until its context ends. It counts what it did in done.
type chore func(ctx context.Context, base string, done map[string]float64) error

// exports downloads the log of a neighbour, again and again. A longer one would not end within a measurement: a log is checked
// as a whole before it is sent.
func exports(s *scene) chore {
	return func(ctx context.Context, base string, done map[string]float64) error {
		n, err := fetch(ctx, base+"/api/v1/audit/export", s.neighbour[0].key, io.Discard)
		done["export_bytes"] += float64(n)
		if err == nil {
			done["exports"]++
		}
		return err
	}
}

// walks reads the entries of that log page by page, from the oldest on, again and again.
func walks(s *scene) chore {
	return func(ctx context.Context, base string, done map[string]float64) error {
		c := client{base, http.DefaultClient}
		for cursor := ""; ; {
			var page struct {
				Entries []struct{} `json:"entries"`
				Next    string     `json:"next_cursor"`
			}
			path := "/api/v1/audit/entries?order=oldest&limit=100&cursor=" + url.QueryEscape(cursor)
			if cursor == "" {
				path = "/api/v1/audit/entries?order=oldest&limit=100"
			}
			if _, err := c.call(ctx, "GET", path, s.auditor, "", nil, &page); err != nil {
				return err
			}
			done["pages"]++
			done["entries"] += float64(len(page.Entries))
			if cursor = page.Next; cursor == "" {
				return nil
			}
		}
	}
}

// signIns has somebody sign in by a password, again and again: as many times at once as keep the server hashing, and one waits.
func signIns(s *scene) chore {
	return func(ctx context.Context, base string, done map[string]float64) error {
		c := client{base, http.DefaultClient}
		var in, away atomic.Int64
		err := each(ctx, runtime.NumCPU(), func(ctx context.Context, _ int) error {
			err := c.signIn(ctx, s.member)
			if errors.Is(err, errCrowd) { // on a machine that is busy otherwise
				away.Add(1)
				return nil
			}
			in.Add(1)
			return err
		})
		if err == nil {
			done["sign_ins"] += float64(in.Load())
			done["sign_ins_told_to_come_back"] += float64(away.Load())
		}
		return err
	}
}

// fetch reads what is at a URL into w.
func fetch(ctx context.Context, from, key string, w io.Writer) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return 0, fmt.Errorf("bench.fetch: %w", err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("bench.fetch: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("bench.fetch: %s: %s", req.URL.Path, res.Status)
	}
	n, err := io.Copy(w, res.Body)
	if err != nil {
		return n, fmt.Errorf("bench.fetch: %s: %w", req.URL.Path, err)
	}
	return n, nil
}

// running is a chore that is under way.
type running struct {
	cancel context.CancelFunc
	ended  chan error
	done   map[string]float64
}

func (c chore) run(ctx context.Context, base string) *running {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{cancel, make(chan error, 1), map[string]float64{}}
	go func() {
		for {
			if err := c(ctx, base, r.done); err != nil {
				if ctx.Err() != nil {
					err = nil // cut off by us
				}
				r.ended <- err
				return
			}
		}
	}()
	return r
}

// stop ends the chore and says what it did.
func (r *running) stop() (map[string]float64, error) {
	r.cancel()
	return r.wait()
}

// wait waits until the chore has ended, by itself if it fails.
func (r *running) wait() (map[string]float64, error) {
	err := <-r.ended
	return r.done, err
}
