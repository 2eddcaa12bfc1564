package audit

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCommitmentOpens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var fields []Field
		for range rapid.IntRange(1, 5).Draw(t, "n") {
			fields = append(fields, Field{rapid.StringMatching(`[a-z0-9_]{1,64}`).Draw(t, "name"), rapid.String().Draw(t, "value")})
		}
		sum, plain, err := Conceal(fields)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Reveal(plain, sum)
		if err != nil || len(got) != len(fields) || Commit([32]byte(plain[:32]), fields) != sum {
			t.Fatalf("Reveal = %v, %v", got, err)
		}
		for i := range got {
			if got[i] != fields[i] {
				t.Fatalf("field %d = %v; want %v", i, got[i], fields[i])
			}
		}
	})
}

func TestRevealRefuses(t *testing.T) {
	t.Parallel()
	fields := []Field{{"name", "Ada"}, {"note", "a\nb"}}
	sum, plain, err := Conceal(fields)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(plain) * 8 {
		b := bytes.Clone(plain)
		b[i/8] ^= 1 << (i % 8)
		if got, err := Reveal(b, sum); err == nil {
			t.Fatalf("bit %d changed, and it opened: %v", i, got)
		}
	}
	long := append(bytes.Clone(plain[:32]), 0x98, 0x02) // a head that is too long, for the same fields, with its own right sum
	long = append(long, plain[33:]...)
	for name, b := range map[string][]byte{"nothing": nil, "salt only": plain[:32], "short salt": plain[:31], "more": append(bytes.Clone(plain), 0),
		"cut": plain[:len(plain)-1], "no fields": append(bytes.Clone(plain[:32]), 0x80), "long head": long} {
		own := sum
		if len(b) > 32 {
			own = commit(b[:32], b[32:])
		}
		if got, err := Reveal(b, own); err == nil {
			t.Errorf("%s: opened as %v", name, got)
		}
	}
	sum[0] ^= 1
	if _, err := Reveal(plain, sum); err == nil {
		t.Error("opened for another commitment")
	}
}

func TestConcealRefuses(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string][]Field{
		"nothing": nil, "65 fields": make([]Field, 65), "no name": {{"", "x"}}, "a name with a space": {{"a b", "x"}},
		"not UTF-8": {{"a", "\xff"}}, "16 KiB": {{"a", strings.Repeat("x", MaxPrivate)}},
	} {
		if _, plain, err := Conceal(fields); err == nil || plain != nil {
			t.Errorf("%s: concealed", name)
		}
	}
}

// TestCommitmentsTellNothing: the same fields twice look like different ones.
func TestCommitmentsTellNothing(t *testing.T) {
	t.Parallel()
	fields := []Field{{"email", "ada@example.org"}}
	a, plainA, errA := Conceal(fields)
	b, plainB, errB := Conceal(fields)
	if errA != nil || errB != nil || a == b || bytes.Equal(plainA[:32], plainB[:32]) {
		t.Errorf("two commitments to the same fields are the same (%v, %v)", errA, errB)
	}
}

func TestDisclose(t *testing.T) {
	t.Parallel()
	e, plain := testEntry(1, 5)
	d, err := Disclose(e.Commitments[0], plain)
	if err != nil || !d.Matches(e.Commitments[0]) || d.Fields[1] != (Field{"name", "Ada"}) {
		t.Fatalf("Disclose = %+v, %v", d, err)
	}
	other, _ := testEntry(1, 6)
	if _, err := Disclose(other.Commitments[0], plain); err == nil || d.Matches(other.Commitments[0]) {
		t.Error("disclosed for another entry's commitment")
	}
	d.Fields[1].Value = "Eve"
	if d.Matches(e.Commitments[0]) {
		t.Error("other fields match the commitment")
	}
}
