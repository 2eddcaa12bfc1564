package mfa

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// A recovery code is 20 letters and digits, 100 bits: too many to guess, so its hash needs no salt or work beyond it.
const (
	recoveryCodes = 10
	recoveryChars = 20
	recoveryGroup = 5
	// Crockford's: none of them looks like another.
	recoveryAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
)

func newRecoveryCode() string {
	raw := make([]byte, recoveryChars)
	rand.Read(raw) // never fails
	var b strings.Builder
	for i, c := range raw {
		if i > 0 && i%recoveryGroup == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(recoveryAlphabet[c&31])
	}
	return b.String()
}

// readRecoveryCode reads a code as people type it: "" is none.
func readRecoveryCode(s string) string {
	if len(s) > 4*recoveryChars {
		return ""
	}
	s = strings.NewReplacer("-", "", " ", "", "\t", "", "\u00a0", "", "o", "0", "i", "1", "l", "1").Replace(strings.ToLower(s))
	if len(s) != recoveryChars || strings.Trim(s, recoveryAlphabet) != "" {
		return ""
	}
	return s
}

// digestRecovery is bound to the person: whose code it is is part of it.
func digestRecovery(t tenantdb.TenantID, p tenantdb.PersonID, code string) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "recovery|%s|%s|%s", t, p, code))
}

// NewRecoveryCodes makes a person's recovery codes. The old ones end. They are shown here and never again.
func (r *Room) NewRecoveryCodes(ctx context.Context, c tenantdb.Caller) ([]secret.String, error) {
	p, err := person(c)
	if err != nil {
		return nil, err
	}
	if err := r.Prepare(ctx, c.Tenant(), p.ID); err != nil {
		return nil, err
	}
	codes, digests := make([]secret.String, recoveryCodes), make([][]byte, recoveryCodes)
	for i := range codes {
		code := newRecoveryCode()
		sum := digestRecovery(c.Tenant(), p.ID, readRecoveryCode(code))
		codes[i], digests[i] = secret.Text(code), sum[:]
	}
	err = r.cfg.DB.Change(ctx, c, func(tx *tenantdb.Tx) (audit.Event, error) {
		all, err := r.load(ctx, &tx.ReadTx, p.ID)
		if err != nil {
			return audit.Event{}, err
		}
		if strongest(all) == "" {
			return audit.Event{}, problem.New(problem.Conflict, "Recovery codes stand in for a factor, and you have none. Add one first.")
		}
		if err := r.proved(ctx, &tx.ReadTx, all, r.instant()); err != nil {
			return audit.Event{}, err
		}
		kinds, _, err := r.cfg.People.Allowed(ctx, &tx.ReadTx, p.ID)
		if err != nil {
			return audit.Event{}, err
		}
		if !recoveryPermitted(kinds) {
			return audit.Event{}, problem.New(problem.Denied, "The rules of your organisation allow you no recovery codes: %s.", strings.Join(kinds, ", "))
		}
		ended, err := removeCodes(ctx, tx, p.ID)
		if err == nil {
			err = insertCodes(ctx, tx, p.ID, digests)
		}
		if err != nil {
			return audit.Event{}, err
		}
		e, err := r.changed(ctx, tx, Change{Person: p.ID, What: "codes"}, stored{})
		e.Type, e.Target = "recovery_codes.made", audit.Target{Kind: "person", ID: p.ID.String()}
		e.Public = []audit.Field{{Name: "ended", Value: fmt.Sprint(ended)}}
		return e, err
	})
	if err != nil {
		return nil, wrap("NewRecoveryCodes", err)
	}
	return codes, nil
}

// proveRecovery judges a recovery code, and tells the person that it was used.
func (r *Room) proveRecovery(ctx context.Context, tx *tenantdb.Tx, a Answer, o Offer) (Proof, error) {
	code := readRecoveryCode(a.RecoveryCode.Expose())
	if code == "" || o.RecoveryCodes == 0 {
		return Proof{}, refuse("no such recovery code")
	}
	ok, err := useCode(ctx, tx, a.Person, digestRecovery(tx.Tenant(), a.Person, code), r.instant())
	if err != nil {
		return Proof{}, err
	}
	if !ok {
		return Proof{}, refuse("no such recovery code")
	}
	return Proof{Method: Recovery}, r.notify(ctx, tx, a.Person, a.Person, "recovery", "")
}
