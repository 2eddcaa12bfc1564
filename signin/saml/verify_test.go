package saml_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/signin/saml"
	"github.com/avouch-dev/avouch/test/samlprovider"
)

const (
	entityID  = "https://avouch.example/sso/saml/c1"
	acs       = "https://avouch.example/sso/saml/c1/acs"
	idp       = "https://idp.example/realm"
	requestID = "_request-1"
)

func self() saml.Self { return saml.Self{EntityID: entityID, ACS: acs} }

// clock is when a test happens: the present, rounded, because the library that we compare with cannot be told another time.
var clock = sync.OnceValue(func() time.Time { return time.Now().UTC().Truncate(time.Second) })

func newProvider(t testing.TB, key string) *samlprovider.Provider {
	t.Helper()
	p, err := samlprovider.New(samlprovider.Config{EntityID: idp, Key: key, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func connection(p *samlprovider.Provider) saml.Provider {
	return saml.Provider{EntityID: idp, SSOURL: "https://idp.example/sso", Certificates: []*x509.Certificate{p.Certificate()}}
}

func genuine(p *samlprovider.Provider) samlprovider.Answer {
	return p.Answer(entityID, acs, requestID, samlprovider.Person)
}

// accept and refuse are what the tables below are read by.
func accept(t *testing.T, p saml.Provider, raw []byte, now time.Time) saml.Assertion {
	t.Helper()
	a, err := saml.Verify(self(), p, requestID, raw, now)
	if err != nil {
		t.Fatalf("a genuine response is refused: %v\n%s", err, raw)
	}
	return a
}

func refuse(t *testing.T, p saml.Provider, raw []byte, now time.Time, reason saml.Reason) {
	t.Helper()
	a, err := saml.Verify(self(), p, requestID, raw, now)
	if err == nil {
		t.Fatalf("accepted as %q, want refused: %s\n%s", a.Subject, reason, raw)
	}
	if why, ok := saml.Why(err); !ok || why != reason {
		t.Fatalf("refused: %v; want %s\n%.4000s", err, reason, raw)
	}
	if !problem.Is(err, problem.Unauthenticated) {
		t.Errorf("%v is no problem for whoever signs in", err)
	}
	if strings.Contains(problem.Of(err).Detail, "script") || strings.Contains(err.Error(), "example") {
		t.Errorf("the refusal repeats what the sender wrote: %v", err)
	}
	if fmt.Sprint(a) != fmt.Sprint(saml.Assertion{}) {
		t.Errorf("a refused response gives an assertion: %v", a)
	}
}

// TestProducts: what products in wide use send is accepted, whatever they sign and by whatever key.
func TestProducts(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"rsa", "p256", "p384", "p521"} {
		p := newProvider(t, key)
		for _, shape := range samlprovider.Shapes() {
			t.Run(key+"/"+shape.Name, func(t *testing.T) {
				t.Parallel()
				a := genuine(p)
				a.Shape = shape
				a.Attributes = []samlprovider.Attribute{{Name: "email", Values: []string{"ada@customer.example"}}, {Name: "groups", Values: []string{"Ops & <Dev>", "Ümläut"}}}
				got := accept(t, connection(p), samlprovider.Bytes(p.Signed(a)), clock())
				if got.Subject != samlprovider.Person || got.NameIDFormat != a.Format || got.ID != a.ID || got.ContextClass != a.Context {
					t.Errorf("got %+v", got)
				}
				if fmt.Sprint(got.Attributes) != "map[email:[ada@customer.example] groups:[Ops & <Dev> Ümläut]]" {
					t.Errorf("attributes %v", got.Attributes)
				}
				if !got.AuthnInstant.Equal(a.AuthnInstant) || !got.SessionEnds.Equal(a.SessionEnd) || !got.Ends.Equal(a.NotOnOrAfter.Add(time.Minute)) {
					t.Errorf("times %+v", got)
				}
			})
		}
	}
}

// TestCorpus: every attack that we know is refused, for the reason that is meant for it.
func TestCorpus(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "rsa")
	seen := map[string]bool{}
	for _, attack := range samlprovider.Corpus() {
		if seen[attack.Name] {
			t.Errorf("two attacks are called %s", attack.Name)
		}
		seen[attack.Name] = true
		t.Run(attack.Name, func(t *testing.T) {
			t.Parallel()
			refuse(t, connection(p), attack.Make(p, genuine(p)), clock(), saml.Reason(attack.Reason))
		})
	}
	for i := 1; i <= 8; i++ {
		if name := fmt.Sprintf("xsw%d", i); !seen[name] {
			t.Errorf("the corpus lacks %s", name)
		}
	}
}

// TestManyGroups: a person may be in thousands of groups, which is where the library's own copying gives up.
func TestManyGroups(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "p256")
	a := genuine(p)
	groups := make([]string, 3000)
	for i := range groups {
		groups[i] = fmt.Sprintf("group-%d", i)
	}
	a.Attributes = []samlprovider.Attribute{{Name: "groups", Values: groups}}
	for _, shape := range samlprovider.Shapes()[:3] {
		a.Shape = shape
		if got := accept(t, connection(p), samlprovider.Bytes(p.Signed(a)), clock()); len(got.Attributes["groups"]) != len(groups) {
			t.Errorf("%s: %d groups", shape.Name, len(got.Attributes["groups"]))
		}
	}
}

// TestDecode: browsers fold long fields; a field too large is not decoded.
func TestDecode(t *testing.T) {
	t.Parallel()
	if got, err := saml.Decode("PHg+\r\n PC94Pg=="); err != nil || string(got) != "<x></x>" {
		t.Errorf("%q, %v", got, err)
	}
	for field, want := range map[string]saml.Reason{"<x/>": saml.Malformed, "PHg": saml.Malformed, strings.Repeat("A", 512<<10): saml.Size} {
		if _, err := saml.Decode(field); err == nil {
			t.Errorf("%.10s is decoded", field)
		} else if why, _ := saml.Why(err); why != want {
			t.Errorf("%.10s: %v", field, err)
		}
	}
}
