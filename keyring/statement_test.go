package keyring

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestStatementsAreNoTokens: one key signs both, and neither is taken for the other, by us or by others.
func TestStatementsAreNoTokens(t *testing.T) {
	t.Parallel()
	s, _, c := newSigning(t)
	st, err := s.State(t.Context(), StatementVerified, []Line{{"issuer", "https://avouch.example"}, {"service name", "A: b.c"}}, c.now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	until := c.now().Add(time.Hour).UTC().Format(time.RFC3339)
	if want := "avouch/verified/v1\nissuer: https://avouch.example\nservice name: A: b.c\nvalid until: " + until + "\n"; st.Text != want {
		t.Errorf("stated %q, want %q", st.Text, want)
	}
	signature, err := base64.RawURLEncoding.DecodeString(st.Signature)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.VerifySignature(context.Background(), st.KID, st.Text, signature); err != nil {
		t.Error(err)
	}
	if err := s.VerifySignature(context.Background(), st.KID, strings.TrimSpace(st.Text), signature); !errors.Is(err, ErrBadSignature) {
		t.Errorf("another text: %v", err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(st.Text))
	for _, try := range []string{st.Text + "." + st.Signature, text + "." + st.Signature, text + ".." + st.Signature, ".." + st.Signature, st.Text + ".." + st.Signature} {
		if jws, err := jose.ParseSignedCompact(try, []jose.SignatureAlgorithm{jose.ES256}); err == nil {
			t.Errorf("go-jose takes %q for %v", try, jws)
		}
	}
	for _, typ := range []string{TypeJWT, TypeAccessToken} {
		token, err := s.Sign(t.Context(), typ, claims(c, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if _, input, _ := parts(t, token); strings.ContainsAny(input, "/\n: ") {
			t.Errorf("what is signed of a token could be a statement: %q", input)
		}
	}
	for _, typ := range []string{"verified+jwt", "", StatementVerified} {
		if _, err := s.Sign(t.Context(), typ, claims(c, time.Hour)); err == nil {
			t.Errorf("a JWT of type %q is signed", typ)
		}
	}
}

// TestStatementLines: what does not fit into a line, has another heading or outlives its key is not signed.
func TestStatementLines(t *testing.T) {
	t.Parallel()
	s, m, c := newSigning(t)
	soon := c.now().Add(time.Minute)
	for name, value := range map[string]string{
		"a: b": "x", "": "x", "a\nb": "x", "LF": "x\ny", "CR": "x\ry", "NEL": "x\u0085y", "LS": "x\u2028y", "PS": "x\u2029y", "NUL": "\x00", "no UTF-8": "\xff",
	} {
		if _, err := s.State(t.Context(), StatementVerified, []Line{{name, value}}, soon); !errors.Is(err, ErrStatement) {
			t.Errorf("%q: %q: %v", name, value, err)
		}
	}
	for _, heading := range []string{"", "eyJhbGciOiJFUzI1NiJ9", "avouch/verified/v1\n", "avouch/link/v1"} {
		if _, err := s.State(t.Context(), heading, nil, soon); !errors.Is(err, ErrStatement) {
			t.Errorf("%q: %v", heading, err)
		}
	}
	for _, ahead := range []time.Duration{-time.Second, MaxTokenLife + time.Minute} {
		if _, err := s.State(t.Context(), StatementVerified, nil, c.now().Add(ahead)); !errors.Is(err, ErrTokenLife) {
			t.Errorf("good for %v: %v", ahead, err)
		}
	}
	m.fail = errors.New("no database")
	if _, err := s.State(t.Context(), StatementVerified, nil, c.now().Add(time.Minute)); !errors.Is(err, m.fail) {
		t.Errorf("signed though a key may have been revoked: %v", err)
	}
}
