package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
)

type document struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Serial       string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref  string   `json:"ref"`
	Uses []string `json:"dependsOn"`
}

func bill(info *debug.BuildInfo, version, graph string) document {
	if info.Main.Version == "" || info.Main.Version == "(devel)" {
		info.Main.Version = cmp.Or(version, "(devel)")
	}
	d := document{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{made("application", &info.Main)}}
	d.Components = []component{made("library", &debug.Module{Path: "std", Version: info.GoVersion})}
	byPath := map[string]string{}
	for _, m := range info.Deps {
		for m.Replace != nil {
			m = m.Replace
		}
		c := made("library", m)
		byPath[m.Path] = c.Ref
		d.Components = append(d.Components, c)
	}
	slices.SortFunc(d.Components, func(a, b component) int { return strings.Compare(a.Ref, b.Ref) })
	d.Dependencies = dependencies(d.Metadata.Component, d.Components, byPath, graph)
	d.Serial = serial(d)
	return d
}

func made(kind string, m *debug.Module) component {
	purl := fmt.Sprintf("pkg:golang/%s@%s", m.Path, m.Version)
	c := component{Type: kind, Ref: purl, Name: m.Path, Version: m.Version, PURL: purl}
	if m.Sum != "" {
		// Not a CycloneDX hash: go.sum's is one of a list of files' hashes, and no tool could compare it with a file's.
		c.Properties = []property{{"go:sum", m.Sum}}
	}
	return c
}

// dependencies keeps the edges of the module graph whose both ends are in the program, at the versions chosen for it.
func dependencies(program component, parts []component, byPath map[string]string, graph string) []dependency {
	uses := map[string]map[string]bool{}
	for line := range strings.Lines(graph) {
		ends := strings.Fields(line)
		if len(ends) != 2 {
			continue
		}
		from, _, _ := strings.Cut(ends[0], "@")
		to, _, _ := strings.Cut(ends[1], "@")
		ref := byPath[from]
		if from == program.Name {
			ref = program.Ref
		}
		if ref == "" || byPath[to] == "" || ref == byPath[to] {
			continue
		}
		if uses[ref] == nil {
			uses[ref] = map[string]bool{}
		}
		uses[ref][byPath[to]] = true
	}
	all := []dependency{{program.Ref, sorted(uses[program.Ref])}}
	for _, c := range parts {
		all = append(all, dependency{c.Ref, sorted(uses[c.Ref])})
	}
	return all
}

func sorted(set map[string]bool) []string {
	return append([]string{}, slices.Sorted(maps.Keys(set))...)
}

// serial is a UUID made from the contents (version 8 of RFC 9562), so that it changes exactly when they do.
func serial(d document) string {
	body, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings and ints: it cannot fail
	}
	h := sha256.Sum256(body)
	h[6] = h[6]&0x0f | 0x80
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
