package keyring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/avouch-dev/avouch/internal/problem"
)

// A record that cannot be opened is left out of the snapshot, and everything else goes on. Left out means that its tokens
// are refused like those of a key that never was. Its public part is not enough to check them, even where it is whole and
// its hash is the kid: everyone who can write the table can make such a pair. Only the private part, which was sealed by
// someone who has the platform key, proves that a kid is ours. A server that has proved it before forgets that, so that all
// servers say the same, before and after a restart.

// ErrUnusableKey means that the record of this kid is there and no key: it does not open, or its parts do not belong
// together. It is an ErrUnknownKey too, since that is what it is for whoever presents a token.
var ErrUnusableKey error = unusableError{}

type unusableError struct{}

// Error says it.
func (unusableError) Error() string { return "the record of this signing key cannot be used" }

// Is says that it is an ErrUnknownKey.
func (unusableError) Is(target error) bool { return target == ErrUnknownKey }

// ErrNoSigner means that no key can sign, so that no token can be issued.
var ErrNoSigner = errors.New("no signing key can be used")

// ErrNoneOpens means that there are signing keys and none of them opens. It may be that the platform key is the wrong one,
// so no other is made.
var ErrNoneOpens = errors.New("none of the signing keys opens: is this the right platform key? If it is, restore their records, or revoke them")

var (
	errRevived = fmt.Errorf("it was seen revoked, and its record does not say so any more: %w: %w", ErrRevokedKey, ErrUnusableKey)
	errEndless = errors.New("a time in its record is endless")
	errProof   = errors.New("its parts do not belong together")
)

// Unusable is a signing key whose record is left out.
type Unusable struct {
	KID string
	Why error
}

// Unusable is the records that the last Refresh left out, for operators to be told of.
func (s *Signing) Unusable() (all []Unusable) {
	for kid, l := range s.set.Load().left {
		if errors.Is(l.why, ErrUnusableKey) {
			all = append(all, Unusable{kid, l.why})
		}
	}
	slices.SortFunc(all, func(a, b Unusable) int { return cmp.Compare(a.KID, b.KID) })
	return all
}

// leftOut is a record that is not in the snapshot: it is unusable, or whether it is could not be found out.
type leftOut struct {
	record SigningKey
	why    error
}

// judged says whether what was found out about a record that was left out before still holds.
func (l leftOut) judged(k *SigningKey) bool {
	o := &l.record
	return errors.Is(l.why, ErrUnusableKey) && o.damage == nil && o.Algorithm == k.Algorithm && o.Use == k.Use &&
		slices.Equal(o.Public, k.Public) && slices.Equal(o.Private, k.Private)
}

// admit opens a published record, unless that was done before, or says why it is left out.
func (k *SigningKey) admit(ctx context.Context, w KeyWrapper, old *keySet) (*openKey, error) {
	if old.revoked[k.KID] {
		return nil, errRevived
	}
	if k.damage != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusableKey, k.damage)
	}
	if o := old.opened[k.KID]; o != nil && o.wrapped == string(k.Private) && sameRecord(old, k) {
		return o, nil
	}
	if l, ok := old.left[k.KID]; ok && l.judged(k) {
		return nil, l.why
	}
	o, err := k.openAny(ctx, w)
	if err != nil && isDamage(err) {
		err = fmt.Errorf("%w: %w", ErrUnusableKey, err)
	}
	if err != nil {
		return nil, err
	}
	o.of, o.wrapped, o.header = k.line(), string(k.Private), headers(k.KID, k.line())
	return o, nil
}

// openAny opens a record, wherever its key is.
func (k *SigningKey) openAny(ctx context.Context, w KeyWrapper) (*openKey, error) {
	if _, held, _ := k.sealed(); held {
		ref, public, err := k.openHeld(ctx, w)
		return &openKey{public: public, held: ref}, err
	}
	private, err := k.open(ctx, w)
	if err != nil {
		return nil, err
	}
	return &openKey{public: private.Public(), private: private}, nil
}

// isDamage tells what the record is from what we could not find out: a KMS that does not answer may answer later.
func isDamage(err error) bool {
	for _, d := range []error{errProof, ErrSealed, ErrFormat, ErrDamaged, ErrLost, ErrDestroyed, ErrUnknownTenant} {
		if errors.Is(err, d) {
			return true
		}
	}
	return false
}

// sound is the records that the last Refresh did not leave out. Others are not rotated: they stay as they are, to be
// restored or revoked.
func (s *Signing) sound(keys []SigningKey) []SigningKey {
	left := s.set.Load().left
	return slices.DeleteFunc(slices.Clone(keys), func(k SigningKey) bool { _, out := left[k.KID]; return out })
}

// someOpen fails if there are published keys that may be of a line and none of it is open. Agents' tokens may have been signed by
// any record that does not open, since what it says of its use is not proved either. Of people's it is enough that other
// keys open: then the platform key is the right one.
func (set *keySet) someOpen(l line) error {
	var kids []string
	for kid, out := range set.left {
		if l == agents || out.record.line() == l || len(set.opened) == 0 {
			kids = append(kids, kid)
		}
	}
	for _, o := range set.opened {
		if o.of == l {
			return nil
		}
	}
	if len(kids) == 0 {
		return nil
	}
	slices.Sort(kids)
	return fmt.Errorf("%w (%s)", ErrNoneOpens, strings.Join(kids, ", "))
}

func noSigner(cause error) error {
	return problem.New(problem.Unavailable, "No signing key can be used now, so nothing can be signed. The operator must see to it.").Because(cause)
}
