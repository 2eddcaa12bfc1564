package session

import (
	"flag"
	"os"
	"testing"
)

// TestMain makes a run of rapid shorter than its default, since each step is several commits: -rapid.checks says otherwise.
func TestMain(m *testing.M) {
	checks := "30"
	if os.Getenv("AVOUCH_SOAK") == "1" {
		checks = "500"
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
