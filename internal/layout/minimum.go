package layout

import (
	"fmt"
	"go/version"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// Minimums compares a go.mod with a list of minimum versions: lines of "module version reason...", and "go version
// reason..." for the toolchain in use. Empty lines and lines that begin with # are passed over. A listed module that the
// go.mod does not name is not in the build, and passes.
//
// It stands in for a vulnerability scanner where none can run: each line is an advisory somebody has read.
func Minimums(list, mod []byte, toolchain string) ([]Finding, error) {
	file, err := modfile.Parse("go.mod", mod, nil)
	if err != nil {
		return nil, fmt.Errorf("layout.Minimums: %w", err)
	}
	have := map[string]string{}
	for _, r := range file.Require {
		have[r.Mod.Path] = r.Mod.Version
	}
	replaced := map[string]bool{}
	for _, r := range file.Replace {
		replaced[r.Old.Path] = true
	}
	var found []Finding
	n := 0
	for line := range strings.Lines(string(list)) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if len(words) < 3 {
			return nil, fmt.Errorf("layout.Minimums: line %d: want a module, its minimum and a reason", n)
		}
		if text := below(words[0], words[1], have[words[0]], toolchain, replaced); text != "" {
			why := strings.Join(words[2:], " ")
			found = append(found, Finding{Rule: "minimum", Path: "tools/minimum-versions.txt", Line: n, Name: words[0], Text: text + ": " + why})
		}
	}
	return found, nil
}

func below(module, least, have, toolchain string, replaced map[string]bool) string {
	switch {
	case module == "go":
		// A toolchain built from a branch ("devel ...") compares below every release, which is the safe side.
		if name, _, _ := strings.Cut(toolchain, " "); version.Compare(name, "go"+least) < 0 {
			return fmt.Sprintf("%s is older than go%s", name, least)
		}
	case !semver.IsValid(least):
		return fmt.Sprintf("%s is no version", least)
	case replaced[module]:
		return "replaced, so its version says nothing"
	case have != "" && semver.Compare(have, least) < 0:
		return fmt.Sprintf("%s is below %s", have, least)
	}
	return ""
}
