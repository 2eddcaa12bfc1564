package tenantdb

import (
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
)

func TestFreshProof(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for proved, fresh := range map[time.Time]bool{
		now: true, now.Add(-FreshProof): true, now.Add(FreshProof): true, // another server's clock may be ahead
		now.Add(-FreshProof - 1): false, now.Add(FreshProof + 1): false, {}: false, now.AddDate(1000, 0, 0): false,
	} {
		err := Person{ProvedAt: proved}.Fresh(now)
		if fresh != (err == nil) || !fresh && (!problem.Is(err, problem.Denied) || !strings.HasPrefix(problem.Of(err).Detail, "Prove yourself again")) {
			t.Errorf("proved at %v, now %v: %v", proved, now, err)
		}
	}
}
