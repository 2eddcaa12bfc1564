package org

import (
	"context"

	"github.com/avouch-dev/avouch/tenantdb"
)

// PersonID names a person. It is the data subject of what the log tells of that person in private.
type PersonID = tenantdb.PersonID

// Standing is what a person is and may do, at the instant of the transaction that read it.
type Standing struct {
	Person       PersonID
	Roles        []string // their own and those of their groups, sorted
	Capabilities []string // of all their roles, sorted; Everything stands for all
	Active       bool     // whether they may act at all
	Why          string   // why not: "removed", "suspended", "organisation_suspended"
	Rules        Rules
	NeedsMFA     bool     // whether they must prove a second factor
	Factors      []string // the kinds that count for them; nil is all
	ManagedBy    string   // the connection whose directory decides about them; empty if none does

	own []string // roles of their own
}

// Standing reads a person's standing. Every request of a session does, so it is one statement.
func (r *Room) Standing(ctx context.Context, tx *tenantdb.ReadTx, p PersonID) (Standing, error) {
	s, err := standing(ctx, tx, p)
	if err != nil {
		return Standing{}, err
	}
	s.NeedsMFA, s.Factors = s.Rules.NeedsMFA(s.Roles, s.Capabilities), s.Rules.AllowedFactors(s.Roles)
	return s, nil
}
