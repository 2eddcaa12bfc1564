package mail

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Message is one mail to one person.
type Message struct {
	To      string // an address, or a name and an address
	Subject string // one line
	Text    string
	HTML    string // the same for those who show it; may be empty
}

// Sender sends messages, or catches them.
type Sender interface {
	// Send hands the message over, and returns when it was taken. Its errors hold no address.
	Send(ctx context.Context, m Message) error
}

// The limits of a message.
const (
	maxAddress = 320
	maxSubject = 200
	maxBody    = 256 << 10
)

// address reads an address in either form. What it refuses it does not quote: errors end up in logs.
func address(s string) (*netmail.Address, error) {
	if len(s) > maxAddress || !printable(s) {
		return nil, errors.New("mail: the address is too long, or holds control characters")
	}
	a, err := netmail.ParseAddress(s)
	if err != nil {
		return nil, errors.New("mail: the address is not one")
	}
	return a, nil
}

// check refuses what could not be sent as it is meant.
func (m *Message) check() (*netmail.Address, error) {
	to, err := address(m.To)
	if err != nil {
		return nil, err
	}
	if m.Subject == "" || len(m.Subject) > maxSubject || !printable(m.Subject) {
		return nil, errors.New("mail: the subject is empty, too long, or not one line of text")
	}
	if m.Text == "" || len(m.Text)+len(m.HTML) > maxBody || !utf8.ValidString(m.Text) || !utf8.ValidString(m.HTML) {
		return nil, errors.New("mail: the body is empty, too long, or not UTF-8")
	}
	return to, nil
}

// printable reports whether s is one line of text: no line ends of any alphabet, no other control characters, nothing
// that turns the direction of reading so that a name looks like another.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
	})
}

// oneLine makes one line of what somebody else wrote, for a subject.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if !printable(string(r)) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxSubject {
		s = strings.ToValidUTF8(s[:maxSubject-len("…")], "") + "…"
	}
	return s
}

func wrap(op string, err error) error { return fmt.Errorf("mail.%s: %w", op, err) }
