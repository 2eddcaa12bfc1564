package trail

import (
	"sync"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// slots bounds how many long answers are under way, of one tenant and in all.
type slots struct {
	mu        sync.Mutex
	perTenant int
	all       int
	taken     map[tenantdb.TenantID]int
	sum       int
}

func newSlots(perTenant, all int) *slots {
	return &slots{perTenant: perTenant, all: all, taken: map[tenantdb.TenantID]int{}}
}

// take gives a slot, to be given back by the function that comes with it, or says that there is none.
func (s *slots) take(t tenantdb.TenantID) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sum >= s.all || s.taken[t] >= s.perTenant {
		p := problem.New(problem.TooMany, "As many of these are open as may be at a time: at most %d of an organisation.", s.perTenant)
		p.RetryAfter = 10 * time.Second
		return nil, p
	}
	s.taken[t]++
	s.sum++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sum--
		if s.taken[t]--; s.taken[t] == 0 {
			delete(s.taken, t)
		}
	}, nil
}
