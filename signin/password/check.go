package password

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
)

// The bounds of a password. The longest is of what is sent, so that nobody has us normalise a book.
const (
	LeastCharacters = 12
	MostBytes       = 1024
)

// ErrUnfit is of a text that cannot be a password: it is empty, too long, no UTF-8 or has control characters.
var ErrUnfit = errors.New("the text cannot be a password")

// normalise gives a password the form that is hashed: RFC 8265, OpaqueString. The same password typed on two keyboards is the same
// then. Of what cannot be a password it gives something as long as one, for the work.
func normalise(plain secret.String) ([]byte, error) {
	text := plain.Expose()
	if len(text) > MostBytes || !utf8.ValidString(text) {
		return make([]byte, LeastCharacters), ErrUnfit
	}
	clean, err := precis.OpaqueString.Bytes([]byte(text))
	if err != nil {
		return make([]byte, LeastCharacters), ErrUnfit // without the cause, which may quote
	}
	return clean, nil
}

// Check refuses what should not be somebody's password: too short or long, one that others use, or made of what is personal: the
// person's name, address and organisation. The error is problem.Invalid and says what is wrong, or problem.Unavailable if a list
// that must be asked cannot be.
func (r *Room) Check(ctx context.Context, plain secret.String, personal ...string) error {
	clean, err := normalise(plain)
	switch {
	case len(plain.Expose()) > MostBytes:
		return unfit("A password has at most %d bytes.", MostBytes)
	case err != nil && !plain.IsZero():
		return unfit("This password holds a character that cannot be typed again with certainty: leave out control characters.")
	case err != nil || utf8.RuneCount(clean) < LeastCharacters:
		return unfit("A password has at least %d characters. Several words that have nothing to do with each other are easy to remember.", LeastCharacters)
	case ofTheirOwn(string(clean), personal):
		return unfit("This password is made of your own name, address or organisation, which is what others try first. Choose another.")
	}
	known, err := r.cfg.Breached.Known(ctx, secret.Text(string(clean)))
	if err != nil {
		return fmt.Errorf("password.Check: %w", err)
	}
	if known {
		return unfit("This password is known to others: it is on a list of passwords that were stolen or are guessed first. Choose another, and change it wherever else you use it.")
	}
	return nil
}

func unfit(format string, args ...any) error {
	e := problem.New(problem.Invalid, format, args...)
	e.Fields = []problem.Field{{Location: "body.password", Message: e.Detail}}
	return e
}
