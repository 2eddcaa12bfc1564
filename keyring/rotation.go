package keyring

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/audit"
)

// The times of a signing key's life. A key is made as the standby of the one that signs, published at once, and takes
// over by the clock; servers need not agree on the moment. There is always a standby, so that an emergency finds a
// successor that verifiers know already.
const (
	// MaxTokenLife is the longest a token may live; Sign refuses more.
	MaxTokenLife = 24 * time.Hour
	// PublishAhead is how long a key is in the JWKS before it signs: what verifiers are told to cache.
	PublishAhead = 24 * time.Hour
	// SignFor is how long a key signs.
	SignFor = 90 * 24 * time.Hour
	// margin covers verifiers' leeway, servers' clocks, and the time until every server shows a new key.
	margin = time.Hour
	// clockSlack is how far ahead another server's clock may be: a key that it made to sign at once signs here too.
	clockSlack = time.Minute
)

// verb is what plan wants done to a key.
type verb string

const (
	create  verb = "created"   // a new key, to sign from `at`
	promote verb = "promoted"  // the standby signs from `at`, before its time
	retire  verb = "retired"   // unpublished from `at`: a newer key signs
	destroy verb = "destroyed" // the private key is needed no more
	revoke  verb = "revoked"   // by an operator, never by plan
)

// action is one step of a rotation. Each is a change of its own, with its own entry in the log, and leaves a state that
// is sound if nothing follows.
type action struct {
	do  verb
	kid string // empty for create
	at  time.Time
}

// plan says what is to be done now with the keys of one line. It is called until it has nothing to say; each call sees all that was done before.
//
// No step takes the only signer away, and no key is retired before every token that it can have signed has expired: an
// older key stops signing, at the latest, when the present signer began.
func plan(now time.Time, keys []SigningKey) []action {
	signer := signerAt(now, keys)
	if signer == nil {
		if next := standby(now, keys, ""); next != nil {
			return []action{{promote, next.KID, now}}
		}
		return []action{{create, "", now}}
	}
	var todo []action
	if standby(now, keys, signer.KID) == nil {
		from := signer.SignsFrom.Add(SignFor)
		if soonest := now.Add(PublishAhead + margin); from.Before(soonest) {
			from = soonest
		}
		todo = append(todo, action{create, "", from})
	}
	for i := range keys {
		k := &keys[i]
		switch {
		case k.destroyed():
		case k.revoked(), !k.RetiresAt.IsZero() && !now.Before(k.RetiresAt):
			todo = append(todo, action{destroy, k.KID, now})
		case k.RetiresAt.IsZero() && newer(signer, k) < 0:
			todo = append(todo, action{retire, k.KID, signer.SignsFrom.Add(MaxTokenLife + margin)})
		}
	}
	return todo
}

// newer orders keys by when they sign, the kid deciding a tie.
func newer(a, b *SigningKey) int {
	return cmp.Or(b.SignsFrom.Compare(a.SignsFrom), cmp.Compare(b.KID, a.KID))
}

// signs reports whether a key may sign at an instant. A key that is to retire stops exactly when its successor begins,
// on every clock.
func (k *SigningKey) signs(now time.Time) bool {
	return !k.revoked() && !k.destroyed() && !now.Before(k.SignsFrom) &&
		(k.RetiresAt.IsZero() || now.Before(k.RetiresAt.Add(-MaxTokenLife-margin)))
}

// signerAt is the one key that signs at an instant: the newest that may. Where none may, it is one that another server,
// whose clock is a little ahead, has made to sign at once.
func signerAt(now time.Time, keys []SigningKey) *SigningKey {
	var signer *SigningKey
	for i := range keys {
		if k := &keys[i]; k.signs(now) && (signer == nil || newer(k, signer) < 0) {
			signer = k
		}
	}
	if signer == nil {
		if next := standby(now, keys, ""); next != nil && next.SignsFrom.Sub(now) <= clockSlack {
			return next
		}
	}
	return signer
}

// standby is the next key to sign, or nil. Its time has not come on this clock.
func standby(now time.Time, keys []SigningKey, signer string) *SigningKey {
	var next *SigningKey
	for i := range keys {
		k := &keys[i]
		if k.KID != signer && !k.revoked() && !k.destroyed() && k.SignsFrom.After(now) && (next == nil || newer(next, k) < 0) {
			next = k
		}
	}
	return next
}

// errNoSuccessor says that a key is to be made that takes over.
var errNoSuccessor = errors.New("no other key can sign")

// revocation is the next step towards revoking a key: a successor, if the key is the one that signs, else the revocation.
// ErrRevokedKey says that there is nothing left to do, errNoSuccessor that a fresh key is wanted. sound are the keys that can be used.
func revocation(now time.Time, keys, sound []SigningKey, kid string, fresh SigningKey) (SigningKey, audit.Event, error) {
	i := slices.IndexFunc(keys, func(k SigningKey) bool { return k.KID == kid })
	if i < 0 {
		return SigningKey{}, audit.Event{}, ErrUnknownKey
	}
	k := keys[i]
	sound = k.line().of(sound)
	if k.revoked() {
		return SigningKey{}, audit.Event{}, ErrRevokedKey
	}
	if signer := signerAt(now, sound); signer != nil && signer.KID == kid {
		a := succession(now, sound, k)
		if a.do == create && fresh.KID == "" {
			return SigningKey{}, audit.Event{}, errNoSuccessor
		}
		next := a.apply(now, sound, fresh)
		return next, a.event(next), nil
	}
	k.RevokedAt = stamp(now)
	return k, action{revoke, kid, now}.event(k), nil
}

// succession makes another key than the signer sign from now on.
func succession(now time.Time, keys []SigningKey, signer SigningKey) action {
	if soonest := signer.SignsFrom.Add(time.Microsecond); now.Before(soonest) {
		now = soonest // a key that signs from the same instant would not be newer
	}
	if next := standby(now, keys, signer.KID); next != nil {
		return action{promote, next.KID, now}
	}
	return action{create, "", now}
}

// stamp is a time as the database keeps it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// apply is the record as an action leaves it. fresh is the key for create.
func (a action) apply(now time.Time, keys []SigningKey, fresh SigningKey) SigningKey {
	if a.do == create {
		fresh.CreatedAt, fresh.SignsFrom = stamp(now), stamp(a.at)
		return fresh
	}
	var k SigningKey
	for i := range keys {
		if keys[i].KID == a.kid {
			k = keys[i]
		}
	}
	switch a.do {
	case promote:
		k.SignsFrom = stamp(a.at)
	case retire:
		k.RetiresAt = stamp(a.at)
	case destroy:
		k.Private = nil
	}
	return k
}

// event is the log entry of an action on the platform's log. What can make a token refused alters decisions.
func (a action) event(k SigningKey) audit.Event {
	ev := audit.Event{
		Type:   "signing_key." + string(a.do),
		Target: audit.Target{Kind: "signing_key", ID: k.KID},
		Public: []audit.Field{{Name: "algorithm", Value: k.Algorithm}, {Name: "at", Value: stamp(a.at).Format(time.RFC3339Nano)}},
		Alters: a.do == revoke,
	}
	if k.made != (reference{}) {
		ev.Public = append(ev.Public, audit.Field{Name: "held_in", Value: k.made.KMS}, audit.Field{Name: "kms_key", Value: k.made.Key})
	}
	if k.Use != useToken {
		ev.Public = append(ev.Public, audit.Field{Name: "use", Value: k.Use})
	}
	return ev
}
