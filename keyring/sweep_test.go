package keyring

import (
	"testing"
	"time"
)

// TestSweep: a key that nobody asks for is in memory no longer than it is used for.
func TestSweep(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := newCache[string, int](2, keyLife)
	for _, k := range []string{"a", "b", "c"} { // which fills the old half too
		c.put(k, timed[int]{1, now}, c.mark())
	}
	c.put("later", timed[int]{1, now.Add(keyLife / 2)}, c.mark())
	c.sweep(now.Add(keyLife - time.Nanosecond))
	if len(c.young)+len(c.old) != 4 {
		t.Errorf("swept too early: %d are left", len(c.young)+len(c.old))
	}
	c.sweep(now.Add(keyLife))
	if _, kept := c.get("later", now.Add(keyLife)); !kept || len(c.young)+len(c.old) != 1 {
		t.Errorf("%d are left", len(c.young)+len(c.old))
	}
}
