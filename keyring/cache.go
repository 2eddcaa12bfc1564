package keyring

import (
	"sync"
	"time"
)

// keyLife is how long an unwrapped key is used without asking the key store again: what one server destroys, the others
// stop using within this time.
const keyLife = 30 * time.Second

// over reports whether a time has come, by the clock that runs while the machine is suspended or by the one that nobody sets: a machine that
// wakes up must not go on with what was left to it, nor one whose clock was set back.
func over(now, end time.Time) bool {
	return !now.Before(end) || !now.Round(0).Before(end.Round(0))
}

// cache holds at most 2*limit values, each for at most life. It has two halves: when the young half is full it becomes
// the old one, and what is still used moves back, so that a scan cannot push out everything at once.
type cache[K comparable, V any] struct {
	limit int
	life  time.Duration

	mu         sync.RWMutex
	young, old map[K]timed[V]
	drops      uint64
}

type timed[V any] struct {
	value V
	since time.Time
}

func newCache[K comparable, V any](limit int, life time.Duration) *cache[K, V] {
	return &cache[K, V]{limit: limit, life: life, young: map[K]timed[V]{}}
}

func (c *cache[K, V]) get(k K, now time.Time) (V, bool) {
	c.mu.RLock()
	t, young := c.young[k]
	ok := young
	if !young {
		t, ok = c.old[k]
	}
	drops := c.drops
	c.mu.RUnlock()
	if !ok || over(now, t.since.Add(c.life)) {
		var none V
		return none, false
	}
	if !young {
		c.put(k, t, drops)
	}
	return t.value, true
}

// mark is taken before a value is loaded and given to put with it: a drop in between makes the put do nothing, so that a
// key read just before its destruction does not stay.
func (c *cache[K, V]) mark() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.drops
}

func (c *cache[K, V]) put(k K, t timed[V], mark uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drops != mark {
		return
	}
	if _, there := c.young[k]; !there && len(c.young) >= c.limit {
		c.old, c.young = c.young, make(map[K]timed[V], c.limit)
	}
	delete(c.old, k)
	c.young[k] = t
}

// drop forgets all that match, and whatever is being loaded.
func (c *cache[K, V]) drop(match func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	for _, half := range []map[K]timed[V]{c.young, c.old} {
		for k := range half {
			if match(k) {
				delete(half, k)
			}
		}
	}
}

// sweep forgets what is used no more because its time is over.
func (c *cache[K, V]) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, half := range []map[K]timed[V]{c.young, c.old} {
		for k, t := range half {
			if over(now, t.since.Add(c.life)) {
				delete(half, k)
			}
		}
	}
}

func (c *cache[K, V]) size() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.young) + len(c.old)
}
