package signin

import (
	"context"
	"fmt"
	"slices"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/signin/mfa"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Standing says what an attempt waits for, and which kinds of factors may be set up in it: a browser that a provider sent back
// has its secret and nothing else. It changes nothing, and is no try.
func (r *Room) Standing(ctx context.Context, req Request, raw secret.String) (o Outcome, kinds []string, err error) {
	t, err := r.tenantOf(ctx, raw)
	if err != nil {
		return Outcome{}, nil, err
	}
	err = r.cfg.DB.Note(ctx, tenantdb.System(t, "sign-in"), func(tx *tenantdb.Tx) error {
		a, err := r.resume(ctx, tx, raw, toSignIn, toEnrol)
		if err != nil {
			return err
		}
		offer, _, err := r.offered(ctx, &tx.ReadTx, r.progressOf(req, account{t, a.person}, a))
		if err != nil {
			return err
		}
		o = Outcome{State: Factor, Tenant: t, Person: a.person, Attempt: raw, Factors: offer.Factors, Codes: offer.RecoveryCodes}
		if a.purpose == toEnrol {
			o = Outcome{State: Enrol, Tenant: t, Person: a.person, Attempt: raw}
			kinds, err = r.enrolled(ctx, &tx.ReadTx, offer.Allowed)
		}
		return err
	})
	if err != nil {
		return Outcome{}, nil, fmt.Errorf("signin.Standing: %w", err)
	}
	return o, kinds, nil
}

// enrolled are the kinds of factors that can be set up, where rules allow these; nil is all.
func (r *Room) enrolled(ctx context.Context, tx *tenantdb.ReadTx, allowed []string) ([]string, error) {
	kinds := slices.Clone(allowed)
	if kinds == nil {
		kinds = []string{mfa.Passkey, mfa.TOTP, mfa.SMS, mfa.Email}
	}
	if ok, _ := r.cfg.Factors.Passkeys(); !ok {
		kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == mfa.Passkey || k == mfa.Hardware })
	}
	for _, kind := range []string{mfa.SMS, mfa.Email} {
		ok, err := r.cfg.Factors.Sends(ctx, tx, kind)
		if err != nil {
			return nil, err
		}
		if !ok {
			kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == kind })
		}
	}
	return kinds, nil
}
