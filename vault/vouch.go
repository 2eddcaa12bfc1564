package vault

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// errAltered is of an item that is not what the log says.
var errAltered = errors.New("the item is not what the log says of it")

// altered is what a client learns of such an item: nothing of it is used.
func altered() error {
	return problem.New(problem.Unavailable, "The item is not what the log says of it: it, or whom it is granted to, was altered, or something older was put back, and it is not used. Your organisation and the operator are told.").Because(errAltered)
}

// digest is what the log commits to at each change of an item: all of its row but what moves with uses and wraps.
func (i *Item) digest() (string, error) {
	sealed, err := keyring.Commitment(i.secret, uint64(i.secretVersion))
	if err != nil {
		return "", err
	}
	about, err := keyring.Commitment(i.about, uint64(i.Version))
	if err != nil {
		return "", err
	}
	policy, err := json.Marshal(i.Policy)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write([]byte("avouch/vault-item/v1\n"))
	for _, part := range [][]byte{i.ID[:], []byte(i.Kind), sealed[:], about[:], policy, []byte(i.Creator.String()), fmt.Append(nil, i.Listed), i.mark} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(part))) // a hash takes everything
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// digestField is the public field of a change's entry that commits to the item.
const digestField = "digest"

// afterField is the public field of an entry that says where an item stands after it, which gives one code after the other.
const afterField = "after"

// stand is the counter of the next code, or which recovery codes were taken.
func (i *Item) stand() string {
	if i.Kind == HOTP {
		return fmt.Sprint(i.counter)
	}
	return fmt.Sprint(i.taken)
}

// event is a change of the item.
func (i *Item) event(typ string) (audit.Event, error) {
	digest, err := i.digest()
	if err != nil {
		return audit.Event{}, fmt.Errorf("vault: %w", err)
	}
	e := audit.Event{
		Type: typ, Target: audit.Target{Kind: tenantdb.VaultItem, ID: i.ID.String()}, Alters: true,
		Public:  []audit.Field{field("kind", string(i.Kind)), field("version", fmt.Sprint(i.Version)), field("secret_version", fmt.Sprint(i.secretVersion)), field(digestField, digest)},
		Private: []audit.Field{field("name", i.About.Name)},
	}
	if i.Kind.moves() {
		e.Public = append(e.Public, field(afterField, i.stand()))
	}
	return e, nil
}

func field(name, value string) audit.Field { return audit.Field{Name: name, Value: value} }

// given is the entry of a code that somebody got.
const given = "vault.code_given"

// last is the newest entry about something; the zero value is none.
type last struct {
	seq   int64
	entry audit.Entry
}

// says is the value of a public field; "" if there is none.
func (l *last) says(name string) string {
	for _, f := range l.entry.Public {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// is reports whether the entry is of an event, which may have said more.
func (l *last) is(e audit.Event) bool {
	return l.entry.Type == e.Type && l.entry.Target == e.Target && len(l.entry.Public) >= len(e.Public) && slices.Equal(l.entry.Public[:len(e.Public)], e.Public)
}

// vouched refuses an item that is another than the one that the last change in the log made, or that stands elsewhere than its last code
// put it: altered, or an older one put back.
func vouched(ctx context.Context, tx *tenantdb.ReadTx, i *Item) error {
	l, err := readLast(ctx, tx, i.ID)
	if err != nil {
		return err
	}
	return i.vouchedBy(ctx, tx, l)
}

// unvouched are those of many items that are another than the log says.
func unvouched(ctx context.Context, tx *tenantdb.ReadTx, items []Item) (map[ID]error, error) {
	ids := make([]ID, len(items))
	for k := range items {
		ids[k] = items[k].ID
	}
	lasts, err := readLasts(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	bad := map[ID]error{}
	for k := range items {
		i := &items[k]
		if err := i.vouchedBy(ctx, tx, lasts[i.ID]); errors.Is(err, errAltered) {
			bad[i.ID] = err
		} else if err != nil {
			return nil, err
		}
	}
	return bad, nil
}

// vouchedBy compares an item with the entry of its last change, and where it stands with that of its last code.
func (i *Item) vouchedBy(ctx context.Context, tx *tenantdb.ReadTx, l last) error {
	if err := i.changedBy(l); err != nil {
		return err
	}
	if !i.Kind.moves() {
		return nil
	}
	moved, err := readMoved(ctx, tx, i.ID)
	if err != nil {
		return err
	}
	if moved.seq > l.seq {
		l = moved
	}
	if l.says(afterField) != i.stand() {
		return altered()
	}
	return nil
}

// changedBy compares an item with the entry of its last change.
func (i *Item) changedBy(l last) error {
	digest, err := i.digest()
	if err != nil || i.unread || l.entry.Type == deleted || l.says(digestField) != digest {
		return altered()
	}
	return nil
}

// readMoved is the entry of the last code that an item gave.
func readMoved(ctx context.Context, tx *tenantdb.ReadTx, item ID) (l last, err error) {
	for before := int64(0); ; {
		rows, err := readUses(ctx, tx, tenantdb.UsesOf(item), time.Time{}, before, mostMissed)
		if err != nil {
			return last{}, err
		}
		for _, v := range rows {
			before = v.seq
			if e, err := audit.Decode(v.body); err == nil && e.Type == given {
				return last{v.seq, e}, nil
			}
		}
		if len(rows) < mostMissed {
			return last{}, nil
		}
	}
}

// mostMissed is how many uses are read at once to find one that moved the item: most are.
const mostMissed = 4

// first is the grant to whoever adds an item. The entry of the item says it, by who made it: its id follows from the item's, and so no
// other takes its place once it was revoked.
func first(i *Item) Grant {
	sum := sha256.Sum256(append([]byte("avouch/vault-first-grant/v1\n"), i.ID[:]...))
	g := Grant{ID: GrantID(i.ID), Item: i.ID, To: i.Creator, Level: ForCode, GrantedBy: i.Creator.String(), GrantedAt: i.CreatedAt}
	copy(g.ID[9:], sum[:]) // behind the time, the version and the variant
	return g
}

// granted is what is granted and lent of items, and those of which the last entry about some of that says another thing, or nothing: nobody
// gave it by us, or it was taken away since.
func granted(ctx context.Context, tx *tenantdb.ReadTx, items ...Item) (grants []Grant, lent []Request, bad map[ID]error, err error) {
	of := make([]ID, len(items))
	own := map[GrantID]Grant{}
	for k := range items {
		of[k] = items[k].ID
		g := first(&items[k])
		own[g.ID] = g
	}
	if grants, err = readGrants(ctx, tx, of...); err != nil {
		return nil, nil, nil, err
	}
	if lent, err = readLent(ctx, tx, of...); err != nil {
		return nil, nil, nil, err
	}
	bad = map[ID]error{}
	err = eachLast(ctx, tx, grants, func(g *Grant) GrantID { return g.ID }, func(g *Grant, l last, said bool) {
		if made := own[g.ID]; !said && made.Item == g.Item && made.To == g.To && made.Level == g.Level && g.ExpiresAt == nil {
			return
		}
		if !l.is(g.event(wasGranted)) {
			bad[g.Item] = altered()
		}
	})
	if err != nil {
		return nil, nil, nil, err
	}
	err = eachLast(ctx, tx, lent, func(q *Request) RequestID { return q.ID }, func(q *Request, l last, _ bool) {
		if !l.is(q.event(wasApproved)) {
			bad[q.Item] = altered()
		}
	})
	if err != nil {
		return nil, nil, nil, err
	}
	return grants, lent, bad, nil
}

// eachLast holds each of all against the newest entry about it, if there is one. A page of items has tens of thousands of grants: the
// entries of a few are read at once.
func eachLast[T, K any](ctx context.Context, tx *tenantdb.ReadTx, all []T, name func(*T) id.ID[K], look func(one *T, l last, said bool)) error {
	for some := range slices.Chunk(all, 500) {
		ids := make([]id.ID[K], len(some))
		for k := range some {
			ids[k] = name(&some[k])
		}
		lasts, err := readLasts(ctx, tx, ids)
		if err != nil {
			return err
		}
		for k := range some {
			l, said := lasts[ids[k]]
			look(&some[k], l, said)
		}
	}
	return nil
}

// The entries of what somebody may do from then on.
const (
	wasGranted  = "vault.granted"
	wasApproved = "vault.request_approved"
)
