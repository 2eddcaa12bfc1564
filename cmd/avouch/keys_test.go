package main

import "testing"

// TestKeysLeft: what a revocation says of the keys that came from the key, of which no more than a number are counted.
func TestKeysLeft(t *testing.T) {
	t.Parallel()
	const todo = " that came from it: avouch keys list --made-by abc; avouch keys revoke abc --children ends them"
	for n, want := range map[int64]string{0: "", 1: "1 key" + todo, 999: "999 keys" + todo, 1000: "at least 1,000 keys" + todo} {
		if got := (keyView{KeyID: "abc", Left: n}).left(); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}
