package keyring

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// StatementVerified is the first line of what the page /verified states.
const StatementVerified = "avouch/verified/v1"

// ErrStatement means that what was to be stated does not fit into lines.
var ErrStatement = errors.New("a statement is made of lines that are whole")

// Line is one line of a statement.
type Line struct{ Name, Value string }

// Statement is a text that is signed with a token signing key and is no token, see Signing.State. The signature is
// ES256 over the bytes of the text, in base64url.
type Statement struct {
	Text      string `json:"text"`
	KID       string `json:"kid"`
	Signature string `json:"signature"`
}

// State signs a heading and lines with the key that signs now; a last line says until when that is good.
//
// The keys are those of the tokens, so neither may pass for the other. What is signed of a token is base64url, a dot,
// base64url: it has no slash and no line end (RFC 7515, section 3.1). A statement begins with a heading that has a slash,
// and a line end after it.
func (s *Signing) State(ctx context.Context, heading string, lines []Line, until time.Time) (Statement, error) {
	now := s.now()
	if !until.After(now) || until.After(now.Add(MaxTokenLife)) {
		return Statement{}, fmt.Errorf("keyring.State: %w", ErrTokenLife)
	}
	text, err := write(heading, append(lines[:len(lines):len(lines)], Line{"valid until", until.UTC().Format(time.RFC3339)}))
	if err != nil {
		return Statement{}, fmt.Errorf("keyring.State: %w", err)
	}
	st := Statement{Text: text}
	err = s.withSigner(ctx, agents, func(kid string, key *openKey) error {
		signature, err := s.signWith(ctx, key, []byte(text))
		st.KID, st.Signature = kid, base64.RawURLEncoding.EncodeToString(signature)
		return err
	})
	if err != nil {
		return Statement{}, fmt.Errorf("keyring.State: %w", err)
	}
	return st, nil
}

func write(heading string, lines []Line) (string, error) {
	if heading != StatementVerified {
		return "", fmt.Errorf("%w: %q is not a heading", ErrStatement, heading)
	}
	var b strings.Builder
	b.WriteString(heading + "\n")
	for _, l := range lines {
		if l.Name == "" || strings.Contains(l.Name, ":") || !oneLine(l.Name) || !oneLine(l.Value) {
			return "", fmt.Errorf("%w: %q", ErrStatement, l.Name)
		}
		b.WriteString(l.Name + ": " + l.Value + "\n")
	}
	return b.String(), nil
}

// oneLine refuses also what only some programs take for the end of a line: a value could state another line to them.
func oneLine(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, EndsLine)
}

// EndsLine reports whether a character may not be in a statement's line: control characters and Unicode's separators of
// lines and paragraphs.
func EndsLine(c rune) bool { return unicode.In(c, unicode.Cc, unicode.Zl, unicode.Zp) }
