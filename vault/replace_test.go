package vault

import (
	"testing"

	"github.com/avouch-dev/avouch/internal/problem"
)

// TestReplaceByTheSame: the secret that an item keeps is not replaced by itself, which nothing would come of; with another scheme it is another,
// and recovery codes are given out anew.
func TestReplaceByTheSame(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, k := range []Kind{TOTP, HOTP, Steam, Secret, Codes} {
		i := h.put(t, seedOf(k))
		_, err := h.Replace(t.Context(), h.boss, i.ID, `"7"`, seedOf(k).content, 0)
		if p := problem.Of(err); p == nil || p.Status != 412 {
			t.Errorf("%s, of another version: %v", k, err)
		}
		_, err = h.Replace(t.Context(), h.boss, i.ID, "", seedOf(k).content, 0)
		if k == Codes {
			must(t, err)
			continue
		}
		refused(t, string(k), err, problem.Invalid, "Nothing was replaced")
		if p := problem.Of(err); len(p.Fields) != 1 || p.Fields[0].Location != "body.secret" {
			t.Errorf("%s: %+v", k, p)
		}
		if k == Steam || k == Secret {
			continue
		}
		other := seedOf(k)
		other.content.Digits = 8
		_, err = h.Replace(t.Context(), h.boss, i.ID, "", other.content, 0)
		must(t, err)
	}
	if n := h.given(t, replaced); n != 3 {
		t.Errorf("%d were replaced", n)
	}
}
