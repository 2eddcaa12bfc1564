package mfa

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Factor is a second factor of a person, confirmed.
type Factor struct {
	ID          ID
	Kind        string
	Name        string // the person's own
	Hint        string // where codes go, masked
	Hardware    bool   // a passkey that its maker attests to be in hardware
	CreatedAt   time.Time
	ConfirmedAt time.Time
	UsedAt      time.Time // zero if it was never used
	Version     int64
	// Reset says that an administrator's reset put it there: it proves the mailed address, and is good for enrolling anew only.
	Reset bool
}

// details are what is sealed of a factor.
type details struct {
	Name    string   `json:"name,omitempty"`
	Seed    []byte   `json:"seed,omitempty"`    // of a TOTP factor
	To      string   `json:"to,omitempty"`      // a number; or an address, where empty is the one in the profile
	Reset   bool     `json:"reset,omitempty"`   // see Factor.Reset
	Passkey *passkey `json:"passkey,omitempty"` // of a passkey
}

// stored is a factor as it is in the database, opened.
type stored struct {
	Factor
	details details
	counter int64
	sealed  []byte
	mark    []byte // keyring.Ring.SeedMark of its seed
}

// load reads a person's factors, the oldest first. One that does not open is an error: nobody signs in beside it.
func (r *Room) load(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) ([]stored, error) {
	all, err := factorsOf(ctx, tx, p)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if err := r.open(ctx, tx.Tenant(), p, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (r *Room) open(ctx context.Context, t tenantdb.TenantID, p tenantdb.PersonID, f *stored) error {
	plain, err := r.cfg.Ring.OpenFields(ctx, t, p, f.sealed, place("factor", f.ID))
	if err != nil {
		return fmt.Errorf("factor %s: %w", f.ID, err)
	}
	if err := json.Unmarshal(plain, &f.details); err != nil {
		return fmt.Errorf("factor %s cannot be read", f.ID) // the error would quote what is sealed
	}
	f.Name, f.Hint, f.Reset = f.details.Name, hint(f.Kind, f.details.To), f.details.Reset
	return nil
}

func (r *Room) seal(ctx context.Context, t tenantdb.TenantID, p tenantdb.PersonID, id ID, d details) ([]byte, error) {
	plain, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return r.cfg.Ring.SealFields(ctx, t, p, plain, place("factor", id))
}

// place binds what is sealed to where it is.
func place(what string, id ID) []byte { return []byte(what + ":" + id.String()) }

// hint shows where codes go to one who knows it already.
func hint(kind, to string) string {
	switch {
	case to == "":
		return ""
	case kind == SMS:
		return sms.Mask(to)
	}
	return maskAddress(to)
}

// maskAddress leaves the first letter and the domain of an e-mail address: a•••@example.com.
func maskAddress(a string) string {
	at := strings.LastIndexByte(a, '@')
	if at < 1 {
		return "•••"
	}
	first := []rune(a[:at])[:1]
	return string(first) + "•••" + a[at:]
}

// strength orders methods of proof: nobody adds or takes away a factor with a weaker one than the strongest there is.
func strength(method string) int {
	switch method {
	case Recovery, Email, SMS:
		return 1
	case TOTP:
		return 2
	case Passkey:
		return 3
	}
	return 0 // a password or a provider is no second factor
}

// strongest is the kind that nothing weaker may touch; "" if there is none but what a reset left.
func strongest(all []stored) (kind string) {
	for _, f := range all {
		if !f.Reset && strength(f.Kind) > strength(kind) {
			kind = f.Kind
		}
	}
	return kind
}

// permitted reports whether rules allow a factor.
func permitted(kinds []string, kind string, hardware bool) bool {
	return kinds == nil || slices.Contains(kinds, kind) || kind == Passkey && hardware && slices.Contains(kinds, Hardware)
}

// recoveryPermitted reports whether rules allow recovery codes: where something as weak is allowed.
func recoveryPermitted(kinds []string) bool {
	return kinds == nil || slices.ContainsFunc(kinds, func(k string) bool { return strength(k) == strength(Recovery) })
}

// Offer is what a person may be asked for now, by the rules.
type Offer struct {
	// Factors are those that may be asked for. If the person has some and the rules allow none of them any more, they are all
	// there, and Enrol says that they are good for enrolling only.
	Factors []Factor
	// RecoveryCodes is how many are unused, 0 also if the rules allow none.
	RecoveryCodes int
	// Required says that the rules want a factor.
	Required bool
	// Enrol says that the person must enrol a factor before anything else. With no Factors, there is nothing to prove before.
	Enrol bool
	// Allowed are the kinds that the person may enrol; nil is all.
	Allowed []string
}

// Offered says what a person may be asked for now.
func (r *Room) Offered(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (Offer, error) {
	o, _, err := r.offered(ctx, tx, p)
	return o, wrap("Offered", err)
}

func (r *Room) offered(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) (Offer, []stored, error) {
	all, err := r.load(ctx, tx, p)
	if err != nil {
		return Offer{}, nil, err
	}
	var o Offer
	if o.Allowed, o.Required, err = r.cfg.People.Allowed(ctx, tx, p); err != nil {
		return Offer{}, nil, err
	}
	usable := all[:0:0]
	for _, f := range all {
		if !f.Reset && permitted(o.Allowed, f.Kind, f.Hardware) {
			usable = append(usable, f)
		}
	}
	if len(usable) == 0 {
		o.Enrol = o.Required || slices.ContainsFunc(all, func(f stored) bool { return f.Reset })
		usable = all
	}
	for _, f := range usable {
		o.Factors = append(o.Factors, f.Factor)
	}
	if recoveryPermitted(o.Allowed) && strongest(all) != "" {
		o.RecoveryCodes, err = unusedCodes(ctx, tx, p)
	}
	return o, usable, err
}

// List is a person's factors, the oldest first, and how many recovery codes are unused.
func (r *Room) List(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID) ([]Factor, int, error) {
	all, err := r.load(ctx, tx, p)
	if err != nil {
		return nil, 0, wrap("List", err)
	}
	list := make([]Factor, len(all))
	for i, f := range all {
		list[i] = f.Factor
	}
	left, err := unusedCodes(ctx, tx, p)
	return list, left, wrap("List", err)
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mfa.%s: %w", op, err)
}
