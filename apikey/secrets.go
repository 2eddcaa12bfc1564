package apikey

import (
	"context"
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// RenewSecret replaces the secret that the digests of an organisation's keys are made with. Keys go on working: the digest
// of each is made anew at its next use, and Risks lists those that were not used since. by is the operator, a system caller
// of that organisation.
func (r *Room) RenewSecret(ctx context.Context, by tenantdb.Caller) (version uint32, err error) {
	if err := operator(by); err != nil {
		return 0, err
	}
	err = r.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
		if version, err = r.cfg.Ring.Renew(ctx, tx.Tenant(), keyring.UseAPIKey); err != nil {
			return audit.Event{}, err
		}
		return secretEvent("key_secret.renewed", version, false), nil
	})
	if err != nil {
		return 0, fmt.Errorf("apikey.RenewSecret: %w", err)
	}
	return version, nil
}

// Shred ends all keys of an organisation for good, in restored backups of the database too. First they are revoked, which
// every server knows when it returns; then each version of the secret that their digests were made with is destroyed. What
// fails can be tried again. by is the operator, a system caller of that organisation.
func (r *Room) Shred(ctx context.Context, by tenantdb.Caller) (revoked int64, err error) {
	if err := operator(by); err != nil {
		return 0, err
	}
	var last uint32
	err = r.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
		if _, last, err = r.cfg.Ring.Versions(tx.Tenant(), keyring.UseAPIKey); err != nil {
			return audit.Event{}, err
		}
		if revoked, err = revokeAll(ctx, tx, r.instant()); err != nil {
			return audit.Event{}, err
		}
		return shredEvent(last, revoked), nil
	})
	if err != nil {
		return 0, fmt.Errorf("apikey.Shred: %w", err)
	}
	// Under the head's lock, since keys are made under it: one that was made meanwhile is among those that end, and none is
	// made with a secret that this destroys.
	err = r.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
		var failed error
		for v := uint32(1); v <= last; v++ {
			failed = errors.Join(failed, r.cfg.Ring.Destroy(ctx, tx.Tenant(), keyring.UseAPIKey, v))
		}
		more, err := revokeAll(ctx, tx, r.instant())
		if err := errors.Join(failed, err); err != nil || more == 0 {
			return audit.Event{}, err
		}
		revoked += more
		return shredEvent(last, more), nil
	})
	if err != nil {
		return revoked, fmt.Errorf("apikey.Shred: the keys are revoked, and their secret is not destroyed yet: %w", err)
	}
	return revoked, nil
}

func shredEvent(last uint32, revoked int64) audit.Event {
	ev := secretEvent("key_secret.shredded", last, true)
	ev.Public = append(ev.Public, audit.Field{Name: "revoked", Value: fmt.Sprint(revoked)})
	return ev
}

// Recover makes an owner key for an organisation that has none left, as after Shred: with a new secret, if it has none. by is
// the operator, a system caller of that organisation.
func (r *Room) Recover(ctx context.Context, by tenantdb.Caller, name string) (Created, error) {
	if err := operator(by); err != nil {
		return Created{}, err
	}
	live, _, err := r.cfg.Ring.Versions(by.Tenant(), keyring.UseAPIKey)
	if err != nil {
		return Created{}, fmt.Errorf("apikey.Recover: %w", err)
	}
	if live == 0 {
		if _, err := r.RenewSecret(ctx, by); err != nil {
			return Created{}, fmt.Errorf("apikey.Recover: %w", err)
		}
	}
	return r.Create(ctx, by, NewKey{Name: name, Kind: Owner})
}

// operator refuses everybody else.
func operator(by tenantdb.Caller) error {
	if by.Actor().Kind == audit.ActorSystem {
		return nil
	}
	return problem.New(problem.Denied, "Only the operator does this.")
}

func secretEvent(typ string, version uint32, alters bool) audit.Event {
	return audit.Event{
		Type: typ, Target: audit.Target{Kind: "key_secret", ID: fmt.Sprint(version)}, Alters: alters,
		Public: []audit.Field{{Name: "version", Value: fmt.Sprint(version)}},
	}
}
