package guessed

import (
	"testing"

	"pgregory.net/rapid"
)

// TestParts: to append characters never makes a text less to guess than its own length allows, and random ones are counted each.
func TestParts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := Fold(rapid.String().Draw(t, "text"))
		n := parts(text, nil)
		if n < 0 || n > min(len(text), mostJudged) || n == 0 && len(text) > 0 {
			t.Fatalf("%d parts of %d characters", n, len(text))
		}
		if more := parts(append(text, 'q'), nil); more > n+1 {
			t.Fatalf("one character more makes %d parts of %d", more, n)
		}
	})
}
