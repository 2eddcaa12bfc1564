package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// version is set by the linker: -X main.version=v1.2.3.
var version string

// build is what is known of this program.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // there was more than the commit
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version = cmp.Or(b.Version, info.Main.Version)
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	b.Version = cmp.Or(b.Version, "unknown")
	return b
}

// String is the build for people.
func (b build) String() string {
	s := "avouch " + b.Version
	if b.Commit != "" {
		s += ", commit " + b.Commit[:min(12, len(b.Commit))]
		if b.Modified {
			s += " and more"
		}
	}
	return fmt.Sprintf("%s, %s %s/%s", s, b.Go, b.OS, b.Arch)
}

type versionCmd struct{}

// Run prints the build.
func (versionCmd) Run(_ context.Context, g *globals) error {
	if !g.JSON {
		_, err := fmt.Fprintln(g.Out, thisBuild())
		return err
	}
	return encode(g.Out, thisBuild())
}

// versionFlag is --version.
type versionFlag bool

// BeforeReset prints the build and ends: no command is needed with it.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	fmt.Fprintln(app.Stdout, thisBuild())
	app.Exit(exitWell)
	return nil
}
