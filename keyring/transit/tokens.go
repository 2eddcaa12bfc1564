package transit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
)

// Login is how a token is had: a token itself, or what it is given for. Exactly one of Token, TokenFile, RoleID and JWTFile is set.
type Login struct {
	Token        secret.String
	TokenFile    string        // read anew whenever a token is wanted, as an agent beside the server writes it
	RoleID       string        // of AppRole, with SecretID or SecretIDFile
	SecretID     secret.String //
	SecretIDFile string
	JWTFile      string // of Kubernetes, with Role
	Role         string
	Mount        string // of the method; "" is approle or kubernetes
}

// check refuses what is no way to log in, or several.
func (l *Login) check() error {
	ways := 0
	for _, given := range []bool{!l.Token.IsZero(), l.TokenFile != "", l.RoleID != "", l.JWTFile != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errors.New("want one of a token, a token's file, an AppRole and a Kubernetes role")
	case l.RoleID != "" && l.SecretID.IsZero() == (l.SecretIDFile == ""):
		return errors.New("an AppRole wants a secret id, or its file")
	case l.JWTFile != "" && l.Role == "":
		return errors.New("a Kubernetes login wants a role")
	}
	return nil
}

const mostSecret = 16 << 10

func (l *Login) read(file string) (secret.String, error) {
	b, err := secret.ReadFile(file, mostSecret)
	if err != nil {
		return secret.String{}, err
	}
	defer clear(b)
	return secret.Text(strings.TrimSpace(string(b))), nil
}

type caller func(ctx context.Context, method, path string, token secret.String, in, out any) error

// tokens keeps the token in use.
type tokens struct {
	login Login
	call  caller
	now   func() time.Time

	fetches *singleflight.Group

	mu    sync.Mutex
	token secret.String
	until time.Time // when another is fetched; zero is never
}

func newTokens(l Login, call caller) *tokens {
	return &tokens{login: l, call: call, now: time.Now, fetches: &singleflight.Group{}}
}

// get is a token that is in force, fetched at two thirds of the life of the one before. Callers share one fetch, and wait no longer than their
// own calls may take.
func (t *tokens) get(ctx context.Context) (secret.String, error) {
	if token := t.held(); !token.IsZero() {
		return token, nil
	}
	fetch := t.fetches.DoChan("", func() (any, error) { return t.renew(context.WithoutCancel(ctx)) })
	select {
	case <-ctx.Done():
		return secret.String{}, fmt.Errorf("no token of the key management: %w: %w", keyring.ErrSilent, ctx.Err())
	case got := <-fetch:
		token, ok := got.Val.(secret.String)
		if got.Err != nil || !ok {
			return secret.String{}, fmt.Errorf("no token of the key management: %w", got.Err)
		}
		return token, nil
	}
}

// held is the token in use; empty if another is to be fetched.
func (t *tokens) held() secret.String {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() || t.now().Before(t.until) {
		return t.token
	}
	return secret.String{}
}

func (t *tokens) renew(ctx context.Context) (secret.String, error) {
	token := t.held() // of a fetch that ended a moment ago
	if !token.IsZero() {
		return token, nil
	}
	token, life, err := t.fetch(ctx)
	if err != nil {
		return secret.String{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token, t.until = token, time.Time{}
	if life > 0 {
		t.until = t.now().Add(life * 2 / 3)
	}
	return token, nil
}

// drop forgets a token that was refused, and says whether another can be had.
func (t *tokens) drop(token secret.String) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token.Expose() == token.Expose() {
		t.token = secret.String{}
	}
	return t.login.Token.IsZero()
}

func (t *tokens) fetch(ctx context.Context) (secret.String, time.Duration, error) {
	l := &t.login
	switch {
	case !l.Token.IsZero():
		return l.Token, 0, nil
	case l.TokenFile != "":
		token, err := l.read(l.TokenFile)
		return token, fileLife, err
	case l.RoleID != "":
		id := l.SecretID
		if l.SecretIDFile != "" {
			var err error
			if id, err = l.read(l.SecretIDFile); err != nil {
				return secret.String{}, 0, err
			}
		}
		return t.logIn(ctx, "approle", map[string]string{"role_id": l.RoleID, "secret_id": id.Expose()})
	}
	jwt, err := os.ReadFile(l.JWTFile) // Kubernetes gives it a mode of its own
	if err != nil {
		return secret.String{}, 0, err
	}
	defer clear(jwt)
	return t.logIn(ctx, "kubernetes", map[string]string{"role": l.Role, "jwt": strings.TrimSpace(string(jwt))})
}

// fileLife is how long what a file says is believed.
const fileLife = time.Minute

func (t *tokens) logIn(ctx context.Context, method string, in map[string]string) (secret.String, time.Duration, error) {
	if t.login.Mount != "" {
		method = strings.Trim(t.login.Mount, "/")
	}
	var out struct {
		Token secret.String `json:"client_token"`
		Life  int64         `json:"lease_duration"` // seconds
	}
	if err := t.call(ctx, http.MethodPost, "auth/"+method+"/login", secret.String{}, in, &out); err != nil {
		return secret.String{}, 0, err
	}
	if out.Token.IsZero() {
		return secret.String{}, 0, errors.New("the login gave none")
	}
	return out.Token, time.Duration(out.Life) * time.Second, nil
}
