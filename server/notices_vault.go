package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault"
)

// vaultRequest is what owners are told of a request for an item.
func (n notice) vaultRequest(ctx context.Context) (any, error) {
	var id vault.RequestID
	if err := id.UnmarshalText([]byte(n.ids["request"])); err != nil {
		return nil, fmt.Errorf("server.resolve: request: %w", err)
	}
	q, err := n.s.Vault.Request(ctx, n.c, id)
	if err != nil {
		return nil, fmt.Errorf("server.resolve: %w", err)
	}
	item, kind, err := n.vaultItem(ctx, q.Item.String())
	if err != nil {
		return nil, err
	}
	d := mail.VaultData{
		Organisation: n.organisation, Items: []mail.VaultItem{item}, Request: q.ID.String(), What: asksFor(kind, q.Level), Seed: q.Level == vault.ForSeed,
		For: fmt.Sprintf("%d minutes", q.For/time.Minute), Reason: q.Reason, When: q.AskedAt.UTC().Format(time.RFC1123), URL: n.s.URL() + "/docs#approve-vault-request",
	}
	d.By, d.Who, err = n.vaultActor(ctx, q.By)
	return d, err
}

// asksFor says what a request is for, of an item of a kind; "" is one that is gone.
func asksFor(k vault.Kind, l vault.Level) string {
	codes, itself := "its codes", "the seed itself"
	switch k {
	case vault.Codes:
		codes, itself = "its recovery codes, one at a time", "the recovery codes themselves"
	case vault.Secret:
		codes, itself = "requests with it, in which it is not seen", "the secret itself"
	case "":
		codes, itself = "its use", "what it keeps secret"
	}
	if l == vault.ForSeed {
		return itself
	}
	return codes
}

// vaultExport is what owners are told of secrets that were taken out.
func (n notice) vaultExport(ctx context.Context) (any, error) {
	d := mail.VaultData{Organisation: n.organisation, When: n.when("at"), URL: n.s.URL() + "/docs#list-vault-uses"}
	all, err := strconv.Atoi(n.ids["items"])
	if err != nil {
		return nil, fmt.Errorf("server.resolve: items: %w", err)
	}
	for _, id := range strings.Fields(n.ids["named"]) {
		item, _, err := n.vaultItem(ctx, id)
		if err != nil {
			return nil, err
		}
		d.Items = append(d.Items, item)
	}
	d.More = max(all-len(d.Items), 0)
	d.By, d.Who, err = n.vaultActor(ctx, vault.Actor{Kind: vault.APerson, ID: n.ids["by"]})
	return d, err
}

// vaultRedirect is what owners are told of a secret that is sent elsewhere than before.
func (n notice) vaultRedirect(ctx context.Context) (any, error) {
	item, _, err := n.vaultItem(ctx, n.ids["item"])
	if err != nil {
		return nil, err
	}
	d := mail.VaultData{Organisation: n.organisation, Items: []mail.VaultItem{item}, When: n.when("at"), URL: n.s.URL() + "/docs#get-vault-item"}
	kind, id, _ := strings.Cut(n.ids["by"], ":")
	d.By, d.Who, err = n.vaultActor(ctx, vault.Actor{Kind: kind, ID: id})
	return d, err
}

// vaultActor is what people call somebody, where a sentence begins, and by what nobody else is called: whoever asks chose their name.
func (n notice) vaultActor(ctx context.Context, a vault.Actor) (by, who string, err error) {
	who = a.Kind + " " + a.ID
	switch a.Kind {
	case vault.APerson:
		var p tenantdb.PersonID
		if err := p.UnmarshalText([]byte(a.ID)); err != nil {
			return "", "", fmt.Errorf("server.resolve: %w", err)
		}
		return n.profile(ctx, p)
	case vault.AnAgent:
		id, bad := agent.ParseID(a.ID)
		if bad != nil {
			return "", "", fmt.Errorf("server.resolve: %w", bad)
		}
		one, bad := n.s.Agents.Get(ctx, n.c, id)
		by, err = "The agent "+one.Name, bad
	case vault.AKey:
		one, bad := n.s.Keys.Get(ctx, n.c, a.ID)
		by, err = "The API key "+one.Name, bad
	default:
		by = "The operator of this installation"
	}
	if problem.Is(err, problem.Missing) {
		return "The " + who, who, nil
	}
	if err != nil {
		return "", "", fmt.Errorf("server.resolve: %w", err)
	}
	return by, who, nil
}

// vaultItem is an item as owners know it, and its kind; "" if it is gone.
func (n notice) vaultItem(ctx context.Context, text string) (mail.VaultItem, vault.Kind, error) {
	id, err := vault.ParseID(text)
	if err != nil {
		return mail.VaultItem{}, "", fmt.Errorf("server.resolve: item: %w", err)
	}
	i, err := n.s.Vault.Get(ctx, n.c, id)
	if problem.Is(err, problem.Missing) { // whoever took its secret out does not keep owners from being told by deleting it
		return mail.VaultItem{Name: "an item that is gone", ID: text}, "", nil
	}
	if err != nil {
		return mail.VaultItem{}, "", fmt.Errorf("server.resolve: %w", err)
	}
	return mail.VaultItem{Name: i.About.Name, ID: text}, i.Kind, nil
}
