package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
)

// rateView is a rate limit as the API takes and shows it.
type rateView struct {
	Name    string `json:"name"`
	Limit   int64  `json:"limit"`
	Seconds int64  `json:"duration_seconds"`
}

func (r rateView) String() string {
	return fmt.Sprintf("%s %s in %s", r.Name, grouped(r.Limit), length(time.Duration(r.Seconds)*time.Second))
}

// meters are the flags that limit a key.
type meters struct {
	Owner    string   `aliases:"for" placeholder:"OWNER" help:"To whom you give it, in your own words: your user's id, say."`
	Uses     *int64   `placeholder:"N" help:"How often it can be used at all."`
	Rate     []string `placeholder:"NAME=N/TIME" help:"A rate limit, such as requests=100/1m. All that are given hold."`
	From     []string `placeholder:"NETWORK" help:"An address or network from where it can be used."`
	Metadata metadata `placeholder:"JSON" help:"Your own, a JSON object: what keys verify tells you with the key."`
	Begins   string   `placeholder:"WHEN" help:"From when on it can be used: a time, or a span such as 2h."`
}

func (m *meters) fill(body map[string]any, now time.Time) error {
	if m.Owner != "" {
		body["owner"] = m.Owner
	}
	if m.Metadata != nil {
		body["metadata"] = m.Metadata
	}
	if m.Uses != nil {
		body["max_uses"] = *m.Uses
	}
	if m.From != nil {
		body["allowed_cidrs"] = m.From
	}
	if m.Begins != "" {
		at, err := parseWhen(m.Begins, now, 1)
		if err != nil {
			return misused("--begins %w", err)
		}
		body["not_before"] = at.UTC().Format(time.RFC3339)
	}
	rates, err := parseRates(m.Rate)
	if rates != nil {
		body["rate_limits"] = rates
	}
	return err
}

// parseRates reads rate limits as they are typed: requests=100/1m.
func parseRates(texts []string) (rates []rateView, err error) {
	for _, text := range texts {
		name, rest, named := strings.Cut(text, "=")
		count, span, timed := strings.Cut(rest, "/")
		n, bad := strconv.ParseInt(count, 10, 64)
		d, worse := parseSpan(span)
		if !named || !timed || bad != nil || worse != nil {
			return nil, misused("--rate %s is not like requests=100/1m: a name, how many, and in what time", text)
		}
		rates = append(rates, rateView{name, n, int64(d / time.Second)})
	}
	return rates, nil
}

// mostOverlap is the longest that a server takes.
const mostOverlap = 30 * day

type keysRotate struct {
	remote     `embed:""`
	disclosure `embed:""`
	once       `embed:""`
	ID         string `arg:"" name:"key-id" help:"The key's id: not the key itself."`
	Overlap    string `placeholder:"TIME" default:"0s" help:"How long the old key goes on working, up to 30d."`
}

// Help is shown under the usage.
func (*keysRotate) Help() string {
	return `The new key can do what the old one can, and goes on where its limits are. It is shown once. Two generations work at most: the one before the old one ends now.

    avouch keys rotate 3kRlGxdIFxt --overlap 24h --secret-file gateway.key`
}

// Run replaces a key.
func (c *keysRotate) Run(ctx context.Context, g *globals) error {
	d, err := parseSpan(c.Overlap)
	if err != nil {
		return misused("--overlap %w", err)
	}
	if d > mostOverlap {
		return misused("--overlap is at most 30 days")
	}
	rotate := func() (client.Answer, error) {
		answer, err := c.do(ctx, g, client.Call{
			Method: http.MethodPost, Path: api("keys", c.ID, "rotate"), Header: c.header(), Body: map[string]any{"overlap_seconds": int64(d / time.Second)},
		})
		g.warnOfCut(answer, err)
		return answer, err
	}
	return c.made(g, shownOnce{"key", "key", "Put it where the old one is."}, rotate, func(answer client.Answer) ([]detail, error) {
		var k rotatedView
		err := answer.Into(&k)
		return k.details(g.Now()), err
	})
}

// rotatedView is a new key, and what became of those before it.
type rotatedView struct {
	keyView
	OldWorksUntil time.Time `json:"old_works_until"`
	Ended         string    `json:"ended"`
}

func (k rotatedView) details(now time.Time) []detail {
	old := cell{k.Replaces + " works no longer", warn}
	if k.OldWorksUntil.After(now) {
		old = cell{text: k.Replaces + " works until " + instant(k.OldWorksUntil, now)}
	}
	all := append(k.keyView.details(now), detail{"the old key", old})
	if k.Ended != "" {
		all = append(all, detail{"the one before", cell{k.Ended + " was revoked now: two work at most", warn}})
	}
	return all
}

// keyAnswerView is what keys/verify answers.
type keyAnswerView struct {
	Valid     bool       `json:"valid"`
	Code      string     `json:"code"`
	Reason    string     `json:"reason"`
	KeyID     string     `json:"key_id"`
	Kind      string     `json:"kind"`
	Owner     string     `json:"owner"`
	Scopes    []string   `json:"scopes"`
	Metadata  metadata   `json:"metadata"`
	Remaining *int64     `json:"remaining"`
	Rates     []rateLeft `json:"rate_limits"`
	RetryAt   *time.Time `json:"retry_at"`
	ExpiresAt *time.Time `json:"expires_at"`
	RequestID string     `json:"request_id"`
}

// rateLeft is a rate limit and what is left of it.
type rateLeft struct {
	Name      string `json:"name"`
	Of        string `json:"of"`
	Limit     int64  `json:"limit"`
	Remaining int64  `json:"remaining"`
}

func (r rateLeft) String() string {
	whose := map[string]string{"owner": ", of all keys of its owner", "maker": ", of all that came from a key which made it"}[r.Of]
	return fmt.Sprintf("%s %s of %s%s", r.Name, grouped(r.Remaining), grouped(r.Limit), whose)
}

type keysVerify struct {
	remote  `embed:""`
	Source  string   `arg:"" name:"source" help:"-, for the key on standard input, or a file that holds it."`
	Scope   []string `sep:"none" placeholder:"QUERY" help:"What it is to be good for: a scope, or a query such as 'a:read AND (b OR c)'. All that are given must hold."`
	Cost    *int64   `placeholder:"N" help:"How many uses it takes; 0 asks without counting."`
	Address string   `placeholder:"ADDRESS" help:"From where it was presented."`
}

// Help is shown under the usage.
func (*keysVerify) Help() string {
	return `Asks whether a key that your organisation gave to somebody is good. Exit code 0 means it is, 1 it is not.

    avouch keys verify - --scope documents:read < presented.key`
}

// Run verifies a key.
func (c *keysVerify) Run(ctx context.Context, g *globals) error {
	in := g.In
	if c.Source != "-" {
		f, err := os.Open(c.Source)
		if err != nil {
			return lacks("the key's file: %w", err)
		}
		defer f.Close()
		in = f
	} else if c.readsInput() {
		return misused("the key to verify and yours cannot both come from standard input")
	}
	presented, err := readSecret(in, c.Source)
	if err != nil {
		return err
	}
	body := map[string]any{"key": presented.Expose(), "scopes": orNone(c.Scope)}
	if c.Cost != nil {
		body["cost"] = *c.Cost
	}
	if c.Address != "" {
		body["address"] = c.Address
	}
	answer, err := c.do(ctx, g, client.Call{Method: http.MethodPost, Path: api("keys", "verify"), Body: body})
	if err != nil {
		return err
	}
	var v keyAnswerView
	if err := answer.Into(&v); err != nil {
		return err
	}
	if err := show(g, answer.Body, printKeyAnswer(g.Now())); err != nil {
		return err
	}
	if !v.Valid {
		return &exit{code: exitFalse}
	}
	return nil
}

func printKeyAnswer(now time.Time) func(page, keyAnswerView) error {
	return func(p page, v keyAnswerView) error {
		left := ""
		if v.Remaining != nil {
			left = grouped(*v.Remaining)
		}
		rates := make([]string, len(v.Rates))
		for i, r := range v.Rates {
			rates[i] = r.String()
		}
		details := []detail{{"answer", cell{v.Code, bold}}, {"reason", cell{text: v.Reason}}}
		if v.KeyID != "" {
			details = append(details, detail{"key id", cell{text: v.KeyID}}, detail{"kind", cell{text: v.Kind}}, detail{"owner", cell{text: v.Owner}},
				detail{"scopes", cell{text: words(v.Scopes, "none")}}, detail{"metadata", cell{text: v.Metadata.String()}}, detail{"uses left", cell{text: left}},
				detail{"rates left", cell{text: strings.Join(rates, "; ")}}, detail{"again", cell{text: instant(deref(v.RetryAt), now)}}, detail{"expires", cell{text: instant(deref(v.ExpiresAt), now)}})
		}
		return writeDetails(p, "", append(details, detail{"request", cell{text: v.RequestID}}))
	}
}

type keysRisks struct {
	remote   `embed:""`
	listing  `embed:""`
	Severity string `enum:",low,medium,high,critical" default:"" placeholder:"SEVERITY" help:"Only keys with a risk that matters at least so much: low, medium, high or critical."`
}

// Help is shown under the usage.
func (*keysRisks) Help() string {
	return `The newest key first, and of each the worst risk first. --json has with each what to do about it.`
}

// Run lists keys that need looking after.
func (c *keysRisks) Run(ctx context.Context, g *globals) error {
	type risky struct {
		keyView
		Risks []struct {
			Code     string `json:"code"`
			Severity string `json:"severity"`
			Advice   string `json:"advice"`
		} `json:"risks"`
	}
	t := table{columns: []column{{name: "key id"}, {name: "name", soft: true}, {name: "severity"}, {name: "risk"}, {name: "and"}}}
	return list(ctx, g, &c.remote, c.Limit, client.Call{Path: api("keys", "risks"), Query: filters("severity", c.Severity)}, "keys", t, func(k risky) []cell {
		others := []string{}
		for _, r := range k.Risks[1:] {
			others = append(others, r.Code)
		}
		return []cell{{text: k.KeyID}, {text: k.Name}, {text: k.Risks[0].Severity}, {text: k.Risks[0].Code}, {text: strings.Join(others, " ")}}
	})
}
