package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the program, for scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"avouch": main})
}
