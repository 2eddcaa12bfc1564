package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// operate runs fn on the rooms of the installation that the environment names, as it does for servers. There are no flags
// for that: half of what they would take is secret.
func operate(ctx context.Context, g *globals, fn func(*server.Server) error) error {
	cfg, err := environment()
	if err != nil {
		return err
	}
	s, err := server.Operate(ctx, cfg, logger(g.Err, g.JSON))
	if err != nil {
		return &exit{exitLacks, err}
	}
	defer s.Close()
	return fn(s)
}

func (g *globals) done(v any, words string) error {
	if g.JSON {
		return encode(g.Out, v)
	}
	_, err := fmt.Fprintln(g.Out, words)
	return err
}

// environment is how servers are set up here, by the variables of `avouch serve`.
func environment() (cfg server.Config, err error) {
	parser, err := kong.New(&cfg)
	if err == nil {
		_, err = parser.Parse(nil)
	}
	if err != nil {
		return cfg, lacks("the environment of the servers: %w", err)
	}
	cfg.Version = thisBuild().Version
	return cfg, nil
}

// operatorOnly begins the long text of a command that works on the database.
const operatorOnly = "For the operator, with the environment of the servers (AVOUCH_DATABASE_URL and the rest of `avouch serve --help`)."

// orgsSuspend is `avouch organisations suspend`.
type orgsSuspend struct {
	operatorName `embed:""`
	Tenant       string `arg:"" name:"tenant-id" help:"Whom."`
	Reason       string `required:"" help:"Why: the organisation reads it in its log."`
}

// Help is the long text.
func (*orgsSuspend) Help() string {
	return operatorOnly + " When it returns, the organisation's keys authenticate nobody and its agents are verified by nobody, on every server."
}

// Run suspends an organisation.
func (c *orgsSuspend) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		if err := s.Org.Suspend(ctx, by, c.Reason); err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{"tenant_id": c.Tenant, "status": "suspended"}, "The organisation is suspended.")
	})
}

// orgsResume is `avouch organisations resume`.
type orgsResume struct {
	operatorName `embed:""`
	Tenant       string `arg:"" name:"tenant-id" help:"Whom."`
	Reason       string `required:"" help:"Why: the organisation reads it in its log."`
}

// Help is the long text.
func (*orgsResume) Help() string {
	return operatorOnly + " Undoes a suspension."
}

// Run resumes an organisation.
func (c *orgsResume) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		if err := s.Org.Resume(ctx, by, c.Reason); err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{"tenant_id": c.Tenant, "status": "active"}, "The organisation works again.")
	})
}

// keyringRenew is `avouch keyring renew`.
type keyringRenew struct {
	operatorName `embed:""`
	Tenant       string `arg:"" name:"tenant-id" help:"Whose."`
}

// Help is the long text.
func (*keyringRenew) Help() string {
	return operatorOnly + " Keys go on working: the digest of each is made anew at its next use, and the risk report lists those that were not used since."
}

// Run renews the secret.
func (c *keyringRenew) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		version, err := s.Keys.RenewSecret(ctx, by)
		if err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{"tenant_id": c.Tenant, "version": version},
			fmt.Sprintf("Keys are digested with version %d of the organisation's secret from now on, each from its next use.", version))
	})
}

// keyringShred is `avouch keyring shred`.
type keyringShred struct {
	operatorName `embed:""`
	Tenant       string `arg:"" name:"tenant-id" help:"Whose."`
	Yes          bool   `required:"" help:"Yes, for good."`
}

// Help is the long text.
func (*keyringShred) Help() string {
	return operatorOnly + ` When it returns, no API key of the organisation works, on any server, and none will in a database that is restored from before. "avouch organisations key" makes a new first key.`
}

// Run shreds the secret.
func (c *keyringShred) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		revoked, err := s.Keys.Shred(ctx, by)
		if err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{"tenant_id": c.Tenant, "revoked": revoked, "status": "shredded"},
			plural(revoked, "key is", "keys are")+" revoked, and the secret that such were digested with is destroyed.")
	})
}

// orgsKey is `avouch organisations key`.
type orgsKey struct {
	Tenant       string `arg:"" name:"tenant-id" help:"Whose."`
	disclosure   `embed:""`
	operatorName `embed:""`
	Name         string `default:"made by the operator" help:"What people call it."`
}

// Help is the long text.
func (*orgsKey) Help() string {
	return operatorOnly + " Makes an owner key for an organisation that has lost all of its own. It is shown once, lasts 90 days, and is in the organisation's log. The key opens all that the organisation has, so the glass must be broken first: avouch break-glass open."
}

// Run makes an owner key.
func (c *orgsKey) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		if err := mayOpen(ctx, s, by); err != nil {
			return err
		}
		return c.made(g, shownOnce{"key", "key", keyUse}, func() (client.Answer, error) {
			made, err := s.Keys.Recover(ctx, by, c.Name)
			if err != nil {
				return client.Answer{}, refusal(err)
			}
			body, err := json.Marshal(map[string]string{"key": made.Secret.Expose(), "key_id": made.ID, "hint": made.Hint, "tenant_id": c.Tenant})
			return client.Answer{Body: body}, err
		}, func(answer client.Answer) ([]detail, error) {
			var k keyView
			err := answer.Into(&k)
			return []detail{{"key id", cell{k.KeyID, bold}}, {"looks like", cell{text: k.Hint}}}, err
		})
	})
}

// keyringRevoke is `avouch keyring revoke`.
type keyringRevoke struct {
	operatorName `embed:""`
	KID          string `arg:"" name:"kid" help:"The key's id, as /.well-known/jwks.json and the header of tokens have it."`
}

// Help is the long text.
func (*keyringRevoke) Help() string {
	return operatorOnly + " When it returns, /verify refuses every token that the key signed, on every server; another key signs from then on."
}

// Run revokes a signing key.
func (c *keyringRevoke) Run(ctx context.Context, g *globals) error {
	by, err := c.in(g, tenantdb.Platform)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		if err := s.RevokeSigningKey(ctx, by, c.KID); err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{"kid": c.KID, "status": "revoked"}, "The key is revoked: no token that it signed is good any more.")
	})
}

// refusal gives an answer of the rooms the exit code that the API's answer would have.
func refusal(err error) error {
	if errors.Is(err, keyring.ErrUnknownKey) {
		return &exit{exitFalse, errors.New("no published signing key has this id: /.well-known/jwks.json lists them")}
	}
	p := problem.Of(err)
	switch p.Kind {
	case problem.Invalid:
		return &exit{exitUsage, errors.New(p.Detail)}
	case problem.Denied, problem.Missing, problem.Conflict, problem.TenantKey:
		return &exit{exitFalse, errors.New(p.Detail)}
	}
	return &exit{exitLacks, err}
}
