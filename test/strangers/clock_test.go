package strangers

import (
	"sync/atomic"
	"time"
)

// stillness is how long this process did not run because the machine stood: was frozen, or moved to another host. Only whole seconds
// in a piece are that. Shorter gaps are made by hashes too, of which a measure is not to be rid.
type stillness struct {
	stood atomic.Int64
	stop  chan struct{}
}

const (
	beat  = 10 * time.Millisecond
	frost = time.Second
)

func watch() *stillness {
	s := &stillness{stop: make(chan struct{})}
	go func() {
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
			now := time.Now()
			if gap := now.Sub(last); gap >= frost {
				s.stood.Add(int64(gap))
			}
			last = now
		}
	}()
	return s
}

func (s *stillness) total() time.Duration { return time.Duration(s.stood.Load()) }
func (s *stillness) end()                 { close(s.stop) }
