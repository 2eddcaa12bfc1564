package saml

import (
	"bytes"
	"crypto/x509"
	"encoding/xml"
	"flag"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	library "github.com/crewjam/saml"

	"github.com/avouch-dev/avouch/test/samlprovider"
)

var update = flag.Bool("update", false, "write testdata/nets.golden")

// nets are the parts of Verify, by the names in the golden file.
func nets() []string {
	return []string{"bytes", "names", "shape", "envelope", "form", "keys", "reading"}
}

// torn is Verify without one of its nets, as a mutant that lost it: what it still refuses, another net caught.
func torn(without string, self Self, p Provider, requestID string, raw []byte, now time.Time) (Assertion, error) {
	var root *etree.Element
	var err error
	if without == "bytes" {
		doc := etree.NewDocument()
		if err := doc.ReadFromBytes(raw); err != nil || doc.Root() == nil {
			return Assertion{}, refuse(Malformed)
		}
		root = doc.Root()
		doc.RemoveChild(root)
	} else if root, err = read(raw, maxResponse, false); err != nil {
		return Assertion{}, err
	}
	if without != "names" {
		if err := sound(root); err != nil {
			return Assertion{}, err
		}
	}
	doc := response{root: root, assertion: root.FindElement(".//Assertion")}
	if without != "shape" {
		if doc, err = shape(root); err != nil {
			return Assertion{}, err
		}
	}
	if without != "envelope" {
		if err := doc.envelope(self, p, requestID); err != nil {
			return Assertion{}, err
		}
	}
	if doc.assertion == nil {
		return Assertion{}, refuse(Assertions)
	}
	var signed *etree.Element
	switch without {
	case "form":
		signed, err = formless(doc, p, now)
	case "keys":
		signed = doc.assertion
	default:
		signed, err = doc.signed(p, now)
	}
	if err != nil {
		return Assertion{}, err
	}
	r := reader{self: self, provider: p, requestID: requestID, now: now}
	err = r.read(signed)
	if without == "reading" {
		return Assertion{Subject: signed.FindElement(".//NameID").NotNil().Text()}, nil
	}
	return r.out, err
}

// formless believes whatever the library verifies.
func formless(doc response, p Provider, now time.Time) (*etree.Element, error) {
	for _, el := range []*etree.Element{doc.root, doc.assertion} {
		if signed := verifiedBy(el, p.Certificates[0], now); signed != nil {
			if el == doc.root {
				signed = signed.FindElement(".//Assertion")
			}
			return signed, nil
		}
	}
	return nil, refuse(Signature)
}

// alone is the library as it is, without us.
func alone(self Self, metadata []byte, requestID string, raw []byte) (said string) {
	defer func() {
		if r := recover(); r != nil {
			said = "panics"
		}
	}()
	var d library.EntityDescriptor
	if err := xml.Unmarshal(metadata, &d); err != nil {
		return err.Error()
	}
	u, err := url.Parse(self.ACS)
	if err != nil {
		return err.Error()
	}
	sp := library.ServiceProvider{EntityID: self.EntityID, AcsURL: *u, IDPMetadata: &d}
	a, err := sp.ParseXMLResponse(raw, []string{requestID}, *u)
	switch {
	case err != nil:
		return "refused"
	case a.Subject == nil || a.Subject.NameID == nil:
		return "accepted, nobody"
	case strings.Contains(a.Subject.NameID.Value, samlprovider.Forged):
		return "accepted, FORGED"
	}
	return "accepted"
}

// TestNets writes down which part of Verify each attack needs: "only" is the net without which it would be accepted, and
// "-" says that two or more catch it. The last column is what the library does by itself.
func TestNets(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC() // the library takes no other clock, and forgets after 90 seconds: read again for each attack
	p, err := samlprovider.New(samlprovider.Config{EntityID: "https://idp.example/realm", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	self := Self{EntityID: "https://avouch.example/sso/saml/c1", ACS: "https://avouch.example/sso/saml/c1/acs"}
	connection := Provider{EntityID: "https://idp.example/realm", SSOURL: "https://idp.example/sso", Certificates: []*x509.Certificate{p.Certificate()}}
	const requestID = "_request-1"
	genuine := samlprovider.Bytes(p.Signed(p.Answer(self.EntityID, self.ACS, requestID, samlprovider.Person)))
	if said := alone(self, p.Metadata(connection.SSOURL), requestID, genuine); said != "accepted" {
		t.Fatalf("the library does not take a genuine response: %s", said)
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "%-40s %-15s %-12s %s\n", "attack", "refused as", "only", "crewjam/saml alone")
	needed := map[string]int{}
	for _, attack := range samlprovider.Corpus() {
		now = time.Now().UTC()
		raw := attack.Make(p, p.Answer(self.EntityID, self.ACS, requestID, samlprovider.Person))
		var only []string
		for _, net := range nets() {
			if a, err := torn(net, self, connection, requestID, raw, now); err == nil {
				needed[net]++
				if strings.Contains(a.Subject, samlprovider.Forged) {
					net += "!"
				}
				only = append(only, net)
			}
		}
		if a, err := torn("", self, connection, requestID, raw, now); err == nil {
			t.Errorf("%s is accepted as %q with all nets", attack.Name, a.Subject)
		}
		if only == nil {
			only = []string{"-"}
		}
		fmt.Fprintf(&table, "%-40s %-15s %-12s %s\n", attack.Name, attack.Reason, strings.Join(only, " "), alone(self, p.Metadata(connection.SSOURL), requestID, raw))
	}
	for _, net := range nets() {
		if needed[net] == 0 {
			t.Errorf("no attack of the corpus needs the net %q: it could be lost unseen", net)
		}
	}
	const golden = "testdata/nets.golden"
	if *update {
		if err := os.WriteFile(golden, table.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(strings.Split(table.String(), "\n"), strings.Split(string(want), "\n")) {
		t.Errorf("which net catches what has changed; look at the difference, then go test ./signin/saml -run TestNets -update:\n%s", table.String())
	}
}
