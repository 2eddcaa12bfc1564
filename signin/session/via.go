package session

import (
	"context"
	"fmt"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Which says which sessions are meant: all that fit, where zero fits everything.
type Which struct {
	Person tenantdb.PersonID
	Via    [16]byte // that a connection began
	NotVia [16]byte // that this connection did not begin
}

const endWhereSQL = `UPDATE avouch.session SET ended_at = $5, ended_why = $6
WHERE tenant_id = $1 AND ended_at IS NULL AND expires_at > $5 AND ($2::uuid IS NULL OR person_id = $2) AND ($3::uuid IS NULL OR via = $3) AND ($4::uuid IS NULL OR via IS DISTINCT FROM $4)`

// EndWhere ends sessions by how they began, as when a connection is taken away. It says how many.
func (r *Room) EndWhere(ctx context.Context, tx *tenantdb.Tx, w Which, why string) (int, error) {
	n, err := tx.Exec(ctx, endWhereSQL, tx.Tenant(), orNil(w.Person), orNil(w.Via), orNil(w.NotVia), r.instant(), why)
	if err != nil {
		return 0, fmt.Errorf("session.EndWhere: %w", err)
	}
	return int(n), nil
}

func orNil[T ~[16]byte](v T) *[16]byte {
	if b := [16]byte(v); b != [16]byte{} {
		return &b
	}
	return nil
}

// Where is from where a session of a person was begun, for a mail to that person: "Firefox on Linux, 192.0.2.7"; empty if it is
// not known any more.
func (r *Room) Where(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, id ID) (string, error) {
	s, err := load(ctx, tx, id)
	if problem.Is(err, problem.Missing) || problem.Is(err, problem.Unauthenticated) || err == nil && s.Person != p {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("session.Where: %w", err)
	}
	described := r.open(ctx, tx.Tenant(), s)
	where := described.Program
	if described.Address.IsValid() {
		where += ", " + described.Address.String()
	}
	return where, nil
}
