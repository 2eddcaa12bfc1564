package rotation

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/keyring"
)

// machine is values that two servers read and write, and rotations in which workers die, against what the values should be.
type machine struct {
	*scene
	t      *rapid.T
	tb     *testing.T
	rings  []*keyring.Ring
	texts  map[string]string
	fields map[int][]byte // of people who were not erased
	erased [][]byte
	flying []flight
}

// flight is a value that is sealed and not written yet.
type flight struct {
	key, text string
	sealed    []byte
	at        time.Time
}

func (m *machine) ring() *keyring.Ring { return rapid.SampledFrom(m.rings).Draw(m.t, "server") }
func (m *machine) key() string         { return fmt.Sprint(rapid.IntRange(0, 9).Draw(m.t, "key")) }

// write seals now and writes at once, or later.
func (m *machine) write() {
	key, text := m.key(), fmt.Sprint(rapid.Uint16().Draw(m.t, "text"))
	sealed := m.seal(m.tb, m.ring(), "key:a "+key, text)
	if rapid.Bool().Draw(m.t, "later") {
		m.flying = append(m.flying, flight{key, text, sealed, m.clock.now()})
		return
	}
	m.land(m.tb, key, sealed)
	m.texts[key] = text
}

// arrive writes what was sealed up to a quarter of an hour ago.
func (m *machine) arrive() {
	for _, f := range m.flying {
		if m.clock.now().Sub(f.at) < 15*time.Minute {
			m.land(m.tb, f.key, f.sealed)
			m.texts[f.key] = f.text
		}
	}
	m.flying = nil
}

func (m *machine) person() {
	n := rapid.IntRange(0, 3).Draw(m.t, "person")
	b, err := m.ring().SealFields(m.tb.Context(), m.tenant, person(n), fmt.Append(nil, n), nil)
	must(m.tb, err)
	m.fields[n] = b
}

func (m *machine) erase() {
	n := rapid.IntRange(0, 3).Draw(m.t, "person")
	must(m.tb, m.rings[0].DestroySubject(m.tb.Context(), m.tenant, person(n)))
	m.rings[1].Forget(m.tenant, person(n)) // as it would within 30 seconds
	if b, ok := m.fields[n]; ok {
		m.erased = append(m.erased, b)
		delete(m.fields, n)
	}
}

func (m *machine) rotate() {
	_, err := m.room.Begin(m.tb.Context(), m.by)
	must(m.tb, err)
}

// turn is a worker that goes on, and may die on the way.
func (m *machine) turn() {
	dies := rapid.IntRange(0, 12).Draw(m.t, "dies after")
	room := *m.room
	room.cfg.at = func(string) {
		if dies--; dies == 0 {
			runtime.Goexit()
		}
	}
	done := make(chan error, 1)
	go func() {
		defer close(done)
		_, _, err := room.Work(m.tb.Context(), m.by, nil)
		done <- err
	}()
	must(m.tb, <-done)
	time.Sleep(2 * time.Millisecond) // its lease
}

func (m *machine) check() {
	for _, r := range m.rings {
		for key, text := range m.texts {
			m.open(m.tb, r, "key:a "+key, text, answerOf, key)
		}
		for n, b := range m.fields {
			if got, err := r.OpenFields(m.tb.Context(), m.tenant, person(n), b, nil); err != nil || string(got) != fmt.Sprint(n) {
				m.t.Fatalf("person %d: %q, %v", n, got, err)
			}
		}
	}
}

// end goes on until nothing is left to do, and looks what is left.
func (m *machine) end() {
	m.flying = nil
	m.finish(m.tb)
	m.rings = []*keyring.Ring{m.RingAt(m.tb, m.clock.now)}
	m.check()
	for n := range 4 {
		for _, b := range m.erased {
			if got, err := m.rings[0].OpenFields(m.tb.Context(), m.tenant, person(n), b, nil); err == nil {
				m.t.Fatalf("what was erased opens: %q", got)
			}
		}
	}
	live, last := m.versions(m.tb, keyring.UseWrap)
	if live != last || m.older(m.tb, live) != 0 {
		m.t.Fatalf("version %d of %d, and %d values under others", live, last, m.older(m.tb, live))
	}
	for v := uint32(1); v < live; v++ {
		old := append(keyring.SealedPrefix(v), bytes.Repeat([]byte{0}, 120)...)
		old[len(keyring.SealedPrefix(v))+1] = 60 // of the wrapped key
		if _, err := m.rings[0].Open(m.tb.Context(), m.tenant, "x", "field", 1, old); !errors.Is(err, keyring.ErrDestroyed) {
			m.t.Fatalf("version %d: %v", v, err)
		}
	}
	if len(m.raised) > 0 {
		m.t.Fatalf("told: %q", m.raised)
	}
}

// TestRotationModel: whatever comes when, on whichever server, every value opens at every moment, what was erased never again, and in
// the end nothing is under an old version and none is left.
func TestRotationModel(t *testing.T) {
	t.Parallel()
	s := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		s.inside(s.Tenant(t, "Acme"))
		m := &machine{scene: s, t: rt, tb: t, rings: []*keyring.Ring{s.RingAt(t, s.clock.now), s.RingAt(t, s.clock.now)}, texts: map[string]string{}, fields: map[int][]byte{}}
		rt.Repeat(map[string]func(*rapid.T){
			"write":      func(*rapid.T) { m.write() },
			"write more": func(*rapid.T) { m.write() },
			"arrive":     func(*rapid.T) { m.arrive() },
			"person":     func(*rapid.T) { m.person() },
			"erase":      func(*rapid.T) { m.erase() },
			"rotate":     func(*rapid.T) { m.rotate() },
			"work":       func(*rapid.T) { m.turn() },
			"work more":  func(*rapid.T) { m.turn() },
			"tick": func(*rapid.T) {
				m.clock.advance(rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 35 * 24 * time.Hour}).Draw(rt, "time"))
			},
			"": func(*rapid.T) { m.check() },
		})
		m.end()
	})
}
