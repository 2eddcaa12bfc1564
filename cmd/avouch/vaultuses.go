package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/problem"
)

// useView is a use as the API shows it.
type useView struct {
	Seq  int64             `json:"seq"`
	At   time.Time         `json:"at"`
	Item string            `json:"item_id"`
	Name string            `json:"item_name"`
	What string            `json:"what"`
	Kind string            `json:"kind"`
	By   string            `json:"by"`
	Who  string            `json:"by_name"`
	How  string            `json:"how"`
	More map[string]string `json:"more"`
}

func (v useView) when() string { return v.At.Local().Format("2006-01-02 15:04:05") }

// did says what was done.
func (v useView) did() string {
	switch v.What {
	case "vault.code_given":
		return "got a code"
	case "vault.secret_used":
		return strings.TrimSpace("sent " + v.More["method"] + " to " + v.More["to"])
	case "vault.secret_answered":
		if v.More["failed"] != "" {
			return "got no answer: " + v.More["failed"]
		}
		return "got an answer: " + v.More["status"]
	case "vault.exported":
		return strings.TrimSpace("took the secret out, " + v.More["protection"] + ": " + v.More["reason"])
	}
	return v.What
}

// row is a use in a table.
func (v useView) row(now time.Time) []cell {
	return []cell{{text: v.when()}, {text: ago(v.At, now)}, {text: whom(v.Kind, v.By, v.Who)}, {text: v.did()}, {text: v.More["address"]}, {text: fmt.Sprint(v.Seq)}}
}

func usesTable() table {
	return table{columns: []column{{name: "when"}, {name: "ago"}, {name: "who", soft: true}, {name: "what", soft: true}, {name: "from"}, {name: "entry", right: true}}}
}

type vaultUses struct {
	asker   `embed:""`
	listing `embed:""`
	Item    string `arg:"" help:"The item's id, or its name. One that was deleted has its id alone."`
	Days    int    `default:"7" placeholder:"N" help:"How far back."`
}

// Help is shown under the usage.
func (*vaultUses) Help() string {
	return `From the log, the newest first; that it was read is in the log too. For who decides about the item, and who may read the log (audit:read). Who may not see items names one by its id, which the log has: avouch audit tail --long --type "vault.*".`
}

// Run lists who used an item.
func (c *vaultUses) Run(ctx context.Context, g *globals) error {
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	id, err := asks.find(ctx, c.Item)
	var p *client.Problem
	if errors.As(err, &p) && p.Kind == problem.Denied && strings.Contains(p.Detail, "vault:read") && !g.JSON { // an auditor's
		return &advised{err, `Name the item by its id, which the log has: avouch audit tail --long --type "vault.*".`}
	}
	if err != nil {
		return err
	}
	t, n := usesTable(), 0
	for before := ""; ; {
		size := 500
		if c.Limit > 0 {
			size = min(size, c.Limit-n)
		}
		answer, err := asks.do(ctx, client.Call{Path: vaultItem(id, "uses"), Query: filters("days", fmt.Sprint(c.Days), "limit", fmt.Sprint(size), "before", before)})
		if err != nil {
			return err
		}
		var v struct {
			Uses []json.RawMessage `json:"uses"`
			Next *int64            `json:"next_before"`
		}
		if err := answer.Into(&v); err != nil {
			return err
		}
		for _, raw := range v.Uses {
			if err := c.add(g, &t, raw); err != nil {
				return err
			}
		}
		if n += len(v.Uses); v.Next == nil || c.Limit > 0 && n >= c.Limit {
			return c.end(g, &t, n, v.Next != nil)
		}
		before = fmt.Sprint(*v.Next)
	}
}

func (c *vaultUses) add(g *globals, t *table, raw json.RawMessage) error {
	if g.JSON {
		return printJSON(g.Out, raw)
	}
	var v useView
	if err := (client.Answer{Body: raw}).Into(&v); err != nil {
		return err
	}
	t.rows = append(t.rows, v.row(g.Now()))
	return nil
}

func (c *vaultUses) end(g *globals, t *table, n int, more bool) error {
	switch {
	case g.JSON:
		return nil
	case n == 0:
		fmt.Fprintf(g.Err, "Nobody used it in the last %s.\n", length(time.Duration(c.Days)*day))
		return nil
	}
	if err := t.write(g.page()); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(g.Err, "There may be more than these %d: --limit 0 shows all.\n", n)
	}
	return nil
}

type vaultReport struct {
	asker  `embed:""`
	Person string `arg:"" name:"member-id" help:"The person's id as a member, which GET /api/v1/members says."`
}

// Help is shown under the usage.
func (*vaultReport) Help() string {
	return `Which secrets they could see, and are to be replaced now that they leave or have left, and what they used. That it was read is in the log.`
}

// reportView is what a person knows of the vault.
type reportView struct {
	Rotate []struct {
		Item string `json:"item_id"`
		Name string `json:"name"`
		Why  string `json:"why"`
		Gone bool   `json:"gone"`
	} `json:"rotate"`
	Fetched []useView `json:"fetched"`
	More    bool      `json:"more"`
}

// Run shows what a person knows of the vault. Of an id that is nobody's it says so: nothing would be found to be replaced.
func (c *vaultReport) Run(ctx context.Context, g *globals) error {
	if err := isID("the report", c.Person, membersAt); err != nil {
		return err
	}
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	var p *client.Problem
	if _, err := asks.do(ctx, client.Call{Path: api("members", c.Person)}); err != nil && (!errors.As(err, &p) || p.Kind != problem.Denied) {
		return err
	}
	call := client.Call{Path: api("vault", "people", c.Person, "report")}
	return answers(ctx, asks, call, func(p page, v reportView) error { return v.print(g, p) })
}

func (v reportView) print(g *globals, p page) error {
	if _, err := fmt.Fprintf(p.to, "%s to be replaced, %s.\n", plural(int64(len(v.Rotate)), "secret is", "secrets are"), plural(int64(len(v.Fetched)), "use", "uses")); err != nil {
		return err
	}
	known := table{columns: []column{{name: "replace"}, {name: "name", soft: true}, {name: "because they", soft: true}}}
	for _, k := range v.Rotate {
		why := map[string]string{"made": "put it in", "seed": "could export it", "exported": "exported it"}[k.Why]
		name := cell{text: k.Name}
		if k.Gone {
			name = cell{"deleted here", faint}
		}
		known.rows = append(known.rows, []cell{{text: k.Item}, name, {text: why}})
	}
	used := table{columns: []column{{name: "when"}, {name: "ago"}, {name: "item", soft: true}, {name: "what", soft: true}, {name: "from"}, {name: "entry", right: true}}}
	for _, u := range v.Fetched {
		used.rows = append(used.rows, []cell{{text: u.when()}, {text: ago(u.At, g.Now())}, {text: cmp.Or(u.Name, u.Item)}, {text: u.did()}, {text: u.More["address"]}, {text: fmt.Sprint(u.Seq)}})
	}
	for _, t := range []table{known, used} {
		if len(t.rows) == 0 {
			continue
		}
		if err := t.write(p); err != nil {
			return err
		}
	}
	if v.More {
		fmt.Fprintln(g.Err, "There are older uses: avouch audit tail shows the log.")
	}
	return nil
}
