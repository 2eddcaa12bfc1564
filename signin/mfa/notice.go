package mfa

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/tenantdb"
)

// notify asks for a mail to one person about what happened to the factors of a person, who may be another.
func (r *Room) notify(ctx context.Context, tx *tenantdb.Tx, to, about tenantdb.PersonID, what, kind string) error {
	return tx.Enqueue(ctx, mail.Job{Tenant: tx.Tenant().String(), Template: mail.FactorChanged, IDs: map[string]string{
		"to": to.String(), "person": about.String(), "what": what, "kind": kind, "at": strconv.FormatInt(r.cfg.Now().Unix(), 10),
	}})
}

// Mail finds the address and the data of the room's mails: SignInCode and FactorChanged. An empty address means that nobody
// waits for it any more.
func (r *Room) Mail(ctx context.Context, j mail.Job, organisation string) (to string, data any, err error) {
	if j.Template == mail.SignInCode {
		s, err := r.readSending(ctx, j.Tenant, j.IDs)
		if err != nil || s.to == "" {
			return "", nil, wrap("Mail", err)
		}
		return s.to, mail.SignInCodeData{Organisation: organisation, Code: s.code, Minutes: s.minutes}, nil
	}
	t, err := tenantdb.ParseTenantID(j.Tenant)
	if err != nil {
		return "", nil, wrap("Mail", err)
	}
	reader, bad1 := parsePerson(j.IDs["to"])
	about, bad2 := parsePerson(j.IDs["person"])
	at, bad3 := strconv.ParseInt(j.IDs["at"], 10, 64)
	what, known := said(j.IDs["what"], j.IDs["kind"])
	if bad1 != nil || bad2 != nil || bad3 != nil || !known {
		return "", nil, fmt.Errorf("mfa.Mail: the job cannot be read")
	}
	d := mail.FactorChangedData{Organisation: organisation, What: what, When: time.Unix(at, 0).UTC().Format(time.RFC1123)}
	if r.cfg.PublicURL != nil {
		d.URL = r.cfg.PublicURL.String()
	}
	err = r.cfg.DB.Read(ctx, tenantdb.System(t, "notice"), func(tx *tenantdb.ReadTx) (err error) {
		if _, to, err = r.cfg.People.Profile(ctx, tx, reader); err == nil && about != reader {
			d.Whose, _, err = r.cfg.People.Profile(ctx, tx, about)
		}
		return err
	})
	return to, d, wrap("Mail", err)
}

func parsePerson(s string) (p tenantdb.PersonID, err error) {
	err = p.UnmarshalText([]byte(s))
	return p, err
}

// said is what happened, for people; a closed list.
func said(what, kind string) (string, bool) {
	name, known := map[string]string{
		TOTP: "an authenticator app", Email: "codes by e-mail", SMS: "codes by text message", Passkey: "a passkey", "": "",
	}[kind]
	if !known {
		return "", false
	}
	switch what {
	case "added":
		return "A second factor was added: " + name + ".", true
	case "removed":
		return "A second factor was removed: " + name + ".", true
	case "codes":
		return "New recovery codes were made. The old ones work no longer.", true
	case "recovery":
		return "A recovery code was used to sign in. It works no longer.", true
	case "reset":
		return "All second factors and recovery codes were taken away by an administrator. The next sign-in wants the password and a code sent by e-mail, and a new factor before anything else.", true
	case "guessed":
		return "Too many wrong codes were given after the right password. Codes are refused until tomorrow; passkeys and recovery codes work. Somebody else may know the password: change it.", true
	case "cloned":
		return "A passkey was refused: it seems that there is a copy of it. Remove it and register another.", true
	}
	return "", false
}

// Text finds the number and the text of a code that is sent by SMS.
func (r *Room) Text(ctx context.Context, j sms.Job) (sms.Message, error) {
	s, err := r.readSending(ctx, j.Tenant, j.IDs)
	if err != nil || s.to == "" {
		return sms.Message{}, wrap("Text", err)
	}
	text := fmt.Sprintf("%s is your code for %s. It expires in %s minutes. Nobody will ever ask you for it.", s.code, r.cfg.Issuer, s.minutes)
	if r.web != nil { // browsers fill the code in on that host alone (WebOTP)
		text += fmt.Sprintf("\n\n@%s #%s", r.cfg.PublicURL.Hostname(), s.code)
	}
	return sms.Message{To: s.to, Text: text}, nil
}

// sent is a code and where it goes.
type sent struct{ to, code, minutes string }

// readSending finds where a code goes: where its factor says now, or its enrolment.
func (r *Room) readSending(ctx context.Context, tenant string, ids map[string]string) (s sent, err error) {
	t, err := tenantdb.ParseTenantID(tenant)
	if err != nil {
		return s, err
	}
	attempt, bad1 := hex.DecodeString(ids["attempt"])
	person, bad2 := parsePerson(ids["person"])
	f, bad3 := id.Parse[factorKind](ids["factor"])
	number, bad4 := strconv.Atoi(ids["sending"])
	at, bad5 := strconv.ParseInt(ids["at"], 10, 64)
	if bad1 != nil || bad2 != nil || bad3 != nil || bad4 != nil || bad5 != nil {
		return s, fmt.Errorf("the job cannot be read")
	}
	left := time.Unix(at, 0).Add(CodeLife).Sub(r.cfg.Now())
	if left < time.Minute {
		return s, nil
	}
	s.minutes = strconv.Itoa(int(left.Minutes()))
	err = r.cfg.DB.Read(ctx, tenantdb.System(t, "codes"), func(tx *tenantdb.ReadTx) error {
		s.to, err = r.addressee(ctx, tx, enrolment{Factor: f, Person: person})
		return err
	})
	if err == nil && s.to != "" {
		s.code, err = r.code(ctx, t, attempt, f, number)
	}
	return s, err
}

func (r *Room) addressee(ctx context.Context, tx *tenantdb.ReadTx, e enrolment) (string, error) {
	all, err := r.load(ctx, tx, e.Person)
	if err != nil {
		return "", err
	}
	kind := ""
	if f := find(all, e.Factor); f != nil {
		kind, e.Details = f.Kind, f.details
	} else {
		if err := r.name(ctx, tx.Tenant(), &e); err != nil {
			return "", err
		}
		sealed, err := findEnrolment(ctx, tx, &e, r.cfg.Now())
		if err != nil {
			return "", nilIfMissing(err)
		}
		if err := r.openEnrolment(ctx, tx.Tenant(), &e, sealed); err != nil {
			return "", err
		}
		kind = e.Kind
	}
	if kind == Email && e.Details.To == "" {
		_, address, err := r.cfg.People.Profile(ctx, tx, e.Person)
		return address, err
	}
	return e.Details.To, nil
}

// nilIfMissing takes what is not there any more for nothing wrong.
func nilIfMissing(err error) error {
	if problem.Is(err, problem.Missing) {
		return nil
	}
	return err
}
