// Command sbom prints a CycloneDX 1.6 bill of materials of a Go program, read from the program itself: what the linker put
// in, not what a go.mod asks for. The same binary always gives the same bytes: no time, no random serial number.
//
// Usage: go run ./sbom -version VERSION PROGRAM < graph
//
// where graph is what `go mod graph` prints, from which come the edges between the components.
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	version := flag.String("version", "", "the program's `version`, if its module has none of its own")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: sbom [-version VERSION] PROGRAM < graph")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *version, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(program, version string, graph io.Reader, out io.Writer) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read %s: %w", program, err)
	}
	edges, err := io.ReadAll(graph)
	if err != nil {
		return fmt.Errorf("read graph: %w", err)
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(bill(info, version, string(edges)))
}
