package keyring

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 11, 22, 6, 30, 0, 0, time.UTC)

// keyLifeModel is an installation's signing keys over years: servers with clocks a little apart, a rotation job that is
// late or dies half-way, operators who revoke.
type keyLifeModel struct {
	now    time.Time
	keys   []SigningKey
	made   int
	tokens []issued
	urgent map[string]bool // keys that could not be published ahead: the first, and successors in an emergency
}

type issued struct {
	kid     string
	expires time.Time
}

func (m *keyLifeModel) fresh() SigningKey {
	m.made++
	return SigningKey{KID: fmt.Sprintf("key-%d", m.made), Algorithm: ES256, Use: useToken, Private: []byte{1}}
}

func (m *keyLifeModel) put(k SigningKey) {
	if signerAt(m.now, m.keys) == nil {
		m.urgent[k.KID] = true
	}
	i := slices.IndexFunc(m.keys, func(o SigningKey) bool { return o.KID == k.KID })
	if i < 0 {
		m.keys = append(m.keys, k)
		i = len(m.keys) - 1
	}
	m.keys[i] = k
}

// rotate does at most steps actions, and reports whether all was done.
func (m *keyLifeModel) rotate(steps int) bool {
	for range steps {
		todo := plan(m.now, m.keys)
		if len(todo) == 0 {
			return true
		}
		m.put(todo[0].apply(m.now, m.keys, m.fresh()))
	}
	return len(plan(m.now, m.keys)) == 0
}

func (m *keyLifeModel) sign(skew time.Duration) {
	clock := m.now.Add(skew)
	if k := signerAt(clock, m.keys); k != nil {
		m.tokens = append(m.tokens, issued{k.KID, clock.Add(MaxTokenLife)})
	}
}

// revoke takes the steps of Signing.Revoke, maybe not to the end.
func (m *keyLifeModel) revoke(kid string, steps int) error {
	for range steps {
		k, _, err := revocation(m.now, m.keys, m.keys, kid, m.fresh())
		if err != nil {
			return err
		}
		emergency := k.KID != kid
		m.put(k)
		if emergency {
			m.urgent[k.KID] = true
		}
		m.now = m.now.Add(2 * time.Microsecond)
	}
	return nil
}

func (m *keyLifeModel) find(kid string) *SigningKey {
	return &m.keys[slices.IndexFunc(m.keys, func(k SigningKey) bool { return k.KID == kid })]
}

// check is what must hold at every instant.
func (m *keyLifeModel) check(t *rapid.T) {
	if len(m.keys) == 0 {
		return
	}
	for _, skew := range []time.Duration{0, -30 * time.Second, 30 * time.Second} {
		signer := signerAt(m.now.Add(skew), m.keys)
		if signer == nil {
			t.Fatalf("nobody signs at %v%+v: %+v", m.now, skew, m.keys)
		}
		if !signer.published(m.now) {
			t.Fatalf("%s signs and is not published", signer.KID)
		}
	}
	for _, tok := range m.tokens {
		if k := m.find(tok.kid); !k.revoked() && (!k.RetiresAt.IsZero() && k.RetiresAt.Before(tok.expires) || k.destroyed() && m.now.Before(tok.expires)) {
			t.Fatalf("%s is unpublished at %v (destroyed: %v), and a token of it expires at %v", tok.kid, k.RetiresAt, k.destroyed(), tok.expires)
		}
	}
	for _, k := range m.keys {
		if !m.urgent[k.KID] && k.SignsFrom.Sub(k.CreatedAt) < PublishAhead {
			t.Fatalf("%s is made at %v and signs from %v", k.KID, k.CreatedAt, k.SignsFrom)
		}
		if k.revoked() && k.published(m.now) {
			t.Fatalf("%s is revoked and published", k.KID)
		}
	}
}

func TestRotationHoldsAtEveryInstant(t *testing.T) {
	t.Parallel()
	spans := []time.Duration{time.Microsecond, 20 * time.Second, time.Hour, 23 * time.Hour, 25 * time.Hour, 26 * time.Hour, 60 * 24 * time.Hour, 100 * 24 * time.Hour}
	rapid.Check(t, func(t *rapid.T) {
		m := &keyLifeModel{now: start, urgent: map[string]bool{}}
		t.Repeat(map[string]func(*rapid.T){
			"": m.check,
			"advance": func(t *rapid.T) {
				most := rapid.SampledFrom(spans).Draw(t, "span")
				m.now = m.now.Add(time.Duration(rapid.Int64Range(1, int64(most)).Draw(t, "advance")))
			},
			"rotate": func(t *rapid.T) {
				if !m.rotate(maxSteps + len(m.keys)) {
					t.Fatalf("the plan has no end: %v", plan(m.now, m.keys))
				}
				if s := standby(m.now, m.keys, signerAt(m.now, m.keys).KID); s == nil {
					t.Fatalf("no standby after a rotation")
				}
			},
			"rotate one step": func(*rapid.T) { m.rotate(1) },
			"sign": func(t *rapid.T) {
				m.sign(time.Duration(rapid.Int64Range(int64(-30*time.Second), int64(30*time.Second)).Draw(t, "skew")))
			},
			"revoke": func(t *rapid.T) {
				if len(m.keys) > 0 {
					kid := rapid.SampledFrom(m.keys).Draw(t, "key").KID
					if err := m.revoke(kid, rapid.IntRange(1, 4).Draw(t, "steps")); err != nil && err != ErrRevokedKey {
						t.Fatal(err)
					}
				}
			},
		})
	})
}

func TestFirstKeySignsAtOnce(t *testing.T) {
	t.Parallel()
	m := &keyLifeModel{now: start, urgent: map[string]bool{}}
	if !m.rotate(10) || len(m.keys) != 2 {
		t.Fatalf("first rotation made %+v", m.keys)
	}
	if s := signerAt(start, m.keys); s == nil || s.KID != "key-1" || !s.SignsFrom.Equal(start) {
		t.Errorf("signer is %+v", s)
	}
	if s := m.keys[1]; !s.SignsFrom.Equal(start.Add(SignFor)) || !s.published(start) {
		t.Errorf("standby is %+v", s)
	}
}

func TestSuccessionByTheClock(t *testing.T) {
	t.Parallel()
	m := &keyLifeModel{now: start, urgent: map[string]bool{}}
	m.rotate(10)
	first, second := m.keys[0].KID, m.keys[1].KID
	m.now = start.Add(SignFor - time.Microsecond)
	if s := signerAt(m.now, m.keys); s.KID != first {
		t.Errorf("%s signs before its time", s.KID)
	}
	m.now = start.Add(SignFor)
	if s := signerAt(m.now, m.keys); s.KID != second {
		t.Errorf("%s signs after its time, though no job has run", s.KID)
	}
	m.rotate(10)
	if k := m.find(first); !k.RetiresAt.Equal(start.Add(SignFor+MaxTokenLife+margin)) || !k.published(m.now) || k.destroyed() {
		t.Errorf("the first key just after: %+v", k)
	}
	m.now = m.now.Add(MaxTokenLife + margin)
	m.rotate(10)
	if k := m.find(first); k.published(m.now) || !k.destroyed() {
		t.Errorf("the first key a day later: %+v", k)
	}
}

func TestEmergencySuccessorWasPublished(t *testing.T) {
	t.Parallel()
	m := &keyLifeModel{now: start, urgent: map[string]bool{}}
	m.rotate(10)
	m.now = start.Add(10 * 24 * time.Hour)
	if err := m.revoke("key-1", 10); err != ErrRevokedKey {
		t.Fatal(err)
	}
	m.rotate(10)
	if s := signerAt(m.now, m.keys); s.KID != m.keys[1].KID || m.now.Sub(s.CreatedAt) < PublishAhead {
		t.Errorf("the successor is %+v: not the standby", s)
	}
	if k := m.find("key-1"); !k.revoked() || !k.destroyed() || k.published(m.now) {
		t.Errorf("the revoked key is %+v", k)
	}
}
