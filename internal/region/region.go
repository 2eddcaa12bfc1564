package region

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/sms"
)

// Region says where data of its organisations may be sent. What is nil is sent nowhere.
type Region struct {
	Mail *mail.Config
	SMS  *sms.Config
}

// Anywhere are the senders of organisations without a region. What is nil is sent nowhere.
type Anywhere struct {
	Mail mail.Sender
	SMS  sms.Sender
}

// Senders are the senders of every region, and of organisations without one.
type Senders struct {
	anywhere Anywhere
	regions  map[string]Anywhere
}

// maxFile bounds the file.
const maxFile = 1 << 20

// Open reads the file of the regions, which may be "" for none, and makes their senders. It connects to none of them.
func Open(file string, anywhere Anywhere) (*Senders, error) {
	s := &Senders{anywhere: anywhere, regions: map[string]Anywhere{}}
	if file == "" {
		return s, nil
	}
	b, err := secret.ReadFile(file, maxFile)
	if err != nil {
		return nil, fmt.Errorf("region.Open: %w", err)
	}
	all, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("region.Open: %s: %w", file, err)
	}
	for name, r := range all {
		if s.regions[name], err = r.open(filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("region.Open: %s: %s: %w", file, name, err)
		}
	}
	return s, nil
}

// open makes the senders of a region. Files are relative to dir.
func (r Region) open(dir string) (out Anywhere, err error) {
	if r.Mail != nil {
		c := *r.Mail
		within(dir, &c.PasswordFile, &c.CAFile)
		if c.User != "" && c.PasswordFile == "" {
			return out, errors.New("mail.password_file is missing: there is a user")
		}
		sender, err := mail.NewSMTP(c)
		if err != nil {
			return out, err
		}
		out.Mail = sender
	}
	if r.SMS != nil {
		c := *r.SMS
		within(dir, &c.HeadersFile, &c.TokenFile, &c.CAFile)
		if out.SMS, err = sms.New(c); err != nil {
			return out, err
		}
	}
	return out, nil
}

func within(dir string, files ...*string) {
	for _, file := range files {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
}

// Names are the regions that there are, in order.
func (s *Senders) Names() []string { return slices.Sorted(maps.Keys(s.regions)) }

// Known reports whether an organisation can be in a region; "" is no region, in which everyone can be.
func (s *Senders) Known(name string) bool {
	_, ok := s.regions[name]
	return ok || name == ""
}

// Mail is the sender of mail of a region, or of organisations without one if name is "". Without a sender it is
// mail.ErrNoSender.
func (s *Senders) Mail(name string) (mail.Sender, error) {
	of, known := s.of(name)
	if of.Mail == nil {
		return nil, fmt.Errorf("%w: %s", mail.ErrNoSender, why(name, known, "AVOUCH_MAIL_SERVER", "mail"))
	}
	return of.Mail, nil
}

// SMS is the sender of text messages, as Mail is of mail. Without a sender it is sms.ErrNoSender.
func (s *Senders) SMS(name string) (sms.Sender, error) {
	of, known := s.of(name)
	if of.SMS == nil {
		return nil, fmt.Errorf("%w: %s", sms.ErrNoSender, why(name, known, "AVOUCH_SMS_PROVIDER", "sms"))
	}
	return of.SMS, nil
}

func (s *Senders) of(name string) (Anywhere, bool) {
	if name == "" {
		return s.anywhere, true
	}
	of, known := s.regions[name]
	return of, known
}

// why is what an operator can do about a sender that is not there.
func why(name string, known bool, variable, member string) string {
	switch {
	case name == "":
		return "set " + variable
	case !known:
		return fmt.Sprintf("this server knows no region %q, and nothing of it is sent by another: see AVOUCH_REGIONS_FILE", name)
	}
	return fmt.Sprintf("the region %q has no %s, and nothing of it is sent by another: see AVOUCH_REGIONS_FILE", name, member)
}

// Texts reports whether text messages can be sent to anybody at all.
func (s *Senders) Texts() bool {
	if s.anywhere.SMS != nil {
		return true
	}
	for _, of := range s.regions {
		if of.SMS != nil {
			return true
		}
	}
	return false
}
