package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

// itemView is an item as the API shows it.
type itemView struct {
	ItemID    string          `json:"item_id"`
	Name      string          `json:"name"`
	Type      string          `json:"type"`
	Issuer    string          `json:"issuer"`
	Account   string          `json:"account"`
	Folder    string          `json:"folder"`
	Tags      []string        `json:"tags"`
	Notes     string          `json:"notes"`
	Policy    json.RawMessage `json:"policy"`
	Listed    bool            `json:"listed"`
	Granted   string          `json:"granted"`
	Manages   bool            `json:"manages"`
	Creator   string          `json:"created_by"`
	ByName    string          `json:"created_by_name"`
	CreatedAt time.Time       `json:"created_at"`
}

// may says what was granted to the reader.
func (i itemView) may() string {
	switch {
	case i.Granted == "seed":
		return "use it, and export it"
	case i.Granted != "":
		return "use it"
	}
	return "ask for it"
}

// sent reports whether the item's policy says where its secret is sent.
func (i itemView) sent() bool {
	var p policyView
	return json.Unmarshal(i.Policy, &p) == nil && p.Fetch != nil
}

// policyView is an item's policy.
type policyView struct {
	Approval bool       `json:"approval"`
	Hours    *hoursView `json:"hours"`
	CIDRs    []string   `json:"allowed_cidrs"`
	Uses     string     `json:"uses"`
	Fetch    *struct {
		Hosts   []string `json:"hosts"`
		Methods []string `json:"methods"`
		Paths   []string `json:"paths"`
		Header  string   `json:"header"`
		Value   string   `json:"value"`
		Reduce  struct {
			Status   bool     `json:"status"`
			Pointers []string `json:"pointers"`
		} `json:"reduce"`
	} `json:"fetch"`
}

type hoursView struct {
	Days []int  `json:"days,omitempty"`
	From string `json:"from"`
	To   string `json:"to"`
	Zone string `json:"zone"`
}

func weekdays() []string { return []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} }

// String is the hours as parseHours reads them.
func (h *hoursView) String() string {
	days := make([]string, len(h.Days))
	for k, d := range h.Days {
		if days[k] = "?"; d >= 1 && d <= 7 {
			days[k] = weekdays()[d-1]
		}
	}
	return strings.TrimSpace(strings.Join(days, ",") + " " + h.From + "-" + h.To + " " + h.Zone)
}

func (p *policyView) details() []detail {
	approval, uses, fetch, how, answers := "", "", "", "", ""
	if p.Approval {
		approval = "a second person must approve, and lends it for a time"
	}
	hours := ""
	if p.Hours != nil {
		hours = p.Hours.String()
	}
	switch p.Uses {
	case "once":
		uses = "each code once, to whoever comes first"
	case "once_each":
		uses = "each code once to each who asks"
	}
	if f := p.Fetch; f != nil {
		methods, paths := words(f.Methods, "GET HEAD"), words(f.Paths, "every path")
		fetch = methods + " at " + strings.Join(f.Hosts, " ") + ", " + paths
		how = f.Header + ": " + f.Value
		if answers = strings.Join(f.Reduce.Pointers, " "); answers != "" {
			answers = "at most what is at " + answers
		} else if f.Reduce.Status {
			answers = "the status alone"
		}
	}
	return []detail{
		{"approval", cell{text: approval}}, {"hours", cell{text: hours}}, {"from", cell{text: strings.Join(p.CIDRs, " ")}}, {"gives", cell{text: uses}},
		{"sent to", cell{text: fetch}}, {"sent as", cell{text: how}}, {"answers", cell{text: answers}},
	}
}

func (i itemView) details(now time.Time) ([]detail, error) {
	var p policyView
	if len(i.Policy) > 0 {
		if err := (client.Answer{Body: i.Policy}).Into(&p); err != nil {
			return nil, err
		}
	}
	manages, listed := "", ""
	if i.Manages {
		manages = "you"
	}
	if i.Listed {
		listed = "to every member, who may ask for it"
	}
	all := []detail{
		{"item", cell{i.ItemID, bold}}, {"name", cell{text: i.Name}}, {"type", cell{text: i.Type}}, {"issuer", cell{text: i.Issuer}}, {"account", cell{text: i.Account}},
		{"folder", cell{text: i.Folder}}, {"tags", cell{text: strings.Join(i.Tags, " ")}}, {"notes", cell{text: i.Notes}},
		{"you may", cell{text: i.may()}}, {"decided by", cell{text: manages}}, {"listed", cell{text: listed}},
	}
	all = append(all, p.details()...)
	return append(all, detail{"made by", cell{text: whomOf(i.Creator, i.ByName)}}, detail{"created", cell{text: instant(i.CreatedAt, now)}}), nil
}

// print shows an item to people.
func (i itemView) print(g *globals, p page) error {
	all, err := i.details(g.Now())
	if err != nil {
		return err
	}
	return writeDetails(p, "", all)
}

type vaultList struct {
	asker   `embed:""`
	listing `embed:""`
	Folder  string `placeholder:"FOLDER" help:"Only what is in this folder, or within it."`
	Tag     string `placeholder:"TAG" help:"Only what has this tag."`
	Type    string `enum:",totp,hotp,steam,codes,secret" default:"" placeholder:"TYPE" help:"Only totp, hotp, steam, codes or secret."`
	Search  string `placeholder:"TEXT" help:"Only what has this in its name, issuer or account."`
}

// Run lists items.
func (c *vaultList) Run(ctx context.Context, g *globals) error {
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	t := table{columns: []column{{name: "item"}, {name: "type"}, {name: "name", soft: true}, {name: "account", soft: true}, {name: "folder", soft: true}, {name: "tags", soft: true}, {name: "you may"}}}
	call := client.Call{Path: api("vault", "items"), Query: filters("folder", strings.Trim(c.Folder, "/"), "tag", c.Tag, "type", c.Type, "q", c.Search)}
	return asks.advise(listOf(ctx, g, asks.Client, c.Limit, call, "items", t, func(i itemView) []cell {
		account := strings.Trim(i.Issuer+" "+i.Account, " ")
		return []cell{{text: i.ItemID}, {text: i.Type}, {text: i.Name}, {text: account}, {text: i.Folder}, {text: strings.Join(i.Tags, " ")}, {text: i.may()}}
	}))
}

type vaultShow struct {
	asker `embed:""`
	Item  string `arg:"" help:"The item's id, or its name."`
}

// Run shows an item.
func (c *vaultShow) Run(ctx context.Context, g *globals) error {
	return onItem(ctx, g, &c.asker, c.Item, client.Call{}, func(p page, i itemView) error { return i.print(g, p) })
}

const hoursExample = "mon-fri 08:00-18:00 Europe/Berlin"

// parseHours reads hours of the week as people write them: "mon-fri 08:00-18:00 Europe/Berlin".
func parseHours(text string) (*hoursView, error) {
	parts := strings.Fields(text)
	if n := len(parts); n > 0 && n < 3 && strings.Contains(parts[n-1], ":") {
		return nil, fmt.Errorf("the zone is missing behind %q: write it as %q", parts[n-1], hoursExample)
	}
	if len(parts) == 2 {
		parts = append([]string{""}, parts...)
	}
	if len(parts) != 3 {
		return nil, fmt.Errorf("%q is not like %q: days if not all, from and to, and the zone", text, hoursExample)
	}
	from, to, ok := strings.Cut(parts[1], "-")
	for _, at := range []string{from, to} {
		if _, err := time.Parse("15:04", at); err != nil || !ok {
			return nil, fmt.Errorf("%q is not like 08:00-18:00: write it as %q", parts[1], hoursExample)
		}
	}
	h := &hoursView{From: from, To: to, Zone: parts[2]}
	for part := range strings.SplitSeq(parts[0], ",") {
		if parts[0] == "" {
			break
		}
		first, last, span := strings.Cut(strings.ToLower(part), "-")
		if !span {
			last = first
		}
		a, b := slices.Index(weekdays(), first), slices.Index(weekdays(), last)
		if a < 0 || b < 0 {
			return nil, fmt.Errorf("%q are no days: %s", part, strings.Join(weekdays(), ", "))
		}
		for d := a; ; d = (d + 1) % 7 {
			if !slices.Contains(h.Days, d+1) {
				h.Days = append(h.Days, d+1)
			}
			if d == b {
				break
			}
		}
	}
	slices.Sort(h.Days)
	return h, nil
}
