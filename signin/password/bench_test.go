package password

import (
	"testing"

	"github.com/avouch-dev/avouch/internal/guessed"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// BenchmarkHash is how long somebody waits for a hash, one after another: with what it takes to give its memory back.
func BenchmarkHash(b *testing.B) {
	ring, id := newRing(b)
	r := New(Config{Ring: ring, Permits: 1})
	for b.Loop() {
		_, err := r.Hash(b.Context(), Stranger, id, tenantdb.PersonID{1}, secret.Text("correct horse battery staple"))
		must(b, err)
	}
}

// BenchmarkCheck is the judgement of a long password by the built-in list and its rules.
func BenchmarkCheck(b *testing.B) {
	long := ""
	for i := range MostBytes {
		long += string(rune('a' + i*i*7%26))
	}
	for b.Loop() {
		guessed.Common(long)
	}
}
