package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// client makes what the cells need: organisations, agents, tokens. It measures nothing.
type client struct {
	base string
	http *http.Client
}

// setters is how many calls prepare things at the same time.
const setters = 32

func newClient(base string) *client {
	return &client{base, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: setters}}}
}

// call sends a request and reads the answer into out. It returns the answer's ETag.
func (c *client) call(ctx context.Context, method, path, key, match string, in, out any) (etag string, err error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return "", fmt.Errorf("bench.call: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return "", fmt.Errorf("bench.call: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if match != "" {
		req.Header.Set("If-Match", match)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("bench.call: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fmt.Errorf("bench.call: %s %s: %w", method, path, err)
	}
	if res.StatusCode >= 300 {
		return "", fmt.Errorf("bench.call: %s %s: %s: %.400s", method, path, res.Status, b)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return "", fmt.Errorf("bench.call: %s %s: %w", method, path, err)
	}
	return res.Header.Get("ETag"), nil
}

// capability is the scope that every agent here has, and withheld one that none has.
const (
	capability = "read:email"
	withheld   = "write:email"
)

// agent is an agent with its first token.
type agent struct {
	ID    string `json:"agent_id"`
	Token string `json:"token"`
}

func (c *client) register(ctx context.Context, key, name string) (a agent, err error) {
	_, err = c.call(ctx, "POST", "/api/v1/agents/register", key, "", map[string]any{"name": name, "capabilities": []string{capability}}, &a)
	return a, err
}

func (c *client) newKey(ctx context.Context, key string, wanted map[string]any) (string, error) {
	var out struct {
		Key string `json:"key"`
	}
	_, err := c.call(ctx, "POST", "/api/v1/keys", key, "", wanted, &out)
	return out.Key, err
}

func (c *client) issue(ctx context.Context, key, agentID string) (string, error) {
	var out struct {
		Token string `json:"token"`
	}
	_, err := c.call(ctx, "POST", "/api/v1/agents/"+agentID+"/tokens", key, "", map[string]any{}, &out)
	return out.Token, err
}

// mostTokens is how many live tokens an agent here may have: as many as an organisation can set.
const mostTokens = 100_000

// allowTokens raises the cap on live tokens of an organisation's agents.
func (c *client) allowTokens(ctx context.Context, key string) error {
	var ignored map[string]any
	etag, err := c.call(ctx, "GET", "/api/v1/organisation", key, "", nil, &ignored)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, "PATCH", "/api/v1/organisation", key, etag, map[string]any{"live_tokens": mostTokens}, &ignored)
	return err
}

func (c *client) signUp(ctx context.Context, name string) (key string, err error) {
	var out struct {
		OwnerKey string `json:"owner_key"`
	}
	_, err = c.call(ctx, "POST", "/api/v1/organisations", "", "", map[string]any{"name": name}, &out)
	return out.OwnerKey, err
}

// each calls fn for 0 to n-1, several at a time, and returns the first error.
func each(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, setters) {
		wg.Go(func() {
			for i := range next {
				if err := fn(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
