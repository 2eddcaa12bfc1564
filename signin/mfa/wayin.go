package mfa

import (
	"context"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// OnlyWay are the marks of the authenticator apps by which alone a person can prove themselves; none if there is another factor that the
// rules allow. It opens nothing.
func (r *Room) OnlyWay(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) ([][]byte, error) {
	all, err := factorsOf(ctx, tx, p)
	if err != nil {
		return nil, wrap("OnlyWay", err)
	}
	kinds, _, err := r.cfg.People.Allowed(ctx, tx, p)
	if err != nil {
		return nil, wrap("OnlyWay", err)
	}
	marks, err := r.onlyWay(ctx, tx, all, kinds)
	return marks, wrap("OnlyWay", err)
}

// onlyWay is OnlyWay of some factors. What a reset left, which is good for enrolling, never stands beside another. Codes that nobody would
// send do not count, nor do recovery codes: they are for a loss, and come to an end.
func (r *Room) onlyWay(ctx context.Context, tx *tenantdb.ReadTx, all []stored, kinds []string) (marks [][]byte, err error) {
	for _, f := range all {
		if f.Reset || !permitted(kinds, f.Kind, f.Hardware) {
			continue
		}
		counts, err := r.Sends(ctx, tx, f.Kind)
		if err != nil {
			return nil, err
		}
		if counts && f.mark == nil { // no app; or one of which nobody has seen a code since factors have marks
			return nil, nil
		}
		if counts {
			marks = append(marks, f.mark)
		}
	}
	return marks, nil
}

// keepsWayIn refuses factors that would leave the organisation's only owner with codes of its vault alone.
func (r *Room) keepsWayIn(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, all []stored, kinds []string) error {
	marks, err := r.onlyWay(ctx, tx, all, kinds)
	if err != nil || len(marks) == 0 || r.cfg.Locked == nil {
		return err
	}
	locked, err := r.cfg.Locked(ctx, tx, p, marks)
	if err == nil && locked {
		err = problem.New(problem.Conflict, "You, the only owner, would be left with codes of your organisation's vault: who needs one to get in would have to be in already. "+
			"Add another factor first, such as a passkey, or take the seed out of the vault.")
	}
	return err
}
