package link

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

type linkKind struct{}

// ID names a link. It is no secret.
type ID = id.ID[linkKind]

// ParseID reads a link's name.
func ParseID(s string) (ID, error) { return id.Parse[linkKind](s) }

// Purpose is what a link is good for.
type Purpose string

// The purposes.
const (
	Join    Purpose = "join"    // the subject is an invitation
	Recover Purpose = "recover" // the subject is a person
	Address Purpose = "address" // the subject is a person; the data is the new address, sealed
)

// Links makes and spends links of all organisations.
type Links struct {
	db   *tenantdb.DB
	ring *keyring.Ring
	now  func() time.Time
}

// New makes the keeper of links.
func New(db *tenantdb.DB, ring *keyring.Ring, now func() time.Time) *Links {
	return &Links{db, ring, now}
}

// prefix tells people and scanners what it is.
const prefix = "avl_"

// Secret is what a mail says. It reads no table: whoever has the id of a link that was never made has a text that opens nothing.
func (l *Links) Secret(ctx context.Context, t tenantdb.TenantID, link ID) (secret.String, error) {
	var parts [2]string
	for i, kind := range []string{"link/1", "link/2"} { // 128 bits each
		p, err := l.ring.Pseudonym(ctx, t, kind, link.String())
		if err != nil {
			return secret.String{}, fmt.Errorf("link.Secret: %w", err)
		}
		parts[i] = p
	}
	return secret.Text(prefix + parts[0] + parts[1]), nil
}

func digest(s secret.String) []byte {
	sum := sha256.Sum256([]byte(s.Expose()))
	return sum[:]
}

// Make makes a link in a change of its organisation, and ends what was made for the same subject and purpose before. data is
// kept with it as it is, so it must be sealed if it tells anything.
func (l *Links) Make(ctx context.Context, tx *tenantdb.Tx, p Purpose, subject [16]byte, life time.Duration, data []byte) (ID, error) {
	link := id.New[linkKind]()
	s, err := l.Secret(ctx, tx.Tenant(), link)
	if err != nil {
		return ID{}, fmt.Errorf("link.Make: %w", err)
	}
	now := l.instant()
	if err := end(ctx, tx, p, subject, now); err != nil {
		return ID{}, fmt.Errorf("link.Make: %w", err)
	}
	if err := insert(ctx, tx, row{link, digest(s), p, subject, data, now, now.Add(life)}); err != nil {
		return ID{}, fmt.Errorf("link.Make: %w", err)
	}
	return link, nil
}

// End ends what was made for a subject and purpose and was not spent.
func (l *Links) End(ctx context.Context, tx *tenantdb.Tx, p Purpose, subject [16]byte) error {
	return end(ctx, tx, p, subject, l.instant())
}

// Refused is the answer to every link that does not work, whatever the reason.
func Refused() error {
	return problem.New(problem.Denied, "The link does not work: it is damaged, was used before, or has ended. Ask for another one.")
}

// Tenant is whose link it is, before it is known whether it works. Errors: Refused.
func (l *Links) Tenant(ctx context.Context, s secret.String, p Purpose) (tenantdb.TenantID, error) {
	if !strings.HasPrefix(s.Expose(), prefix) || len(s.Expose()) != len(prefix)+2*26 {
		return tenantdb.TenantID{}, Refused()
	}
	t, err := lookup(ctx, l.db, digest(s), p)
	if err != nil {
		return tenantdb.TenantID{}, fmt.Errorf("link.Tenant: %w", err)
	}
	if t.IsZero() {
		return t, Refused()
	}
	return t, nil
}

// Found is a link that works.
type Found struct {
	ID      ID
	Subject [16]byte
	Data    []byte
}

// Look finds a link that works, and does not spend it. Errors: Refused.
func (l *Links) Look(ctx context.Context, tx *tenantdb.ReadTx, s secret.String, p Purpose) (Found, error) {
	f, err := find(ctx, tx, digest(s), p, l.instant())
	return f, l.ours(ctx, tx.Tenant(), f, s, err)
}

// Spend finds a link that works, which works no more once the transaction has committed. Errors: Refused.
func (l *Links) Spend(ctx context.Context, tx *tenantdb.Tx, s secret.String, p Purpose) (Found, error) {
	f, err := spend(ctx, tx, digest(s), p, l.instant())
	return f, l.ours(ctx, tx.Tenant(), f, s, err)
}

// ours refuses a secret that the organisation's key did not make: whoever can write a row alone makes no link by it.
func (l *Links) ours(ctx context.Context, t tenantdb.TenantID, f Found, s secret.String, err error) error {
	if err != nil {
		return err
	}
	made, err := l.Secret(ctx, t, f.ID)
	if err == nil && subtle.ConstantTimeCompare([]byte(made.Expose()), []byte(s.Expose())) != 1 {
		err = Refused()
	}
	return err
}

func (l *Links) instant() time.Time { return l.now().UTC().Truncate(time.Microsecond) }

// Data is what was kept with a link, of whatever state.
func (l *Links) Data(ctx context.Context, tx *tenantdb.ReadTx, link ID) ([]byte, error) {
	return loadData(ctx, tx, link)
}
