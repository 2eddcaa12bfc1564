package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/signin/link"
	"github.com/avouch-dev/avouch/signin/session"
	"github.com/avouch-dev/avouch/signin/sso"
	"github.com/avouch-dev/avouch/tenantdb"
)

// notice is a mail to somebody, as it is put together when it is sent.
type notice struct {
	s            *Server
	c            tenantdb.Caller
	ids          map[string]string
	organisation string
}

// resolvePeople finds to whom a mail about people goes and what it says; to nobody if it has nothing to say any more.
func (s *Server) resolvePeople(ctx context.Context, c tenantdb.Caller, o org.Organisation, j mail.Job) (to string, data any, err error) {
	n := notice{s, c, j.IDs, o.Name}
	switch j.Template {
	case mail.SignInCode, mail.FactorChanged:
		return s.Factors.Mail(ctx, j, o.Name)
	case mail.Invitation:
		return n.invitation(ctx)
	}
	person, err := n.person("person")
	if err != nil {
		return "", nil, err
	}
	if _, to, err = n.profile(ctx, person); err != nil {
		return "", nil, err
	}
	switch j.Template {
	case mail.AddressChange, mail.Recover:
		return n.link(ctx, person, to, j.Template)
	case mail.AddressChanged:
		if to, err = s.SignIn.OldAddress(ctx, c.Tenant(), person, j.IDs["old"]); err != nil {
			return "", nil, err
		}
		fallthrough
	case mail.RecoverDone, mail.PasswordChanged, mail.NewDevice, mail.SessionReused:
		where, err := n.where(ctx, person)
		return to, mail.SecurityData{Organisation: o.Name, When: n.when("at"), Where: where, URL: s.URL() + "/account"}, err
	case mail.RulesLowered:
		data, err = n.lowered(ctx)
	case mail.Ownership:
		data, err = n.ownership(ctx)
	case mail.OrganisationDeleted:
		data, err = n.deleted(ctx)
	case mail.DeletionAsked, mail.DeletionEnded:
		data, err = n.deletion(ctx, j.Template)
	case mail.GlassAsked, mail.GlassOpened, mail.GlassReview:
		data, err = n.glass(ctx, j.Template)
	case mail.KMSChanged:
		data, err = n.kms(ctx)
	case mail.SSOConfigurerLeft:
		data, err = n.connection(ctx)
	case mail.VaultRequested:
		data, err = n.vaultRequest(ctx)
	case mail.VaultExported:
		data, err = n.vaultExport(ctx)
	case mail.VaultRedirected:
		data, err = n.vaultRedirect(ctx)
	default:
		err = fmt.Errorf("server.resolve: no template %q", j.Template)
	}
	return to, data, err
}

func (n notice) person(name string) (p tenantdb.PersonID, err error) {
	if err := p.UnmarshalText([]byte(n.ids[name])); err != nil {
		return p, fmt.Errorf("server.resolve: %s: %w", name, err)
	}
	return p, nil
}

// when is a time that a job carries, for people.
func (n notice) when(name string) string {
	at, err := time.Parse(time.RFC3339, n.ids[name])
	if err != nil {
		at = n.s.now()
	}
	return at.UTC().Format(time.RFC1123)
}

func (n notice) read(ctx context.Context, fn func(*tenantdb.ReadTx) error) error {
	if err := n.s.DB.Read(ctx, n.c, fn); err != nil {
		return fmt.Errorf("server.resolve: %w", err)
	}
	return nil
}

func (n notice) profile(ctx context.Context, p tenantdb.PersonID) (name, address string, err error) {
	err = n.read(ctx, func(tx *tenantdb.ReadTx) error {
		f, err := n.s.Org.Profile(ctx, tx, p)
		name, address = f.Name, f.Address
		return err
	})
	return name, address, err
}

// actor is what people call somebody who is named by kind and id.
func (n notice) actor(ctx context.Context, who string) (string, error) {
	kind, id, _ := strings.Cut(who, ":")
	switch kind {
	case "key":
		return "the API key " + id, nil
	case "system":
		return "the operator of this installation", nil
	}
	var p tenantdb.PersonID
	if err := p.UnmarshalText([]byte(id)); err != nil {
		return "", fmt.Errorf("server.resolve: %w", err)
	}
	name, _, err := n.profile(ctx, p)
	return name, err
}

func (n notice) invitation(ctx context.Context) (to string, data any, err error) {
	id, err := org.ParseInvitationID(n.ids["invitation"])
	if err != nil {
		return "", nil, fmt.Errorf("server.resolve: %w", err)
	}
	var in org.Invitation
	err = n.read(ctx, func(tx *tenantdb.ReadTx) error {
		in, err = n.s.Org.Invitation(ctx, tx, id)
		return err
	})
	if err != nil || !in.Open(n.s.now()) {
		return "", nil, err
	}
	d := mail.InvitationData{Organisation: n.organisation, Expires: in.ExpiresAt.UTC().Format(time.RFC1123)}
	if strings.HasPrefix(in.InvitedBy, "person:") {
		if d.Inviter, err = n.actor(ctx, in.InvitedBy); err != nil {
			return "", nil, err
		}
	}
	l, err := n.secret(ctx)
	d.Link = n.s.URL() + "/join#link=" + l.Expose()
	return in.Address, d, err
}

func (n notice) secret(ctx context.Context) (secret.String, error) {
	id, err := link.ParseID(n.ids["link"])
	if err != nil {
		return secret.String{}, fmt.Errorf("server.resolve: %w", err)
	}
	return n.s.Links.Secret(ctx, n.c.Tenant(), id)
}

func (n notice) link(ctx context.Context, p tenantdb.PersonID, to string, t mail.Template) (string, any, error) {
	l, err := n.secret(ctx)
	if err != nil {
		return "", nil, err
	}
	d := mail.LinkData{Organisation: n.organisation, When: n.when("at"), Link: n.s.URL() + "/recover#link=" + l.Expose(), Expires: n.when("expires")}
	if t == mail.AddressChange {
		d.Link = n.s.URL() + "/account#link=" + l.Expose()
		id, err := link.ParseID(n.ids["link"])
		if err != nil {
			return "", nil, fmt.Errorf("server.resolve: %w", err)
		}
		if to, err = n.s.SignIn.LinkedAddress(ctx, n.c.Tenant(), p, id); err != nil {
			return "", nil, err
		}
	}
	return to, d, nil
}

// where is the session that a mail is about, as its person sees it.
func (n notice) where(ctx context.Context, p tenantdb.PersonID) (string, error) {
	if n.ids["session"] == "" {
		return "", nil
	}
	id, err := session.ParseID(n.ids["session"])
	if err != nil {
		return "", fmt.Errorf("server.resolve: %w", err)
	}
	where := ""
	err = n.read(ctx, func(tx *tenantdb.ReadTx) error {
		where, err = n.s.Sessions.Where(ctx, tx, p, id)
		return err
	})
	return where, err
}

func (n notice) lowered(ctx context.Context) (any, error) {
	rules, err := n.s.Org.GetRules(ctx, n.c)
	if err != nil {
		return nil, err
	}
	for _, p := range rules.Pending {
		if p.ID.String() != n.ids["change"] {
			continue
		}
		by, err := n.actor(ctx, p.AskedBy)
		return mail.RulesLoweredData{
			Organisation: n.organisation, Changes: loweredTo(p), By: by, When: p.AskedAt.UTC().Format(time.RFC1123), Due: p.DueAt.UTC().Format(time.RFC1123), URL: n.s.URL() + "/docs#cancel-rules-change",
		}, err
	}
	return nil, nil
}

// loweredTo says in sentences what second factors would be asked for.
func loweredTo(p org.PendingChange) (out []string) {
	required, roles, factors := p.After()
	switch {
	case required == org.MFARequired:
		out = append(out, "A second factor is required of everybody.")
	case len(roles) > 0:
		out = append(out, "A second factor is required of owners, of those who govern, and of: "+strings.Join(roles, ", ")+".")
	default:
		out = append(out, "A second factor is required of owners and of those who govern, and of nobody else.")
	}
	for role, kinds := range factors {
		out = append(out, "What counts for "+role+": "+strings.Join(kinds, ", ")+".")
	}
	if len(factors) == 0 {
		out = append(out, "Every kind of factor counts.")
	}
	return out
}

func (n notice) ownership(ctx context.Context) (any, error) {
	if n.ids["who"] != "" {
		return n.ownerLess(ctx)
	}
	to, err := n.person("to")
	if err != nil {
		return nil, err
	}
	name, _, err := n.profile(ctx, to)
	if err != nil {
		return nil, err
	}
	by, err := n.actor(ctx, "person:"+n.ids["from"])
	return mail.OwnershipData{Organisation: n.organisation, Person: name, Owner: true, By: by, When: n.when("at"), URL: n.s.URL() + "/account"}, err
}

// ownerLess is what owners are told of one who is one no more, or cannot act as one.
func (n notice) ownerLess(ctx context.Context) (any, error) {
	who, err := n.person("who")
	if err != nil {
		return nil, err
	}
	d := mail.OwnershipData{Organisation: n.organisation, Suspended: n.ids["suspended"] != "", When: n.when("at"), URL: n.s.URL() + "/account"}
	if d.Person, _, err = n.profile(ctx, who); err == nil {
		d.By, err = n.actor(ctx, n.ids["by"])
	}
	return d, err
}

func (n notice) deleted(ctx context.Context) (any, error) {
	d := mail.OrganisationDeletedData{Organisation: n.organisation, When: n.when("at"), Gone: n.when("gone")}
	var err error
	if d.By, err = n.actor(ctx, n.ids["by"]); err == nil && n.ids["asked"] != "" {
		d.Asked, err = n.actor(ctx, n.ids["asked"])
	}
	return d, err
}

func (n notice) deletion(ctx context.Context, t mail.Template) (any, error) {
	by := ""
	if n.ids["by"] != "" {
		var err error
		if by, err = n.actor(ctx, n.ids["by"]); err != nil {
			return nil, err
		}
	}
	if t == mail.DeletionEnded {
		return mail.DeletionEndedData{Organisation: n.organisation, By: by, When: n.when("at")}, nil
	}
	return mail.DeletionAskedData{Organisation: n.organisation, By: by, When: n.when("at"), Lapses: n.when("lapses"), URL: n.s.URL() + "/docs#confirm-deletion"}, nil
}

func (n notice) kms(ctx context.Context) (any, error) {
	by, err := n.actor(ctx, n.ids["by"])
	return mail.KMSChangedData{Organisation: n.organisation, What: kmsWords(n.ids["what"]), By: by, When: n.when("at"), URL: n.s.URL() + "/docs#get-kms"}, err
}

func (n notice) connection(ctx context.Context) (any, error) {
	id, err := sso.ParseID(n.ids["connection"])
	if err != nil {
		return nil, fmt.Errorf("server.resolve: %w", err)
	}
	conn, err := n.s.SSO.Get(ctx, n.c, id)
	if err != nil {
		return nil, err
	}
	by, err := n.actor(ctx, conn.ConfiguredBy)
	return mail.SSOConfigurerLeftData{Organisation: n.organisation, Connection: conn.Name, Person: by, When: n.when("at"), URL: n.s.URL() + "/docs#list-connections"}, err
}

func (n notice) glass(ctx context.Context, t mail.Template) (any, error) {
	if t == mail.GlassReview && n.ids["use"] == "" {
		uses, err := strconv.Atoi(n.ids["uses"])
		if err != nil {
			return nil, fmt.Errorf("server.resolve: %w", err)
		}
		return mail.GlassReviewData{Organisation: n.organisation, Week: n.ids["week"], Uses: uses, URL: n.s.URL() + "/docs#list-break-glass-weeks"}, nil
	}
	id, err := policy.ParseUseID(n.ids["use"])
	if err != nil {
		return nil, fmt.Errorf("server.resolve: %w", err)
	}
	u, err := n.s.Glass.Get(ctx, n.c, id)
	if err != nil {
		return nil, err
	}
	who, err := n.opener(ctx, u)
	if err != nil {
		return nil, err
	}
	if t == mail.GlassReview {
		return mail.GlassReviewData{Organisation: n.organisation, Person: who, When: u.ClosedAt.UTC().Format(time.RFC1123), URL: n.s.URL() + "/docs#list-break-glass"}, nil
	}
	return n.glassData(ctx, u, who)
}

// opener is who opened the glass.
func (n notice) opener(ctx context.Context, u policy.Use) (string, error) {
	if u.Operator != "" {
		return "the operator " + u.Operator, nil
	}
	name, _, err := n.profile(ctx, u.Person)
	return name, err
}

func (n notice) glassData(ctx context.Context, u policy.Use, who string) (any, error) {
	d := mail.GlassData{
		Organisation: n.organisation, Person: who, Capabilities: u.Capabilities, Reason: u.Reason, When: u.AskedAt.UTC().Format(time.RFC1123), URL: n.s.URL() + "/docs#list-break-glass",
	}
	if u.OpenedAt.IsZero() {
		if u.Approval == policy.ByDelay {
			d.Opens = u.DueAt.UTC().Format(time.RFC1123)
		}
		return d, nil
	}
	d.When, d.Until = u.OpenedAt.UTC().Format(time.RFC1123), u.ExpiresAt.UTC().Format(time.RFC1123)
	switch u.DecidedBy {
	case "":
	case "external":
		d.By = "your approval system"
	default:
		var err error
		if d.By, err = n.actor(ctx, "person:"+u.DecidedBy); err != nil {
			return nil, err
		}
	}
	return d, nil
}
