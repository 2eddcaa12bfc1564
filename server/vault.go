package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/outbound"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
	"github.com/avouch-dev/avouch/vault"
	"github.com/avouch-dev/avouch/vault/fetch"
)

// openVault makes the vault, after the rooms that prove who asks.
func (s *Server) openVault() error {
	fetcher, err := s.cfg.fetcher(outbound.Config{})
	if err != nil {
		return err
	}
	s.Vault = vault.New(vault.Config{
		DB: s.DB, Ring: s.Ring, People: s.Org, Names: s.Org.Names, Fetch: fetcher, Agents: s.agentAtVault, Authenticate: s.authenticateAs, OnlyWay: s.onlyWay, Raise: s.raise, Now: s.now,
	})
	return nil
}

// fetcher sends secrets to hosts that an organisation chooses, and where an agent of its then reads the answer. So what AVOUCH_OUTBOUND_NETWORKS
// opens to requests that the server itself makes is not open to it.
func (c *Config) fetcher(by outbound.Config) (_ *fetch.Fetcher, err error) {
	if by.Networks, err = prefixes(c.VaultNetworks); err != nil {
		return nil, fmt.Errorf("%w: AVOUCH_VAULT_NETWORKS: %w", ErrConfig, err)
	}
	by.CAFile = c.OutboundCAFile
	f, err := fetch.New(fetch.Config{Outbound: by})
	if err != nil {
		return nil, fmt.Errorf("%w: AVOUCH_OUTBOUND_CA_FILE: %w", ErrConfig, err)
	}
	return f, nil
}

// agentAtVault proves an agent by its token, from what verifications remember.
func (s *Server) agentAtVault(ctx context.Context, token string, meta web.RequestMeta, again bool) (tenantdb.Caller, tenantdb.Head, []tenantdb.Spend, error) {
	at, err := s.Verify.Agent(ctx, token, again)
	if err != nil {
		return tenantdb.Caller{}, tenantdb.Head{}, nil, err
	}
	return tenantdb.NewCaller(tenantdb.CallerSpec{
		Tenant: at.Head.Tenant, Actor: audit.Actor{Kind: audit.ActorAgent, ID: at.Agent.String()}, How: "agent-token",
		Scopes: agent.Capabilities(at.Scopes), RequestID: audit.RequestID(meta.ID), CallerRequestID: meta.CallerRequestID, Address: meta.Address,
		Token: at.Token.String(),
	}), at.Head, at.Spends, nil
}

// authenticateAs is both gates of an operation that asks for itself who calls it.
func (s *Server) authenticateAs(r *http.Request, meta web.RequestMeta, operation string) (tenantdb.Caller, error) {
	c, err := s.authenticate(r, meta)
	if err == nil {
		err = s.Keys.Admit(r.Context(), c, operation)
	}
	return c, err
}

// onlyWay is for the vault: what the only owner signs in by, if that is authenticator apps alone.
func (s *Server) onlyWay(ctx context.Context, tx *tenantdb.ReadTx) (owner tenantdb.PersonID, marks [][]byte, err error) {
	owners, err := s.Org.Owners(ctx, tx)
	if err != nil || len(owners) != 1 {
		return owner, nil, err
	}
	marks, err = s.Factors.OnlyWay(ctx, tx, owners[0])
	return owners[0], marks, err
}

// joins is for organisations: whether somebody would grant themselves items by a group.
func (s *Server) joins(ctx context.Context, tx *tenantdb.ReadTx, g org.GroupID, p org.PersonID) (bool, error) {
	return s.Vault.Joins(ctx, tx, g.String(), p)
}

// takes is for connections: whether somebody would grant themselves items by deciding who is in a group.
func (s *Server) takes(ctx context.Context, tx *tenantdb.ReadTx, g org.GroupID) (bool, error) {
	return s.Vault.Takes(ctx, tx, g.String())
}

// gain is for connections and directories: who would grant themselves items by what these say.
func (s *Server) gain(ctx context.Context, tx *tenantdb.ReadTx, by string, g org.GroupID, people []tenantdb.PersonID) ([]tenantdb.PersonID, bool, error) {
	return s.Vault.Gain(ctx, tx, by, g.String(), people)
}

// leaves is for organisations: what those who leave a group could see of seeds stays in the reports about them.
func (s *Server) leaves(ctx context.Context, tx *tenantdb.Tx, g org.GroupID, people []org.PersonID) error {
	return s.Vault.Leave(ctx, tx, g.String(), people)
}

// locked is for factors: whether the only owner would have none but what the vault has.
func (s *Server) locked(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, marks [][]byte) (bool, error) {
	owners, err := s.Org.Owners(ctx, tx)
	if err != nil || len(owners) != 1 || owners[0] != p {
		return false, err
	}
	return s.Vault.Keeps(ctx, tx, marks)
}

// shutOut is for the organisation: whether an owner has no factor but what the vault has.
func (s *Server) shutOut(ctx context.Context, tx *tenantdb.ReadTx, owner org.PersonID) (bool, error) {
	marks, err := s.Factors.OnlyWay(ctx, tx, owner)
	if err != nil || len(marks) == 0 {
		return false, err
	}
	return s.Vault.Keeps(ctx, tx, marks)
}

// checkVaults compares the items of every organisation with the log.
func (s *Server) checkVaults(ctx context.Context) error {
	return s.forEach(ctx, "vault", func(c tenantdb.Caller) error { return errors.Join(s.Vault.Check(ctx, c), s.Vault.Forget(ctx, c)) })
}
