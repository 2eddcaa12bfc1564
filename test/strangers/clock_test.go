package strangers

import (
	"sync/atomic"
	"time"
)

// stillness is how long this process did not run although it could have, as on a machine that others use or that was frozen. What
// is promised within seconds is promised of a machine that runs.
type stillness struct {
	stood atomic.Int64
	stop  chan struct{}
}

const beat = 10 * time.Millisecond

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
			if late := now.Sub(last) - 2*beat; late > 0 {
				s.stood.Add(int64(late))
			}
			last = now
		}
	}()
	return s
}

func (s *stillness) total() time.Duration { return time.Duration(s.stood.Load()) }
func (s *stillness) end()                 { close(s.stop) }
