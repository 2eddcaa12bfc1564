package trail

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Pair is a kind and an opaque identifier.
type Pair struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// Entry is an entry of the log as readers get it: decoded, in its place, with its private fields opened.
type Entry struct {
	Seq      int64             `json:"seq" doc:"Its number in the log: from 0, without gaps"`
	Leaf     string            `json:"leaf" doc:"The entry's hash: SHA-256(0x00 || entry), hexadecimal"`
	Prev     string            `json:"prev" doc:"The link of the entry before it, hexadecimal"`
	Log      string            `json:"log_id,omitempty"`
	ID       string            `json:"entry_id,omitempty"`
	Time     string            `json:"time,omitempty" format:"date-time" doc:"The server's clock; the order of entries is seq, never this"`
	Type     string            `json:"type,omitempty" doc:"What happened, such as agent.registered"`
	Request  string            `json:"request_id,omitempty"`
	Actor    *Pair             `json:"actor,omitempty" doc:"Who acted"`
	How      string            `json:"how,omitempty" doc:"How the actor was authenticated"`
	Source   string            `json:"source,omitempty" doc:"The service that asked"`
	Target   *Pair             `json:"target,omitempty" doc:"What was acted upon"`
	Outcome  string            `json:"outcome,omitempty" enum:"done,denied,failed,stated" doc:"stated: the actor says so, and Avouch did not see it"`
	Decision string            `json:"decision,omitempty"`
	Policy   string            `json:"policy,omitempty"`
	Public   map[string]string `json:"public,omitempty" doc:"Fields that the entry holds in the clear"`
	Private  map[string]string `json:"private,omitempty" doc:"Fields that may be personal data: the entry holds only a commitment to them"`
	Sealed   string            `json:"private_state,omitempty" enum:"open,erased,unreadable" doc:"Whether the private fields could be opened; absent if there are none"`
	Fault    string            `json:"fault,omitempty" doc:"What is wrong with the stored entry; absent if nothing is"`

	at time.Time
}

// The states of private fields.
const (
	sealedOpen       = "open"
	sealedErased     = "erased"
	sealedUnreadable = "unreadable"
)

// decode shows a row, also one that somebody has tampered with: a reader must see that, not an error page.
func decode(v row) (Entry, audit.Entry) {
	out := Entry{Seq: v.seq, Leaf: hex.EncodeToString(v.leaf), Prev: hex.EncodeToString(v.prev)}
	e, err := audit.Decode(v.body)
	if err != nil {
		out.Fault = "the stored entry cannot be decoded"
		return out, audit.Entry{}
	}
	if leaf := audit.Leaf(v.body); string(leaf[:]) != string(v.leaf) {
		out.Fault = "leaf is not the hash of the stored entry"
	}
	out.at = e.Time
	out.Log, out.ID, out.Type = e.Log.String(), e.ID.String(), e.Type
	out.Time = e.Time.UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	out.Actor = &Pair{string(e.Actor.Kind), e.Actor.ID}
	out.How, out.Source, out.Outcome = e.How, e.Source, string(e.Outcome)
	out.Decision, out.Policy = e.Decision, e.Policy
	if !e.Request.IsZero() {
		out.Request = e.Request.String()
	}
	if e.Target != (audit.Target{}) {
		out.Target = &Pair{e.Target.Kind, e.Target.ID}
	}
	out.Public = named(e.Public)
	return out, e
}

// named makes a map of fields. Private fields may have one name twice, and neither value may be lost.
func named(fields []audit.Field) map[string]string {
	if len(fields) == 0 {
		return nil
	}
	m := make(map[string]string, len(fields))
	for _, f := range fields {
		name := f.Name
		for i := 2; ; i++ {
			if _, taken := m[name]; !taken {
				break
			}
			name = f.Name + "_" + strconv.Itoa(i)
		}
		m[name] = f.Value
	}
	return m
}

// private is the commitment that stands for the fields in the column sealed.
func private(e *audit.Entry) *audit.Commitment {
	for i := range e.Commitments {
		if e.Commitments[i].Name == "private" {
			return &e.Commitments[i]
		}
	}
	return nil
}

// open decrypts the private fields of an entry, without yet comparing them with the commitment.
func open(ctx context.Context, s tenantdb.Sealer, t tenantdb.TenantID, e *audit.Entry, sealed []byte) ([]byte, error) {
	return s.OpenFields(ctx, t, private(e).Subject, sealed, e.ID[:])
}

// show decodes rows and opens their private fields.
func (r *Room) show(ctx context.Context, t tenantdb.TenantID, rows []row) ([]Entry, error) {
	out := make([]Entry, 0, len(rows))
	for _, v := range rows {
		view, e := decode(v)
		if err := r.reveal(ctx, t, &view, &e, v.sealed); err != nil {
			return nil, err
		}
		out = append(out, view)
	}
	return out, nil
}

// reveal opens the private fields of one entry. That a subject was erased, or a value was tampered with, is an answer;
// that the key store cannot be asked is an error.
func (r *Room) reveal(ctx context.Context, t tenantdb.TenantID, view *Entry, e *audit.Entry, sealed []byte) error {
	c := private(e)
	if c == nil {
		return nil
	}
	plain, err := open(ctx, r.cfg.Sealer, t, e, sealed)
	switch {
	case errors.Is(err, keyring.ErrDestroyed):
		view.Sealed = sealedErased
		return nil
	case unreadable(err):
		view.Sealed = sealedUnreadable
		return nil
	case err != nil:
		return fmt.Errorf("trail.reveal: %w", err)
	}
	fields, err := audit.Reveal(plain, c.Sum)
	if err != nil {
		view.Sealed = sealedUnreadable
		return nil
	}
	view.Sealed, view.Private = sealedOpen, named(fields)
	return nil
}

// unreadable reports whether the value itself is to blame: altered, moved, or naming a key that never was.
func unreadable(err error) bool {
	return errors.Is(err, keyring.ErrSealed) || errors.Is(err, keyring.ErrFormat) || errors.Is(err, keyring.ErrLost) || errors.Is(err, keyring.ErrDamaged)
}
