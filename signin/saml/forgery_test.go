package saml_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/beevik/etree"
	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/signin/saml"
	"github.com/avouch-dev/avouch/test/samlprovider"
)

// specimen is a provider, what it signed, and what that means: anything else that is accepted is a forgery.
type specimen struct {
	provider  saml.Provider
	documents [][]byte
	means     []string
}

// specimens are shared: a key and a signature for each input would be all that a search does.
var specimens = sync.OnceValues(func() (specimen, error) {
	p, err := samlprovider.New(samlprovider.Config{EntityID: idp, Key: "p256", Now: clock})
	if err != nil {
		return specimen{}, err
	}
	s := specimen{provider: connection(p)}
	for _, shape := range samlprovider.Shapes() {
		a := genuine(p)
		a.Shape = shape
		raw := samlprovider.Bytes(p.Signed(a))
		got, err := saml.Verify(self(), s.provider, requestID, raw, clock())
		if err != nil {
			return specimen{}, err
		}
		s.documents = append(s.documents, raw)
		s.means = append(s.means, meaning(got))
	}
	return s, nil
})

func meaning(a saml.Assertion) string {
	text, err := json.Marshal(a)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// TestNoTreeIsForgedSoak moves, copies, renames and rewrites parts of signed documents at random, as wrapping does and in ways
// that nobody has published: whatever is still accepted says exactly what was signed.
func TestNoTreeIsForgedSoak(t *testing.T) {
	t.Parallel()
	s, err := specimens()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, len(s.documents)-1).Draw(t, "specimen")
		doc := etree.NewDocument()
		if err := doc.ReadFromBytes(s.documents[n]); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			rearrange(t, doc)
		}
		raw, err := doc.WriteToBytes()
		if err != nil {
			return // no document
		}
		if a, err := saml.Verify(self(), s.provider, requestID, raw, clock()); err == nil && meaning(a) != s.means[n] {
			t.Fatalf("forged: %s\nsigned: %s\n%s", meaning(a), s.means[n], raw)
		}
	})
}

// rearrange is one step of an attacker who can do anything to the tree but sign.
func rearrange(t *rapid.T, doc *etree.Document) {
	all := doc.FindElements("//*")
	if len(all) == 0 {
		return
	}
	choose := func(what string) *etree.Element { return rapid.SampledFrom(all).Draw(t, what) }
	el, to := choose("element"), choose("to")
	inside := false
	for up := to; up != nil; up = up.Parent() {
		inside = inside || up == el
	}
	switch rapid.IntRange(0, 7).Draw(t, "act") {
	case 0: // move
		if !inside && el.Parent() != nil {
			el.Parent().RemoveChild(el)
			to.InsertChildAt(rapid.IntRange(0, len(to.Child)).Draw(t, "place"), el)
		}
	case 1, 2: // a forged copy, inside or beside
		evil := el.Copy()
		for _, n := range append(evil.FindElements(".//NameID"), evil.FindElements(".//AttributeValue")...) {
			n.SetText(samlprovider.Forged)
		}
		if rapid.Bool().Draw(t, "new id") && evil.SelectAttr("ID") != nil {
			evil.CreateAttr("ID", "_forged")
		}
		if sig := evil.SelectElement("Signature"); sig != nil && rapid.Bool().Draw(t, "unsigned") {
			evil.RemoveChild(sig)
		}
		to.InsertChildAt(rapid.IntRange(0, len(to.Child)).Draw(t, "place"), evil)
	case 3:
		if el.Parent() != nil && el != doc.Root() {
			el.Parent().RemoveChild(el)
		}
	case 4:
		el.SetText(samlprovider.Forged)
	case 5:
		el.CreateAttr(rapid.SampledFrom([]string{"ID", "Id", "Name", "Format", "NotOnOrAfter", "xmlns", "xmlns:saml", "Algorithm", "URI"}).Draw(t, "attribute"),
			rapid.SampledFrom([]string{"_forged", samlprovider.Assertion, samlprovider.Signature, "", "urn:x"}).Draw(t, "value"))
	case 6:
		el.Tag = rapid.SampledFrom([]string{"Assertion", "Response", "Signature", "Object", "Extensions", "NameID"}).Draw(t, "tag")
	case 7:
		el.Space = rapid.SampledFrom([]string{"", "saml", "samlp", "ds"}).Draw(t, "prefix")
	}
}

// FuzzVerify edits the bytes of signed documents: each four bytes of the program say where, how much goes, and how much of
// what follows comes in its place. What is still accepted says exactly what was signed.
func FuzzVerify(f *testing.F) {
	f.Add(uint8(0), []byte{0, 100, 1, 1, 'x'})
	f.Add(uint8(1), append([]byte{2, 0, 0, 8}, "<!-- -->"...))
	f.Add(uint8(2), append([]byte{1, 50, 3, 12}, "&#x3c;&lt;]]>"...))
	f.Add(uint8(4), append([]byte{0, 0, 0, 22}, `<!DOCTYPE x [<!ENTITY `...))
	s, err := specimens()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, which uint8, program []byte) {
		n := int(which) % len(s.documents)
		raw := bytes.Clone(s.documents[n])
		for len(program) >= 4 && len(raw) > 0 {
			at := (int(program[0])<<8 | int(program[1])) % len(raw)
			gone := min(int(program[2]), len(raw)-at)
			comes := min(int(program[3]), len(program)-4)
			raw = bytes.Join([][]byte{raw[:at], program[4 : 4+comes], raw[at+gone:]}, nil)
			program = program[4+comes:]
		}
		if a, err := saml.Verify(self(), s.provider, requestID, raw, clock()); err == nil && meaning(a) != s.means[n] {
			t.Fatalf("forged: %s\nsigned: %s\n%s", meaning(a), s.means[n], raw)
		} else if _, ok := saml.Why(err); err != nil && !ok {
			t.Fatalf("refused without a reason: %v", err)
		}
	})
}

// FuzzDocument gives anything at all to the reader: it ends in a refusal with a reason, and never in a panic.
func FuzzDocument(f *testing.F) {
	s, err := specimens()
	if err != nil {
		f.Fatal(err)
	}
	for _, d := range s.documents {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := saml.Verify(self(), s.provider, requestID, raw, clock())
		if _, ok := saml.Why(err); err != nil && !ok {
			t.Fatalf("refused without a reason: %v", err)
		}
		if err == nil && a.Subject != samlprovider.Person {
			t.Fatalf("forged: %v", a)
		}
	})
}

// FuzzMetadata: what is taken for a provider's metadata makes a connection that can be used, and can be read again.
func FuzzMetadata(f *testing.F) {
	for _, d := range descriptions() {
		f.Add([]byte(d), "")
	}
	f.Fuzz(func(t *testing.T, raw []byte, entity string) {
		found, err := saml.ParseMetadata(raw, entity, clock())
		if err != nil {
			return
		}
		if _, err := found.Settings.Provider(); err != nil {
			t.Fatalf("found settings that are not valid: %v", err)
		}
		if again, err := saml.ParseMetadata(raw, found.Settings.EntityID, clock()); err != nil || fmt.Sprint(again) != fmt.Sprint(found) {
			t.Fatalf("read again: %v, %v", again, err)
		}
	})
}
