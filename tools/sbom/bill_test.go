package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

func TestBill(t *testing.T) {
	t.Parallel()
	info := func() *debug.BuildInfo {
		return &debug.BuildInfo{
			GoVersion: "go1.26.0",
			Main:      debug.Module{Path: "example.org/program", Version: "(devel)"},
			Deps: []*debug.Module{
				{Path: "example.org/b", Version: "v1.1.0", Sum: "h1:b"},
				{Path: "example.org/a", Version: "v0.1.0", Replace: &debug.Module{Path: "example.org/fork", Version: "v0.2.0"}},
			},
		}
	}
	graph := strings.Join([]string{
		"example.org/program example.org/b@v1.1.0",
		"example.org/program example.org/b@v1.0.0",
		"example.org/b@v1.1.0 example.org/fork@v0.1.0",
		"example.org/b@v1.1.0 example.org/unused@v1.0.0",
		"example.org/unused@v1.0.0 example.org/b@v1.0.0",
	}, "\n")
	d := bill(info(), "v3", graph)
	var refs []string
	for _, c := range d.Components {
		refs = append(refs, c.Ref)
	}
	want := []string{"pkg:golang/example.org/b@v1.1.0", "pkg:golang/example.org/fork@v0.2.0", "pkg:golang/std@go1.26.0"}
	if !slices.Equal(refs, want) {
		t.Errorf("components %v, want %v", refs, want)
	}
	if got := d.Metadata.Component.PURL; got != "pkg:golang/example.org/program@v3" {
		t.Errorf("program %s", got)
	}
	if got := d.Dependencies[0].Uses; !slices.Equal(got, want[:1]) {
		t.Errorf("the program uses %v", got)
	}
	if got := d.Dependencies[1].Uses; !slices.Equal(got, want[1:2]) {
		t.Errorf("b uses %v", got)
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(d.Serial) {
		t.Errorf("serial number %s", d.Serial)
	}
	if again := bill(info(), "v3", graph); again.Serial != d.Serial {
		t.Error("the same program gave another serial number")
	}
	if other := bill(info(), "v4", graph); other.Serial == d.Serial {
		t.Error("another version gave the same serial number")
	}
}

func TestRunReadsAProgram(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var one, two bytes.Buffer
	for _, out := range []*bytes.Buffer{&one, &two} {
		if err := run(self, "v1", strings.NewReader(""), out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two runs differ")
	}
	var d document
	if err := json.Unmarshal(one.Bytes(), &d); err != nil || d.Format != "CycloneDX" || len(d.Components) == 0 {
		t.Errorf("%v: %+v", err, d)
	}
	if err := run(t.TempDir(), "", strings.NewReader(""), &one); err == nil {
		t.Error("a directory is no program")
	}
}
