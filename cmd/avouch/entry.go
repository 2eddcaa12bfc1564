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
	"github.com/avouch-dev/avouch/internal/id"
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
	for _, fields := range []map[string]string{e.Private, e.Public} {
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

// line prints the entry on one line: on a terminal as much as there is room for, with times and identifiers cut short;
// elsewhere all of it.
func (e *entryView) line(p page, now time.Time) error {
	layout, name := "2006-01-02 15:04:05", func(s string) string { return s }
	if p.width > 0 {
		name = short
		if layout = "Jan 02 15:04"; e.Time.Local().Format(layout[:6]) == now.Local().Format(layout[:6]) {
			layout = "    15:04:05"
		}
	}
	when := strings.Repeat(" ", len(layout))
	if !e.Time.IsZero() {
		when = e.Time.Local().Format(layout)
	}
	result := e.result()
	parts := []cell{{fmt.Sprintf("%6d", e.Seq), faint}, {when, faint}, {fmt.Sprintf("%-20s", e.Type), bold}, {fmt.Sprintf("%-7s", result.text), result.tint}}
	if who := e.Actor; who.ID != "" {
		parts = append(parts, cell{text: "by " + who.Kind + " " + name(who.ID)})
	}
	if what := e.Target; what.ID != "" {
		parts = append(parts, cell{text: "on " + what.Kind + " " + name(what.ID)})
	}
	for _, f := range e.fields() {
		if f.value.text != "" {
			parts = append(parts, cell{f.name + "=" + quoted(name(f.value.text)), f.value.tint})
		}
	}
	if e.Request != "" {
		parts = append(parts, cell{text: "request=" + name(e.Request)})
	}
	return writeLine(p, parts)
}

// short is the end of an identifier, which tells it from others; the beginning is the time when it was made.
func short(s string) string {
	if _, err := id.Parse[entryView](s); err == nil {
		return "…" + s[24:]
	}
	return s
}

// writeLine prints texts beside one another, as far as there is room.
func writeLine(p page, parts []cell) error {
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

// details prints the entry in full, below a line that says what it was.
func (e *entryView) details(p page, indent, head string) error {
	result := e.result()
	if _, err := fmt.Fprintf(p.to, "%s  %s  %s\n", p.paint(clean(e.Type), bold), p.paint(clean(result.text), result.tint), p.paint(head, faint)); err != nil {
		return err
	}
	all := []detail{{"by", cell{text: e.Actor.String()}}, {"known by", cell{text: e.How}},
		{"through", cell{text: e.Source}}, {"on", cell{text: e.Target.String()}}}
	all = append(all, e.fields()...)
	all = append(all, detail{"rules", cell{text: e.Policy}}, detail{"request", cell{text: e.Request}}, detail{"leaf", cell{e.Leaf, faint}})
	return writeDetails(p, indent, all)
}

// quoted puts quotes around what has white space.
func quoted(s string) string {
	if s == "" || strings.ContainsAny(s, " \t\n\"") {
		return strconv.Quote(clean(s))
	}
	return s
}
