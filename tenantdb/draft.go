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

// Spend takes one from a counter, in the commit that appends what is counted; nothing is appended if the limit is
// reached. The counter's row must exist, and its tenant be one of those appended to.
type Spend struct {
	Tenant  TenantID
	Subject string // what is counted, at most 64 bytes
	Period  int32  // a counter of another period counts as 0: year*12+month for quotas, 0 for what never starts anew
	Limit   int64
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
		How: c.spec.How, Source: c.spec.Source, Target: ev.Target, Outcome: ev.Outcome, Decision: ev.Decision, Policy: ev.Policy, Public: ev.Public,
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
