package tenantdb

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
)

// Epoch stands for everything that can alter a tenant's decisions: it is random, and replaced by every such change.
// Equal epochs mean equal rules; there is no order.
type Epoch int64

// Head is what a decision must know of a tenant's log: its name and the epoch decided at.
type Head struct {
	Tenant TenantID
	Log    audit.LogID
	Epoch  Epoch
}

// Position is where an entry stands in its log.
type Position struct {
	Log  audit.LogID
	Seq  audit.Seq
	Leaf [32]byte
}

// Spend takes from a counter, in the commit that appends what is counted; nothing is appended if that would exceed the
// limit. The counter's row must exist, and its tenant be one of those appended to.
type Spend struct {
	Tenant  TenantID
	Subject string // what is counted, at most 64 bytes
	Amount  int64  // how much it takes; 0 is 1
	Look    bool   // takes nothing, and is told what is left
	Limit   int64
	// Period is what is counted in: a counter of an earlier one counts as 0. year*12+month for quotas, 0 for what never
	// starts anew.
	Period int64
	// Window, if it is not 0, takes Period's place: the counter starts anew with the first spend that comes so long after
	// the one that started it. Whole milliseconds.
	Window time.Duration
}

func (s Spend) amount() int64 {
	if s.Look {
		return 0
	}
	return max(s.Amount, 1)
}

// Unknown is left of a counter that has no row, and was only looked at.
const Unknown = -1

// Receipt is what an append did: where each entry stands, and what is left of each counter that was spent from, in the order
// of the spends; Left is empty if that could not be found out.
type Receipt struct {
	Positions []Position
	Left      []int64
}

// Draft is an entry that is ready to be appended: encoded once, with its private fields sealed.
type Draft struct {
	head    Head
	entry   audit.EntryID
	request audit.RequestID
	body    []byte
	leaf    [32]byte
	sealed  []byte
	about   [16]byte // what it is looked up by, if anything
	person  [16]byte
}

// Sealer encrypts the private fields of entries under a key of their data subject that is not in the database. It refuses a tenant that
// Config.Gate refuses by itself: a decision asks once.
type Sealer interface {
	SealFields(ctx context.Context, tenant TenantID, subject audit.SubjectID, plain, aad []byte) ([]byte, error)
	OpenFields(ctx context.Context, tenant TenantID, subject audit.SubjectID, sealed, aad []byte) ([]byte, error)
}

// Draft makes an entry of an event, for the log and at the epoch of head. The caller may be of another tenant only
// where its actor says so (audit.ActorService).
func (db *DB) Draft(ctx context.Context, c Caller, head Head, ev audit.Event) (Draft, error) {
	return db.draftAt(ctx, c, head, ev, db.now())
}

func (db *DB) draftAt(ctx context.Context, c Caller, head Head, ev audit.Event, at time.Time) (Draft, error) {
	e := audit.Entry{
		Version: audit.Version, Log: head.Log, ID: audit.NewEntryID(), Time: at, Type: ev.Type, Request: c.spec.RequestID, Actor: c.spec.Actor,
		How: c.How(), Source: c.spec.Source, Target: ev.Target, Outcome: ev.Outcome, Decision: ev.Decision, Policy: ev.Policy, Public: ev.Public,
	}
	if e.Outcome == "" {
		e.Outcome = audit.Done
	}
	d := Draft{head: head, entry: e.ID, request: e.Request}
	d.about, d.person = LookedUpBy(&e)
	private := ev.Private
	if c.spec.CallerRequestID != "" {
		private = append(private[:len(private):len(private)], audit.Field{Name: "caller_request_id", Value: c.spec.CallerRequestID})
	}
	if len(private) == 0 && !c.spec.keyless { // of the log's tenant, which may be another than the caller's
		if err := db.gate(ctx, head.Tenant); err != nil {
			return Draft{}, fmt.Errorf("tenantdb.Draft: %w", err)
		}
	}
	if len(private) > 0 {
		sum, plain, err := audit.Conceal(private)
		if err != nil && len(private) > len(ev.Private) { // what the caller calls a request is no reason to refuse it
			sum, plain, err = audit.Conceal(ev.Private)
		}
		if err != nil {
			return Draft{}, fmt.Errorf("tenantdb.Draft: %w", err)
		}
		sealed, err := db.sealer.SealFields(ctx, head.Tenant, ev.Subject, plain, e.ID[:])
		if err != nil {
			return Draft{}, fmt.Errorf("tenantdb.Draft: %w", err)
		}
		d.sealed = sealed
		e.Commitments = []audit.Commitment{{Name: "private", Subject: ev.Subject, Sum: sum}}
	}
	body, err := e.Encode()
	if err != nil {
		return Draft{}, fmt.Errorf("tenantdb.Draft: %w", err)
	}
	d.body, d.leaf = body, audit.Leaf(body)
	return d, nil
}

// The kinds of target that entries can be looked up by: an item of the vault, by its changes and by its uses apart, so that the last
// change is found at once behind a million uses; what was granted or lent of one; and the deletion of an organisation.
const (
	Deletion     = "deletion"
	VaultItem    = "vault_item"
	VaultUse     = "vault_use"
	VaultGrant   = "vault_grant"
	VaultRequest = "vault_request"
)

// UsesOf is what the uses of an item are looked up by. It is no item's: those are of version 7.
func UsesOf(item [16]byte) [16]byte {
	item[6] = item[6]&0x0f | 0x80
	return item
}

// LookedUpBy is what an entry can be found by beside its number: what it is about, where that is of the vault or a deletion, and of
// the vault the person who did that. Zeros are neither. The verification pass holds the columns of the log to it.
func LookedUpBy(e *audit.Entry) (about, person [16]byte) {
	switch e.Target.Kind {
	case VaultItem, VaultUse, VaultGrant, VaultRequest, Deletion:
	default:
		return about, person
	}
	item, err := id.Parse[struct{}](e.Target.ID)
	if err != nil {
		return about, person
	}
	switch about = item; e.Target.Kind {
	case Deletion:
		return about, person
	case VaultUse:
		about = UsesOf(about)
	}
	if who, err := id.Parse[struct{}](e.Actor.ID); err == nil && e.Actor.Kind == audit.ActorPerson {
		person = who
	}
	return about, person
}

// size is what the entry adds to a batch, in bytes.
func (d *Draft) size() int { return len(d.body) + len(d.sealed) + 128 }
