package saml

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"time"

	"github.com/beevik/etree"
	library "github.com/crewjam/saml"

	"github.com/avouch-dev/avouch/internal/problem"
)

const maxMetadata = 1 << 20

// Found is what a provider's metadata says that a connection needs.
type Found struct {
	Settings Settings // SSOURL is the HTTP-Redirect address, the only binding that requests are sent by
	POST     string   // the HTTP-POST address, for whoever looks why there is no other
	// WantsSigned says that the provider refuses requests without a signature. Ours have none.
	WantsSigned bool
	Formats     []string
	ValidUntil  time.Time // zero if it does not say
}

// ParseMetadata reads a provider's metadata. If the document describes several, entityID chooses; otherwise it may be
// empty. A signature in it is not looked at: whoever hands it over (an administrator, or TLS) is what is believed.
func ParseMetadata(raw []byte, entityID string, now time.Time) (Found, error) {
	d, err := descriptor(raw, entityID)
	if err != nil {
		return Found{}, fmt.Errorf("saml.ParseMetadata: %w", err)
	}
	f := Found{Settings: Settings{EntityID: d.EntityID}, ValidUntil: d.ValidUntil}
	role := d.IDPSSODescriptors[0]
	if role.ValidUntil != nil && (f.ValidUntil.IsZero() || role.ValidUntil.Before(f.ValidUntil)) {
		f.ValidUntil = *role.ValidUntil
	}
	if !f.ValidUntil.IsZero() && !now.Before(f.ValidUntil) {
		return Found{}, unreadable("It is not valid any more: fetch it again from the provider.")
	}
	f.WantsSigned = role.WantAuthnRequestsSigned != nil && *role.WantAuthnRequestsSigned
	for _, s := range role.SingleSignOnServices {
		switch {
		case s.Binding == library.HTTPRedirectBinding && f.Settings.SSOURL == "":
			f.Settings.SSOURL = s.Location
		case s.Binding == library.HTTPPostBinding && f.POST == "":
			f.POST = s.Location
		}
	}
	if f.Settings.SSOURL == "" {
		return Found{}, unreadable("It names no address for sign-in by the HTTP-Redirect binding.")
	}
	for _, format := range role.NameIDFormats {
		f.Formats = append(f.Formats, string(format))
	}
	seen := map[string]bool{}
	for _, key := range role.KeyDescriptors {
		if key.Use != "" && key.Use != "signing" {
			continue
		}
		for _, c := range key.KeyInfo.X509Data.X509Certificates {
			if !seen[c.Data] {
				f.Settings.Certificates = append(f.Settings.Certificates, c.Data)
			}
			seen[c.Data] = true
		}
	}
	if _, err := f.Settings.Provider(); err != nil {
		return Found{}, fmt.Errorf("saml.ParseMetadata: %w", err)
	}
	return f, nil
}

func unreadable(why string) error {
	return problem.New(problem.Invalid, "The metadata of the identity provider cannot be used. %s", why)
}

// descriptor is the one provider that the document describes, or the one asked for.
func descriptor(raw []byte, entityID string) (library.EntityDescriptor, error) {
	root, err := read(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")), maxMetadata, true) // Entra begins its metadata with a byte order mark
	if err != nil {
		reason, _ := Why(err)
		return library.EntityDescriptor{}, unreadable("It is refused: " + string(reason) + ".")
	}
	if err := sound(root); err != nil {
		reason, _ := Why(err)
		return library.EntityDescriptor{}, unreadable("It is refused: " + string(reason) + ".")
	}
	found, err := entities(root, entityID)
	if err != nil {
		return library.EntityDescriptor{}, err
	}
	if len(found) != 1 {
		return library.EntityDescriptor{}, unreadable(fmt.Sprintf("It describes %d identity providers: say which by its entity id.", len(found)))
	}
	return found[0], nil
}

// entities reads the descriptors of providers, each alone: so nothing of one can be taken for another's.
func entities(root *etree.Element, entityID string) ([]library.EntityDescriptor, error) {
	var found []library.EntityDescriptor
	err := walk(root, func(el *etree.Element) error {
		if !is(el, nsMetadata, "EntityDescriptor") || entityID != "" && attribute(el, "entityID") != entityID || only(el, nsMetadata, "IDPSSODescriptor") == nil {
			return nil
		}
		if parent := el.Parent(); el != root && !is(parent, nsMetadata, "EntitiesDescriptor") {
			return unreadable("An entity is where none belongs.")
		}
		doc := etree.NewDocument()
		doc.SetRoot(detached(el))
		text, err := doc.WriteToBytes()
		if err != nil {
			return unreadable("It cannot be written again.")
		}
		var d library.EntityDescriptor
		if err := xml.Unmarshal(text, &d); err != nil || len(d.IDPSSODescriptors) != 1 {
			return unreadable("It is not metadata as SAML 2.0 defines it.")
		}
		found = append(found, d)
		return nil
	})
	return found, err
}
