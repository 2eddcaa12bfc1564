package id

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

type thing struct{}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	x := New[thing]()
	y, err := Parse[thing](x.String())
	if err != nil || x != y {
		t.Fatalf("Parse(%q) = %v, %v", x, y, err)
	}
	b, err := json.Marshal(map[string]ID[thing]{"id": x})
	if err != nil || string(b) != `{"id":"`+x.String()+`"}` {
		t.Fatalf("json: %s, %v", b, err)
	}
	if x[6]>>4 != 7 || x[8]>>6 != 2 {
		t.Errorf("%s is not a version 7 UUID of the RFC 9562 variant", x)
	}
}

func TestOrderedByTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 6, 30, 0, 5e6, time.UTC)
	a, b := At[thing](at), At[thing](at.Add(time.Millisecond))
	if bytes.Compare(a[:], b[:]) >= 0 {
		t.Errorf("%s is not before %s", a, b)
	}
	if !a.Time().Equal(at) {
		t.Errorf("Time = %v, want %v", a.Time(), at)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "x", "0190163D-8694-739B-AEA5-966C26F8AD91", "{0190163d-8694-739b-aea5-966c26f8ad91}",
		"0190163d8694739baea5966c26f8ad91", "0190163d-8694-739b-aea5-966c26f8ad9g", "0190163d-8694-739b-aea5-966c26f8ad911"} {
		if _, err := Parse[thing](s); err == nil {
			t.Errorf("Parse(%q) succeeded", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0190163d-8694-739b-aea5-966c26f8ad91")
	f.Fuzz(func(t *testing.T, s string) {
		if x, err := Parse[thing](s); err == nil && x.String() != s {
			t.Errorf("Parse(%q).String() = %q", s, x)
		}
	})
}
