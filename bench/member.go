package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// member is somebody who signs in by a password, from a device that is known.
type member struct{ address, password, device string }

const signInPath = "/api/v1/sign-in"

func (m member) asked() map[string]any {
	return map[string]any{"address": m.address, "password": m.password}
}

// join has somebody join the organisation of a key, by the link that `avouch dev` shows instead of mailing it.
func (c *client) join(ctx context.Context, key string) (m member, err error) {
	m = member{address: "member@bench.example", password: "a tin of blue paint, 1974"}
	var made struct{}
	if _, err := c.call(ctx, "POST", "/api/v1/invitations", key, "", map[string]any{"address": m.address, "roles": []string{"member"}}, &made); err != nil {
		return m, err
	}
	link, err := c.mailedLink(ctx, m.address)
	if err != nil {
		return m, err
	}
	return m, c.enter(ctx, "/api/v1/join", map[string]any{"do": "join", "link": link, "name": "A member", "password": m.password}, &m)
}

// signIn signs somebody in.
func (c *client) signIn(ctx context.Context, m member) error {
	return c.enter(ctx, signInPath, m.asked(), &m)
}

// enter asks for a session, and remembers the device.
func (c *client) enter(ctx context.Context, path string, asked map[string]any, m *member) error {
	b, err := json.Marshal(asked)
	if err != nil {
		return fmt.Errorf("bench.enter: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("bench.enter: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if m.device != "" {
		req.Header.Set("Cookie", m.device)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("bench.enter: %w", err)
	}
	defer res.Body.Close()
	var step struct{ State, Detail string }
	if err := json.NewDecoder(res.Body).Decode(&step); err != nil {
		return fmt.Errorf("bench.enter: %s: %w", path, err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil { // or the connection is not used again
		return fmt.Errorf("bench.enter: %s: %w", path, err)
	}
	if res.StatusCode == http.StatusServiceUnavailable {
		return errCrowd
	}
	if step.State != "signed_in" {
		return fmt.Errorf("bench.enter: %s: %s %s%s", path, res.Status, step.State, step.Detail)
	}
	for _, k := range res.Cookies() {
		if k.Name == "avouch-device" {
			m.device = k.Name + "=" + k.Value
		}
	}
	return nil
}

var (
	errCrowd   = errors.New("told to come back, as too many sign in")
	errNoMail  = errors.New("no mail with a link to join came")
	inInbox    = regexp.MustCompile(`/dev/inbox/\d+`)
	linkToJoin = regexp.MustCompile(`/join#link=(avl_[a-z2-7]+)`)
)

// mailedLink is the link to join that somebody was mailed, among what `avouch dev` caught.
func (c *client) mailedLink(ctx context.Context, to string) (string, error) {
	for range 300 {
		var inbox bytes.Buffer
		if _, err := fetch(ctx, c.base+"/dev/inbox", "", &inbox); err != nil {
			return "", err
		}
		for _, page := range inInbox.FindAllString(inbox.String(), -1) {
			var message bytes.Buffer
			if _, err := fetch(ctx, c.base+page, "", &message); err != nil {
				return "", err
			}
			if found := linkToJoin.FindStringSubmatch(message.String()); found != nil && strings.Contains(message.String(), to) {
				return found[1], nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("bench.mailedLink: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return "", fmt.Errorf("bench.mailedLink: %w", errNoMail)
}
