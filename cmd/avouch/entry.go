package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

// entryView is an entry of the log as the API shows it.
type entryView struct {
	Seq      int64             `json:"seq"`
	Leaf     string            `json:"leaf"`
	Time     time.Time         `json:"time"`
	Type     string            `json:"type"`
	Request  string            `json:"request_id"`
	Actor    pairView          `json:"actor"`
	How      string            `json:"how"`
	Source   string            `json:"source"`
	Target   pairView          `json:"target"`
	Outcome  string            `json:"outcome"`
	Decision string            `json:"decision"`
	Policy   string            `json:"policy"`
	Public   map[string]string `json:"public"`
	Private  map[string]string `json:"private"`
	State    string            `json:"private_state"`
	Fault    string            `json:"fault"`
}

// pairView is a kind and an identifier.
type pairView struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// String is the pair for people.
func (p pairView) String() string { return strings.TrimSpace(p.Kind + " " + p.ID) }

func readEntry(raw json.RawMessage) (e entryView, err error) {
	return e, client.Answer{Body: raw}.Into(&e)
}

// result is the decision, or else the outcome.
func (e *entryView) result() cell {
	if e.Decision != "" {
		return state(e.Decision)
	}
	if e.Outcome == "done" {
		return cell{e.Outcome, plain}
	}
	return state(e.Outcome)
}

// fields are what the entry says beside its frame, by name, private ones among them.
func (e *entryView) fields() []detail {
	all := []detail{}
	for _, fields := range []map[string]string{e.Public, e.Private} {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			all = append(all, detail{name, cell{text: fields[name]}})
		}
	}
	switch e.State {
	case "erased":
		all = append(all, detail{"private", cell{"erased", faint}})
	case "unreadable":
		all = append(all, detail{"private", cell{"cannot be opened", bad}})
	}
	if e.Fault != "" {
		all = append(all, detail{"FAULT", cell{e.Fault, bad}})
	}
	return all
}

// line prints the entry on one line.
func (e *entryView) line(p page) error {
	when := ""
	if !e.Time.IsZero() {
		when = e.Time.Local().Format("2006-01-02 15:04:05")
	}
	parts := []cell{{fmt.Sprintf("%6d", e.Seq), faint}, {fmt.Sprintf("%19s", when), plain}, {fmt.Sprintf("%-22s", e.Type), bold}}
	result := e.result()
	parts = append(parts, cell{fmt.Sprintf("%-7s", result.text), result.tint})
	if who := e.Actor.String(); who != "" {
		parts = append(parts, cell{text: "by " + who})
	}
	if what := e.Target.String(); what != "" {
		parts = append(parts, cell{text: "on " + what})
	}
	for _, f := range e.fields() {
		parts = append(parts, cell{f.name + "=" + quoted(f.value.text), f.value.tint})
	}
	var b strings.Builder
	left := p.width
	for i, part := range parts {
		text := clean(part.text)
		if p.width > 0 {
			text = cut(text, max(left, 0))
		}
		left -= columns(text) + len(gap)
		if i > 0 && text != "" {
			b.WriteString(gap)
		}
		b.WriteString(p.paint(text, part.tint))
	}
	_, err := fmt.Fprintln(p.to, strings.TrimRight(b.String(), " "))
	return err
}

// quoted puts quotes around what has white space.
func quoted(s string) string {
	if s == "" || strings.ContainsAny(s, " \t\n\"") {
		return strconv.Quote(clean(s))
	}
	return s
}
