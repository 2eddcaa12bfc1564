package main

import (
	"strings"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/region"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/signin/password"
)

// people examines what people need: mail and text messages, and the lists that their passwords are looked up in. It connects to nothing.
func (c *doctorCmd) people() []diagnosis {
	return append(c.mails(), c.breached())
}

// mails is who sends mail and text messages to people: the installation's own, and those of the regions.
func (c *doctorCmd) mails() (found []diagnosis) {
	if c.Mail.Server == "" {
		found = append(found, diagnosis{What: "mail", Well: true, Advice: true,
			Detail: "AVOUCH_MAIL_SERVER is not set: nobody outside of a region can be invited, recover an account or be sent a code"})
	} else {
		_, err := mail.NewSMTP(c.Mail)
		found = append(found, verdict("mail", err, "to people through "+c.Mail.Server))
	}
	if c.SMS.Provider != "" {
		_, err := sms.New(c.SMS)
		found = append(found, verdict("text messages", err, "to people by the provider "+c.SMS.Provider))
	}
	if c.RegionsFile == "" {
		return found
	}
	senders, err := region.Open(c.RegionsFile, region.Anywhere{From: region.Region{Mail: &c.Mail, SMS: &c.SMS}})
	if err != nil {
		return append(found, diagnosis{What: "regions", Detail: "AVOUCH_REGIONS_FILE: " + err.Error()})
	}
	says := diagnosis{What: "regions", Well: true, Detail: strings.Join(senders.Names(), ", ")}
	for _, name := range senders.Names() {
		if _, err := senders.Mail(name); err != nil {
			says.Advice = true
			says.Detail += "; " + name + " has no mail server, so nobody in it can be invited, recover an account or be sent a code"
		}
	}
	return append(found, says)
}

// breached is where new passwords are looked up. Servers do not start with a list that cannot be used.
func (c *doctorCmd) breached() diagnosis {
	const what = "breached passwords"
	if _, err := password.OpenBreached(c.Breached); err != nil {
		return diagnosis{What: what, Detail: "AVOUCH_BREACHED_FILE, AVOUCH_BREACHED_URL: " + err.Error()}
	}
	lists := []string{"the built-in list"}
	if c.Breached.File != "" {
		lists = append(lists, "the file "+c.Breached.File)
	}
	if c.Breached.URL != "" {
		lists = append(lists, "the endpoint (which was not asked)")
	}
	says := diagnosis{What: what, Well: true, Detail: "new ones are looked up in " + strings.Join(lists, ", ")}
	if len(lists) == 1 {
		says.Advice = true
		says.Detail += " only: avouch passwords import makes AVOUCH_BREACHED_FILE, which has all that are known"
	}
	return says
}
