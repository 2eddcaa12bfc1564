package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/secret"
)

type verifyCmd struct {
	remote   `embed:""`
	Token    string   `arg:"" name:"source" optional:"" help:"Nothing, for the token in AGENT_TOKEN, or -, for standard input."`
	Resource string   `placeholder:"NAME" help:"What the agent wants to use: the name that tokens are bound to."`
	Scope    []string `placeholder:"SCOPE" help:"What it wants to do; repeat it or separate by commas. None asks only who the agent is."`
}

// Help is shown under the usage.
func (*verifyCmd) Help() string {
	return `Exit code 0 means allowed, 1 not allowed. The decision is in the log before it is printed.

    AGENT_TOKEN=... avouch verify --resource mail.example --scope read:email
    avouch verify - --resource mail.example --scope read:email < token`
}

// answerView is what /verify answers.
type answerView struct {
	Allowed  bool   `json:"allowed"`
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
	Agent    *struct {
		DID     string   `json:"did"`
		AgentID string   `json:"agent_id"`
		Name    string   `json:"name"`
		Owner   string   `json:"owner"`
		Scopes  []string `json:"active_scopes"`
	} `json:"agent"`
	RequestID string `json:"request_id"`
	Audit     struct {
		Log  string `json:"log"`
		Seq  int64  `json:"seq"`
		Leaf string `json:"leaf"`
	} `json:"audit"`
	Policy string `json:"policy_version"`
}

// Run verifies a token.
func (c *verifyCmd) Run(ctx context.Context, g *globals) error {
	token, err := c.token(g)
	if err != nil {
		return err
	}
	body := map[string]any{"token": token.Expose(), "target_resource": c.Resource, "scopes_requested": orNone(c.Scope)}
	answer, err := c.do(ctx, g, client.Call{Method: http.MethodPost, Path: api("verify"), Body: body})
	if err != nil {
		return err
	}
	var v answerView
	if err := answer.Into(&v); err != nil {
		return err
	}
	if err := show(g, answer.Body, printAnswer); err != nil {
		return err
	}
	if !v.Allowed {
		return &exit{code: exitFalse}
	}
	return nil
}

func (c *verifyCmd) token(g *globals) (secret.String, error) {
	switch token := strings.TrimSpace(g.Getenv("AGENT_TOKEN")); {
	case c.Token == "-" && c.readsInput():
		return secret.String{}, misused("the token and the key cannot both come from standard input")
	case c.Token == "-":
		return readSecret(g.In, "standard input")
	case c.Token != "":
		return secret.String{}, misused("a token is no argument: everybody on this machine can see arguments, and shells keep them. Put it into AGENT_TOKEN, or send it to `avouch verify -`; if the one given was real, revoke it")
	case token == "":
		return secret.String{}, lacks("there is no token to verify. Put it into the variable AGENT_TOKEN, or send it to `avouch verify -` on standard input")
	default:
		return secret.Text(token), nil
	}
}

func printAnswer(p page, v answerView) error {
	if _, err := fmt.Fprintf(p.to, "%s  %s.\n", p.paint(clean(v.Decision), state(v.Decision).tint), strings.TrimRight(clean(v.Reason), ".")); err != nil {
		return err
	}
	var all []detail
	if a := v.Agent; a != nil {
		all = []detail{
			{"agent", cell{text: a.Name}},
			{"of", cell{text: a.Owner}},
			{"agent id", cell{text: a.AgentID}},
			{"did", cell{text: a.DID}},
			{"scopes", cell{text: words(a.Scopes, "none")}},
		}
	}
	return writeDetails(p, "  ", append(all,
		detail{"recorded", cell{text: fmt.Sprintf("entry %d of log %s", v.Audit.Seq, v.Audit.Log)}},
		detail{"leaf", cell{text: v.Audit.Leaf}},
		detail{"rules", cell{text: v.Policy}},
		detail{"request", cell{text: v.RequestID}},
	))
}
