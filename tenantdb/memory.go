package tenantdb

import (
	"sync"
)

// headMemory holds what was last seen of heads. Nothing is decided from it: an epoch that it has wrong is refused by the
// append, and a size only bounds a search.
type headMemory struct {
	mu    sync.Mutex
	heads map[TenantID]Head
	sizes map[TenantID]int64
}

// memoryLimit bounds the tenants remembered; forgetting them all costs each one read.
const memoryLimit = 100_000

func (m *headMemory) get(t TenantID) (Head, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.heads[t]
	return h, ok
}

func (m *headMemory) put(h Head) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heads == nil || len(m.heads) >= memoryLimit {
		m.heads = map[TenantID]Head{}
	}
	m.heads[h.Tenant] = h
}

// remember keeps the sizes of a batch that is committed, and notes whether others have appended since the last one.
func (db *DB) remember(w *batchWork) {
	db.heads.mu.Lock()
	defer db.heads.mu.Unlock()
	w.shared = false
	if db.heads.sizes == nil || len(db.heads.sizes) >= memoryLimit {
		db.heads.sizes = map[TenantID]int64{}
	}
	for _, r := range w.rows {
		if !r.counter {
			t := w.tenants[r.index]
			w.shared = w.shared || db.heads.sizes[t] != r.b
			db.heads.sizes[t] = r.b + r.n
		}
	}
}

// known are sizes that the tenants' logs have had for certain: what is sent from now on stands behind them.
func (db *DB) known(tenants []TenantID) map[TenantID]int64 {
	db.heads.mu.Lock()
	defer db.heads.mu.Unlock()
	floors := make(map[TenantID]int64, len(tenants))
	for _, t := range tenants {
		floors[t] = db.heads.sizes[t]
	}
	return floors
}

func (db *DB) forget(drafts []*Draft) {
	db.heads.mu.Lock()
	defer db.heads.mu.Unlock()
	for _, d := range drafts {
		delete(db.heads.heads, d.head.Tenant)
	}
}
