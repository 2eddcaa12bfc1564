package region

import (
	"crypto/sha256"
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
	From Region // what they were made of: its credentials are no region's
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
	whose := owners{}
	if err := whose.take(anywhere.From, "organisations without a region"); err != nil {
		return nil, fmt.Errorf("region.Open: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		one := all[name].within(filepath.Dir(file))
		if s.regions[name], err = one.open(); err == nil {
			err = whose.take(one, "the region "+name)
		}
		if err != nil {
			return nil, fmt.Errorf("region.Open: %s: %s: %w", file, name, err)
		}
	}
	return s, nil
}

// within is the region with its files in dir, where they are relative.
func (r Region) within(dir string) Region {
	in := func(files ...*string) {
		for _, file := range files {
			if *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(dir, *file)
			}
		}
	}
	if r.Mail != nil {
		c := *r.Mail
		in(&c.PasswordFile, &c.CAFile)
		r.Mail = &c
	}
	if r.SMS != nil {
		c := *r.SMS
		in(&c.HeadersFile, &c.TokenFile, &c.CAFile)
		r.SMS = &c
	}
	return r
}

// open makes the senders of a region.
func (r Region) open() (out Anywhere, err error) {
	if r.Mail != nil {
		if r.Mail.User != "" && r.Mail.PasswordFile == "" {
			return out, errors.New("mail.password_file is missing: there is a user")
		}
		sender, err := mail.NewSMTP(*r.Mail)
		if err != nil {
			return out, err
		}
		out.Mail = sender
	}
	if r.SMS != nil {
		if out.SMS, err = sms.New(*r.SMS); err != nil {
			return out, err
		}
	}
	return out, nil
}

// owners says whose each credential is.
type owners map[[sha256.Size]byte]string

// take notes the credentials of a region, and refuses what is another's: who holds one region's could send as the other.
func (o owners) take(r Region, whose string) error {
	note := func(of string, credentials map[string]secret.String, err error) error {
		for _, what := range slices.Sorted(maps.Keys(credentials)) {
			if credentials[what].IsZero() {
				continue
			}
			sum := sha256.Sum256([]byte(credentials[what].Expose()))
			if other, taken := o[sum]; taken && other != whose {
				return fmt.Errorf("%s: the %s is that of %s too: each needs credentials of its own", of, what, other)
			}
			o[sum] = whose
		}
		return err
	}
	if r.Mail != nil {
		all, err := r.Mail.Credentials()
		if err := note("mail", all, err); err != nil {
			return err
		}
	}
	if r.SMS != nil {
		all, err := r.SMS.Credentials()
		if err := note("sms", all, err); err != nil {
			return err
		}
	}
	return nil
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
