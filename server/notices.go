package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/apikey"
	"github.com/avouch-dev/avouch/incident"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/region"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/tenantdb"
)

// openMail chooses how notices leave: by SMTP if a server is named, into a page in development, and else not at all. What
// belongs to a region leaves by that region's own.
func (s *Server) openMail(context.Context) (err error) {
	if s.cfg.OperatorEmail != "" {
		if _, err := netmail.ParseAddress(s.cfg.OperatorEmail); err != nil {
			return fmt.Errorf("%w: AVOUCH_OPERATOR_EMAIL is not an e-mail address", ErrConfig)
		}
	}
	anywhere := region.Anywhere{From: region.Region{Mail: &s.cfg.Mail, SMS: &s.cfg.SMS}}
	switch {
	case s.cfg.Mail.Server != "":
		if anywhere.Mail, err = mail.NewSMTP(s.cfg.Mail); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
	case s.cfg.Development:
		s.inbox = mail.NewInbox(inboxPath, time.Now)
		anywhere.Mail = s.inbox
	}
	if anywhere.SMS, err = sms.New(s.cfg.SMS); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if anywhere.SMS == nil && s.inbox != nil {
		anywhere.SMS = sms.Caught(s.inbox)
	}
	if s.senders, err = region.Open(s.cfg.RegionsFile, anywhere); err != nil {
		return fmt.Errorf("%w: AVOUCH_REGIONS_FILE: %w", ErrConfig, err)
	}
	return nil
}

const inboxPath = "/dev/inbox"

func (s *Server) inboxPages() {
	if s.inbox == nil {
		return
	}
	for id, path := range map[string]string{"dev-inbox": inboxPath, "dev-inbox-message": inboxPath + "/{message}"} {
		s.api.Mount(web.Op{ID: id, Method: http.MethodGet, Path: path}, s.here(s.inbox))
	}
}

// here refuses what asks for another host than this machine, where there is no TLS: any site could let its own name lead here,
// and its page read the links and codes in the mail.
func (s *Server) here(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.cert == nil && !s.cfg.loopback(r.Host) && r.Host != s.set.public.Host {
			s.api.Refuse(w, r, problem.New(problem.Denied, "The mail that was caught is shown at %s%s alone.", s.URL(), inboxPath))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Inbox is where mail is caught in development; nil otherwise.
func (s *Server) Inbox() *mail.Inbox { return s.inbox }

// Regions are the names of the regions that an organisation can be in.
func (s *Server) Regions() []string { return s.senders.Names() }

// route finds by whom an organisation's mail is sent: by its region's server alone, if it has a region.
func (s *Server) route(ctx context.Context, j mail.Job) (mail.Sender, error) {
	name, err := s.regionOf(ctx, j.Tenant)
	if err != nil {
		return nil, err
	}
	return s.senders.Mail(name)
}

// routeText is route of text messages.
func (s *Server) routeText(ctx context.Context, j sms.Job) (sms.Sender, error) {
	name, err := s.regionOf(ctx, j.Tenant)
	if err != nil {
		return nil, err
	}
	return s.senders.SMS(name)
}

// Mails says whether mail leaves from a region, "" being none. An operator's command knows less than the servers, which may have
// other senders: it refuses only what the regions say.
func (s *Server) Mails(region string) bool {
	_, err := s.senders.Mail(region)
	return err == nil || s.operating && (region == "" || !s.senders.Known(region))
}

// sends says whether codes of a kind can be sent to people of an organisation.
func (s *Server) sends(ctx context.Context, tx *tenantdb.ReadTx, kind string) (bool, error) {
	name, err := s.Org.Region(ctx, tx)
	if err != nil {
		return false, err
	}
	if kind == mfa.SMS {
		_, err := s.senders.SMS(name)
		return err == nil, nil
	}
	return s.Mails(name), nil
}

func (s *Server) regionOf(ctx context.Context, tenant string) (string, error) {
	t, err := tenantdb.ParseTenantID(tenant)
	if err != nil {
		return "", fmt.Errorf("server.regionOf: %w", err)
	}
	name := ""
	err = s.DB.Read(ctx, tenantdb.System(t, "notice"), func(tx *tenantdb.ReadTx) error {
		name, err = s.Org.Region(ctx, tx)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("server.regionOf: %w", err)
	}
	return name, nil
}

// resolve finds, when a notice is sent, to whom and what it says.
func (s *Server) resolve(ctx context.Context, j mail.Job) (to string, data any, err error) {
	t, err := tenantdb.ParseTenantID(j.Tenant)
	if err != nil {
		return "", nil, fmt.Errorf("server.resolve: %w", err)
	}
	c := tenantdb.System(t, "notice")
	o, err := s.Org.Get(ctx, c)
	if err != nil {
		return "", nil, fmt.Errorf("server.resolve: %w", err)
	}
	if t == tenantdb.Platform {
		o.Name, o.ContactEmail = "the installation "+s.URL(), s.cfg.OperatorEmail
	}
	switch j.Template {
	case mail.KeyLeaked:
		k, err := s.Keys.Get(ctx, c, j.IDs["key"])
		if err != nil {
			return "", nil, fmt.Errorf("server.resolve: %w", err)
		}
		return o.ContactEmail, mail.KeyLeakedData{
			Organisation: o.Name, KeyID: k.ID, KeyName: k.Name, Hint: k.Hint, Where: j.IDs["where"], When: j.IDs["at"], RequestID: j.IDs["request"], URL: s.URL() + "/docs#rotate-key",
			Revoked: !k.RevokedAt.IsZero(), Left: keysLeft(j.IDs["left"]),
		}, nil
	case mail.KeyExpiring:
		d, err := s.keysExpiring(ctx, c, j)
		if err != nil || len(d.Keys) == 0 {
			return "", nil, err
		}
		d.Organisation = o.Name
		return o.ContactEmail, d, nil
	case mail.Incident:
		id, err := incident.ParseID(j.IDs["incident"])
		if err != nil {
			return "", nil, fmt.Errorf("server.resolve: %w", err)
		}
		in, err := s.Incident.Get(ctx, c, id)
		if err != nil {
			return "", nil, fmt.Errorf("server.resolve: %w", err)
		}
		data := mail.IncidentData{
			Organisation: o.Name, Kind: in.Kind, Detail: in.Detail, When: in.Opened.UTC().Format(time.RFC1123), ID: in.ID.String(), URL: s.URL() + "/docs#list-incidents",
		}
		if in.Subject != "" {
			data.Detail = "About " + in.Subject + ": " + in.Detail
		}
		if t == tenantdb.Platform {
			data.Detail, data.URL = data.Detail+" `avouch incidents list` shows what is open.", "" // the installation has no key for the API
		}
		return o.ContactEmail, data, nil
	}
	return s.resolvePeople(ctx, c, o, j)
}

// keysLeft is a count of keys for people: more than a number were not counted.
func keysLeft(n string) string {
	if n == strconv.Itoa(apikey.MostLeft) {
		return "at least " + n
	}
	return n
}

// keysExpiring is what a mail says of keys that end soon, but for those that ended or were replaced since it was queued.
func (s *Server) keysExpiring(ctx context.Context, c tenantdb.Caller, j mail.Job) (mail.KeyExpiringData, error) {
	d := mail.KeyExpiringData{Days: j.IDs["days"] + " days", URL: s.URL() + "/docs#rotate-key"}
	if j.IDs["days"] == "1" {
		d.Days = "1 day"
	}
	named := strings.Fields(j.IDs["keys"])
	all, err := strconv.Atoi(j.IDs["count"])
	if err != nil {
		return d, fmt.Errorf("server.resolve: %w", err)
	}
	d.More = max(all-len(named), 0)
	for _, id := range named {
		k, err := s.Keys.Get(ctx, c, id)
		if err != nil {
			return d, fmt.Errorf("server.resolve: %w", err)
		}
		if !k.RevokedAt.IsZero() || k.ReplacedBy != "" {
			continue
		}
		one := mail.ExpiringKey{Name: k.Name, Hint: k.Hint, Owner: k.GivenTo, When: k.ExpiresAt.UTC().Format(time.RFC1123)}
		if !k.At.IsZero() {
			one.LastUsed = k.At.UTC().Format(time.RFC1123)
		}
		d.Keys = append(d.Keys, one)
	}
	return d, nil
}

// tellOfIncident asks for a notice in the transaction that opens the incident.
func tellOfIncident(ctx context.Context, tx *tenantdb.Tx, in incident.Incident) error {
	return tx.Enqueue(ctx, mail.Job{Tenant: tx.Tenant().String(), Template: mail.Incident, IDs: map[string]string{"incident": in.ID.String()}})
}

// raise opens an incident. One of the installation that nobody gets a mail of must not go unseen: it is an error in the log.
func (s *Server) raise(ctx context.Context, c tenantdb.Caller, kind, subject, detail string) (opened bool, err error) {
	opened, err = s.Incident.Raise(ctx, c, kind, subject, detail)
	if why := s.cfg.Unheard(); opened && why != "" && c.Tenant() == tenantdb.Platform {
		s.log.LogAttrs(ctx, slog.LevelError, "an incident of the installation is mailed to nobody", slog.String("why", why),
			slog.String("kind", kind), slog.String("subject", subject), slog.String("detail", detail))
	}
	return opened, err
}

// Unheard is why an incident of the installation is mailed to nobody, or "".
func (c *Config) Unheard() string {
	switch {
	case c.OperatorEmail == "":
		return "AVOUCH_OPERATOR_EMAIL is not set"
	case c.Mail.Server == "" && !c.Development:
		return "AVOUCH_MAIL_SERVER is not set"
	}
	return ""
}
