package sso

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/avouch-dev/avouch/signin/saml"
	"github.com/avouch-dev/avouch/tenantdb"
)

// self is what a connection's provider calls us: another for each connection, so that no provider's assertion is for another's.
func (r *Room) self(connection ID) saml.Self {
	base := r.address("/api/v1/saml/" + connection.String())
	return saml.Self{EntityID: base + "/metadata", ACS: base + "/acs"}
}

func (r *Room) samlRequest(n Connection, fl flow, state string) (redirect, id string, err error) {
	p, err := n.Settings.SAML.Provider()
	if err != nil {
		return "", "", err
	}
	return saml.Request(r.self(n.ID), p, fl.Anew, state, r.cfg.Now())
}

// Metadata is what a provider is told of us.
func (r *Room) metadata(ctx context.Context, connection ID) ([]byte, error) {
	t, err := lookupConnection(ctx, r.cfg.DB, connection)
	if err != nil {
		return nil, err
	}
	if t.IsZero() {
		return nil, noConnection()
	}
	n, err := r.connection(ctx, t, connection)
	if err != nil {
		return nil, err
	}
	if n.Kind != KindSAML {
		return nil, noConnection()
	}
	p, err := n.Settings.SAML.Provider()
	if err != nil {
		return nil, err
	}
	return r.self(connection).Metadata(p)
}

// verifyResponse is what a response proves. Its assertion counts once, on all servers.
func (r *Room) verifyResponse(ctx context.Context, c tenantdb.Caller, n Connection, fl flow, said url.Values) (proof, error) {
	p, err := n.Settings.SAML.Provider()
	if err != nil {
		return proof{}, err
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(said.Get("SAMLResponse")), ""))
	if err != nil {
		return proof{}, refuseBecause(ReasonResponse, err)
	}
	a, err := saml.Verify(r.self(n.ID), p, fl.Request, raw, r.cfg.Now())
	if err != nil {
		return proof{}, refuseBecause(ReasonResponse, err)
	}
	sum, first := sha256.Sum256([]byte(n.ID.String()+"\x00"+a.ID)), false
	if err := r.cfg.DB.Note(ctx, c, func(tx *tenantdb.Tx) (err error) {
		first, err = spend(ctx, tx, "saml-assertion", sum[:], a.Ends.Add(skew))
		return err
	}); err != nil {
		return proof{}, err
	}
	if !first {
		return proof{}, refuse(ReasonReplay)
	}
	if a.NameIDFormat == "urn:oasis:names:tc:SAML:2.0:nameid-format:transient" {
		return proof{}, refuse(ReasonTransient)
	}
	if fl.Anew && a.AuthnInstant.Before(fl.At.Add(-skew)) {
		return proof{}, refuse(ReasonStale)
	}
	return n.Settings.SAML.proof(a), nil
}

// proof reads the attributes. A SAML provider has no word for "this address is proved": it is believed for the domains that the
// organisation proved and gave to the connection.
func (s *SAML) proof(a saml.Assertion) proof {
	first := func(name string) string {
		if v := a.Attributes[name]; name != "" && len(v) > 0 {
			return v[0]
		}
		return ""
	}
	p := proof{
		subject: s.EntityID + "\x00" + a.NameIDFormat + "\x00" + a.Subject, address: first(s.AddressAttribute), believed: true, name: first(s.NameAttribute),
		at: a.AuthnInstant, until: a.SessionEnds, strong: a.Strong,
	}
	if s.AddressAttribute == "" {
		p.address = a.Subject
	}
	if s.GroupsAttribute != "" {
		p.groups = a.Attributes[s.GroupsAttribute]
	}
	return p
}
