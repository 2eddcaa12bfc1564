package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/tenantdb"
)

const demoName = "Ada Lovelace"

// demoPassword chooses whom the demo's owner is to be. It is kept before it counts anywhere: nobody can find it later.
func demoPassword(_ context.Context, _ *server.Server, r *ready) error {
	text := strings.ToLower(rand.Text()) // 130 bits
	r.OwnerAddress, r.OwnerPassword = "ada@acme.example", strings.Join([]string{text[:5], text[5:10], text[10:15], text[15:20]}, "-")
	return nil
}

// demoPerson lets an owner join as people do, by the link of a mail. The second factor is left to whoever signs in first, who must
// set one up. What a start that was killed has left is taken up; an organisation that was suspended or deleted stays as it is.
func demoPerson(ctx context.Context, s *server.Server, r *ready) error {
	t, err := tenantdb.ParseTenantID(r.TenantID)
	if err != nil {
		return err
	}
	o, err := s.Org.Get(ctx, demonstrator(t))
	if err != nil || !o.SuspendedAt.IsZero() {
		return err
	}
	owners, err := s.Org.People(ctx, demonstrator(t), org.Filter{Role: org.RoleOwner}, org.PersonID{}, 100)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(owners, func(p org.Person) bool { return p.Address == r.OwnerAddress }); i >= 0 {
		r.OwnerID = owners[i].ID.String()
		return nil
	}
	if _, _, err := inviteOwner(ctx, s, demonstrator(t), r.OwnerAddress, demoName); err != nil { // again, if a mail was lost with the program
		return err
	}
	link, err := linkTo(ctx, s, r.OwnerAddress)
	if err != nil {
		return err
	}
	as := signin.Request{Program: "avouch dev", Meta: web.RequestMeta{ID: web.RequestID(id.New[signin.Request]()), Address: netip.IPv6Loopback(), Start: time.Now()}}
	joined, err := s.SignIn.Join(ctx, as, signin.Joined{Link: link, Name: demoName, Password: secret.Text(r.OwnerPassword)})
	if err == nil {
		r.OwnerID = joined.Person.String()
	}
	return err
}

var mailedLink = regexp.MustCompile(`#link=(avl_[a-z2-7]+)`)

// linkTo waits for the mail to an address that has a link, the newest.
func linkTo(ctx context.Context, s *server.Server, address string) (secret.String, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		for _, m := range s.Inbox().Messages() {
			if found := mailedLink.FindStringSubmatch(m.Text); m.To == address && found != nil {
				return secret.Text(found[1]), nil
			}
		}
		select {
		case <-ctx.Done():
			return secret.String{}, errors.New("the mail with the invitation was not caught: the jobs of the server do not run")
		case <-time.After(20 * time.Millisecond):
		}
	}
}
