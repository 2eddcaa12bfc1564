package saml

import (
	"flag"
	"os"
	"testing"
)

// TestMain makes a run of rapid longer where the full counts are asked for: -rapid.checks says otherwise.
func TestMain(m *testing.M) {
	checks := "100"
	if os.Getenv("AVOUCH_SOAK") == "1" {
		checks = "10000"
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
