package tenantdb

import (
	"context"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
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
}

// Sealer encrypts the private fields of entries under a key of their data subject that is not in the database.
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
	private := ev.Private
	if c.spec.CallerRequestID != "" {
		private = append(private[:len(private):len(private)], audit.Field{Name: "caller_request_id", Value: c.spec.CallerRequestID})
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

// size is what the entry adds to a batch, in bytes.
func (d *Draft) size() int { return len(d.body) + len(d.sealed) + 128 }
