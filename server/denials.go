package server

import (
	"context"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// denials counts what was refused to nobody in particular, by address and kind, and writes the counts to the platform's
// log each minute: a flood of bad requests must not become a flood of entries.
type denials struct {
	db     *tenantdb.DB
	log    *slog.Logger
	mu     sync.Mutex
	counts map[denial]int
	since  time.Time
}

type denial struct {
	address netip.Addr
	kind    string
}

// mostDenials bounds the addresses counted apart in a minute; the rest are counted together.
const mostDenials = 1000

func newDenials(db *tenantdb.DB, log *slog.Logger) *denials {
	return &denials{db: db, log: log, counts: map[denial]int{}, since: time.Now()}
}

func (d *denials) add(a netip.Addr, kind string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := denial{a.Unmap(), kind}
	if _, known := d.counts[key]; !known && len(d.counts) >= mostDenials {
		key.address = netip.Addr{}
	}
	d.counts[key]++
}

// flush writes what has been counted. What cannot be written is counted on.
func (d *denials) flush(ctx context.Context) {
	d.mu.Lock()
	counts, since := d.counts, d.since
	d.counts, d.since = map[denial]int{}, time.Now()
	d.mu.Unlock()
	for k, n := range counts {
		address := "others"
		if k.address.IsValid() {
			address = k.address.String()
		}
		_, err := d.db.Record(ctx, tenantdb.System(tenantdb.Platform, "gate"), audit.Event{
			Type: "requests.refused", Outcome: audit.Denied, Target: audit.Target{Kind: "address"},
			Public:  []audit.Field{{Name: "kind", Value: k.kind}, {Name: "count", Value: strconv.Itoa(n)}, {Name: "since", Value: since.UTC().Format(time.RFC3339)}},
			Private: []audit.Field{{Name: "address", Value: address}},
		})
		if err != nil {
			d.log.ErrorContext(ctx, "refusals were not recorded", "kind", k.kind, "count", n, "error", err)
			d.mu.Lock()
			d.counts[k] += n
			d.mu.Unlock()
		}
	}
}
