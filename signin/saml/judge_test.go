package saml_test

import (
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/avouch-dev/avouch/test/samlprovider"
)

// TestJudge: what the test provider signs is a signature to xmlsec1 too, which shares no code with us. Otherwise our side
// could accept a mistake of the provider that was made to fit it.
func TestJudge(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("xmlsec1")
	if err != nil {
		t.Skip("skipped: xmlsec1 is not installed (scripts/setup-tools.sh)")
	}
	for _, key := range []string{"rsa", "p256", "p384", "p521"} {
		p := newProvider(t, key)
		cert := filepath.Join(t.TempDir(), "cert.pem")
		if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		judge := func(t *testing.T, document []byte, element string) error {
			file := filepath.Join(t.TempDir(), "response.xml")
			if err := os.WriteFile(file, document, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), program, "--verify", "--trusted-pem", cert, "--enabled-reference-uris", "same-doc",
				"--id-attr:ID", samlprovider.Assertion+":Assertion", "--id-attr:ID", samlprovider.Protocol+":Response",
				"--node-xpath", "//*[local-name()='"+element+"']/*[local-name()='Signature']", file).CombinedOutput()
			t.Logf("%s", out)
			return err
		}
		for _, shape := range samlprovider.Shapes() {
			t.Run(key+"/"+shape.Name, func(t *testing.T) {
				a := genuine(p)
				a.Shape = shape
				document := samlprovider.Bytes(p.Signed(a))
				if shape.Inner {
					if err := judge(t, document, "Assertion"); err != nil {
						t.Errorf("the assertion's signature: %v", err)
					}
				}
				if shape.Response {
					if err := judge(t, document, "Response"); err != nil {
						t.Errorf("the response's signature: %v", err)
					}
				}
			})
		}
		for _, attack := range samlprovider.Corpus() {
			if attack.Name == "subject-changed" && judge(t, attack.Make(p, genuine(p)), "Assertion") == nil {
				t.Error("xmlsec1 accepts a changed subject: it judges nothing")
			}
		}
	}
}
