package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/vault"
)

type vaultCmd struct {
	List     vaultList     `cmd:"" help:"List the items that you may know of."`
	Show     vaultShow     `cmd:"" help:"Show what is known of an item: not what it keeps secret."`
	Code     vaultCode     `cmd:"" help:"Get a code, with how long it is good."`
	Use      vaultUse      `cmd:"" help:"Make an HTTP request with a secret that you do not see."`
	Add      vaultAdd      `cmd:"" help:"Put something into the vault."`
	Update   vaultUpdate   `cmd:"" help:"Change what an item is known by, and its policy."`
	Replace  vaultReplace  `cmd:"" help:"Put another secret in the place of an item's."`
	Resync   vaultResync   `cmd:"" help:"Put a counter where its device's is."`
	Delete   vaultDelete   `cmd:"" help:"Delete an item, with its secret and its grants."`
	Grant    vaultGrant    `cmd:"" help:"Let somebody use an item."`
	Grants   vaultGrants   `cmd:"" help:"List to whom an item was granted."`
	Revoke   vaultRevoke   `cmd:"" help:"End a grant."`
	Request  vaultRequest  `cmd:"" help:"Ask to use an item for a while."`
	Requests vaultRequests `cmd:"" help:"List requests: your own, and those that you decide about."`
	Approve  vaultApprove  `cmd:"" help:"Approve a request, which is not your own."`
	Refuse   vaultRefuse   `cmd:"" help:"Refuse a request."`
	Withdraw vaultWithdraw `cmd:"" help:"Take a request back, or end what it lends."`
	Uses     vaultUses     `cmd:"" help:"Who used an item, and when."`
	Report   vaultReport   `cmd:"" help:"What a person knows of the vault, before or after they leave."`
	Import   vaultImport   `cmd:"" help:"Import from another program, all of it or nothing."`
	Export   vaultExport   `cmd:"" help:"Export secrets for another program."`
}

// Help is shown under the usage.
func (*vaultCmd) Help() string {
	return `An item is named by its id, or by its name where no other that you may know of has that. Who asks is a person with AVOUCH_ACCESS_TOKEN, a key with AVOUCH_API_KEY, or an agent with AGENT_TOKEN: the first of these that is set, or what --as says. Nothing secret is an argument, and no command prints a seed.`
}

// asker is who asks, and where.
type asker struct {
	remote `embed:""`
	As     string `enum:",person,key,agent" default:"" placeholder:"WHO" help:"Ask as a person, a key or an agent, where there are credentials of several."`
}

// asking is a client of one asker.
type asking struct {
	*client.Client
	g  *globals
	as string
}

// vaultPatience is how long an answer may take: an import makes and seals thousands of items.
const vaultPatience = 150 * time.Second

// begin makes the client of whoever asks: the first who has a credential, or who --as says.
func (a *asker) begin(g *globals) (*asking, error) {
	all := append(a.holders(g), holder{as: asAgent, value: g.Getenv("AGENT_TOKEN")})
	all = slices.DeleteFunc(all, func(h holder) bool { return a.As != "" && h.as != a.As })
	who, credential, err := credentialOf(g, all)
	if err != nil {
		return nil, err
	}
	if credential.IsZero() {
		return nil, lacks("there is no credential. Put an API key into AVOUCH_API_KEY, a person's access token into AVOUCH_ACCESS_TOKEN, or an agent's into AGENT_TOKEN")
	}
	c, err := a.connect(credential, who.as, vaultPatience)
	return &asking{c, g, who.as}, err
}

// do sends one call. What the server says of its API is told in the words of this program.
func (a *asking) do(ctx context.Context, call client.Call) (client.Answer, error) {
	answer, err := a.Do(ctx, call)
	return answer, a.advise(err)
}

// sent matches what the vault's problems say of the operations that their readers are sent to.
var sent = regexp.MustCompile(`(?: (?:Ask|Ask for it|Put new ones in) with|: (?:use it|fetch one) with) (?:POST|PUT) /api/v1/vault/items/([0-9a-f-]{36})/(requests|fetch|code|secret)( and the level seed)?\.`)

// advise says what to do in commands, where the server says it in words of its API.
func (a *asking) advise(err error) error {
	var p *client.Problem
	if !errors.As(err, &p) || a.g.JSON || !p.Known {
		return err
	}
	if what := sent.FindStringSubmatch(p.Detail); what != nil {
		p.Detail = strings.TrimRight(strings.Replace(p.Detail, what[0], "", 1), ".") + "."
		command := map[string]string{"requests": "request %s --reason TEXT", "fetch": "use %s METHOD URL", "code": "code %s", "secret": "replace %s"}[what[2]]
		if what[3] != "" {
			command = "request %s --level seed --reason TEXT"
		}
		return &advised{err, "avouch vault " + fmt.Sprintf(command, what[1])}
	}
	for _, c := range advices() {
		if c.about.MatchString(p.Detail) {
			return &advised{err, c.todo}
		}
	}
	if p.Kind == problem.Denied && p.RetryAfter == 0 && !ofPeople(p) {
		return &advised{err, "Ask somebody who decides about the item, or an owner of the organisation."}
	}
	return err
}

// advice is what to do about refusals of one form. It is empty where they say it themselves.
type advice struct {
	about *regexp.Regexp
	todo  string
}

var advices = sync.OnceValue(func() (all []advice) {
	for _, pair := range [][2]string{
		{`^The item's policy has no fetch`, "Whoever decides about the item says it: avouch vault update ITEM --policy-file FILE."},
		{"`reduce\\.", "Give --status, or --pointer with what is named or below it."},
		{`lacks the scope`, "Its organisation grants scopes: avouch agents scopes AGENT-ID --add SCOPE."},
		{`requests of yours for this item wait already`, "avouch vault requests --state waiting shows them, and avouch vault withdraw takes one back."},
		{`The request (was|may have been) sent\.$`, "Look at what it did, before it is sent again."},
		{`^(Only people|This key belongs to nobody|Where a secret is sent|Whoever decides where this secret)`, ""},
	} {
		all = append(all, advice{regexp.MustCompile(pair[0]), pair[1]})
	}
	return all
})

// get asks for one item, as it is now.
func (a *asking) get(ctx context.Context, item string) (id string, answer client.Answer, err error) {
	if id, err = a.find(ctx, item); err == nil {
		answer, err = a.do(ctx, client.Call{Path: vaultItem(id)})
	}
	return id, answer, err
}

// vaultItem is the path of an item, or of something of it.
func vaultItem(id string, more ...string) []string {
	return append(api("vault", "items", id), more...)
}

// find is the id of an item that is named by it, or by a name that no other has which the asker may know of.
func (a *asking) find(ctx context.Context, item string) (string, error) {
	if _, err := vault.ParseID(item); err == nil {
		return item, nil
	}
	if a.as == asAgent {
		return "", misused("%q is no item's id. An agent names items by their ids: what they are called is not shown to it", item)
	}
	var ids []string
	for cursor := ""; ; {
		answer, err := a.do(ctx, client.Call{Path: api("vault", "items"), Query: filters("q", item, "limit", fmt.Sprint(pageSize), "cursor", cursor)})
		if err != nil {
			return "", err
		}
		var page struct {
			Items []itemView `json:"items"`
			Next  string     `json:"next_cursor"`
		}
		if err := answer.Into(&page); err != nil {
			return "", err
		}
		for _, i := range page.Items {
			if i.Name == item {
				ids = append(ids, i.ItemID)
			}
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	switch len(ids) {
	case 0:
		return "", &exit{exitFalse, fmt.Errorf("there is no item called %q among those that you may know of: avouch vault list shows them", item)}
	case 1:
		return ids[0], nil
	}
	return "", misused("%d items are called %q: name one by its id: %s", len(ids), item, strings.Join(ids, ", "))
}

// onItem sends a call about one item, and shows what it answers with.
func onItem[T any](ctx context.Context, g *globals, a *asker, item string, call client.Call, human func(page, T) error) error {
	asks, err := a.begin(g)
	if err != nil {
		return err
	}
	id, err := asks.find(ctx, item)
	if err != nil {
		return err
	}
	call.Path = vaultItem(id, call.Path...)
	return answers(ctx, asks, call, human)
}

// answers sends a call, and shows what it answers with.
func answers[T any](ctx context.Context, asks *asking, call client.Call, human func(page, T) error) error {
	answer, err := asks.do(ctx, call)
	if err != nil {
		return err
	}
	return show(asks.g, answer.Body, human)
}

type vaultDelete struct {
	asker `embed:""`
	Item  string `arg:"" help:"The item's id, or its name."`
}

// Help is shown under the usage.
func (*vaultDelete) Help() string {
	return `What it kept secret is gone for good. The log keeps who used it: avouch vault uses ITEM-ID.`
}

// Run deletes an item, as it was when it was looked up.
func (c *vaultDelete) Run(ctx context.Context, g *globals) error {
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	id, answer, err := asks.get(ctx, c.Item)
	if err != nil {
		return err
	}
	var i itemView
	if err := answer.Into(&i); err != nil {
		return err
	}
	if _, err := asks.do(ctx, client.Call{Method: http.MethodDelete, Path: vaultItem(id), Header: match(answer)}); err != nil {
		return err
	}
	if g.JSON {
		return encode(g.Out, map[string]any{"item_id": id, "deleted": true})
	}
	p := g.page()
	_, err = fmt.Fprintf(p.to, "%s: item %s (%s), with its secret and its grants.\n", p.paint("deleted", bad), id, clean(i.Name))
	return err
}

// match binds a change to what an answer showed.
func match(answer client.Answer) http.Header {
	return http.Header{"If-Match": {answer.Header.Get("ETag")}}
}
