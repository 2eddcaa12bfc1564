package org

import (
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

func myself(c tenantdb.Caller) (PersonID, error) {
	me, ok := c.Person()
	if !ok {
		return PersonID{}, problem.New(problem.Denied, "This is for people who have signed in, and you are none.")
	}
	return me.ID, nil
}

// Me is the person who asks, and their standing.
func (r *Room) Me(ctx context.Context, c tenantdb.Caller) (p Person, s Standing, err error) {
	id, err := myself(c)
	if err != nil {
		return p, s, err
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		if p, err = loadPerson(ctx, tx, id); err == nil {
			s, err = r.Standing(ctx, tx, id)
		}
		return err
	})
	if err == nil {
		err = r.unseal(ctx, c.Tenant(), &p)
	}
	if err != nil {
		return Person{}, Standing{}, fmt.Errorf("org.Me: %w", err)
	}
	return p, s, nil
}

// RenameMe changes the name of whoever asks, from a version if ifMatch names one. It takes no capability.
func (r *Room) RenameMe(ctx context.Context, c tenantdb.Caller, ifMatch, name string) (p Person, err error) {
	id, err := myself(c)
	if err != nil {
		return Person{}, err
	}
	if p, err = r.person(ctx, c, id); err == nil {
		err = nameable(p, name)
	}
	if err == nil {
		err = r.Prepare(ctx, c.Tenant(), id)
	}
	if err != nil {
		return Person{}, err
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		if _, err := r.authority(ctx, &tx.ReadTx); err != nil {
			return audit.Event{}, err
		}
		if p, err = present(ctx, &tx.ReadTx, id); err != nil {
			return audit.Event{}, err
		}
		if err := web.CheckMatch(ifMatch, p.Version); err != nil {
			return audit.Event{}, err
		}
		e := p.event("person.changed")
		if err := r.rename(ctx, tx, &p, &name, &e); err != nil || len(e.Private) == 0 {
			return audit.Event{}, err
		}
		p.Version++
		return e, updatePerson(ctx, tx, p)
	})
	if err == nil {
		err = r.unseal(ctx, c.Tenant(), &p)
	}
	if err != nil {
		return Person{}, fmt.Errorf("org.RenameMe: %w", err)
	}
	return p, nil
}
