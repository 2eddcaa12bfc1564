package apikey

import (
	"sync"
	"time"
)

// recent remembers outcomes by the SHA-256 of the key that they are of, so it holds no key. It has two halves: when the
// young one is full it becomes the old one, so a flood of new keys pushes out what is not used and nothing else.
type recent[V any] struct {
	limit int
	life  time.Duration

	mu         sync.Mutex
	young, old map[[32]byte]stamped[V]
}

type stamped[V any] struct {
	value V
	since time.Time
}

const (
	recentKeys = 32 << 10 // in each half
	// knownLife bounds how long an identity outlives the destruction of the secrets that proved it.
	knownLife = 30 * time.Second
	// unknownLife could be for ever: see Identify.
	unknownLife = 10 * time.Minute
)

func newRecent[V any](limit int, life time.Duration) *recent[V] {
	return &recent[V]{limit: limit, life: life, young: map[[32]byte]stamped[V]{}}
}

func (m *recent[V]) get(sum [32]byte, now time.Time) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.young[sum]
	if !ok {
		if s, ok = m.old[sum]; ok {
			m.keep(sum, s)
		}
	}
	if !ok || now.Sub(s.since) >= m.life {
		var none V
		return none, false
	}
	return s.value, true
}

// had reports whether there is an outcome, however old.
func (m *recent[V]) had(sum [32]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, young := m.young[sum]
	_, old := m.old[sum]
	return young || old
}

func (m *recent[V]) put(sum [32]byte, v V, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(sum, stamped[V]{v, now})
}

func (m *recent[V]) keep(sum [32]byte, s stamped[V]) {
	if len(m.young) >= m.limit {
		m.old, m.young = m.young, make(map[[32]byte]stamped[V], m.limit)
	}
	m.young[sum] = s
}
