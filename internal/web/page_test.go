package web

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"pgregory.net/rapid"
)

type listing struct {
	Things     []thing `json:"things"`
	NextCursor *string `json:"next_cursor"`
}

// TestPages: following next_cursor meets everything once, in order, and then it is absent.
func TestPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, limit := range []int{1, 7, 50, 119, 120, 121, 200} {
		seen, query := 0, fmt.Sprintf("?limit=%d", limit)
		for {
			r := b.ask("GET", "/api/v1/things"+query, "")
			var page listing
			if err := json.Unmarshal([]byte(bodyOf(t, r)), &page); err != nil || r.StatusCode != 200 {
				t.Fatalf("%d %v", r.StatusCode, err)
			}
			for _, th := range page.Things {
				if seen++; th.Count != seen {
					t.Fatalf("limit %d: %d comes after %d", limit, th.Count, seen-1)
				}
			}
			if page.NextCursor == nil {
				break
			}
			query = fmt.Sprintf("?limit=%d&cursor=%s", limit, *page.NextCursor)
		}
		if seen != 120 {
			t.Errorf("limit %d: %d of 120", limit, seen)
		}
	}
	var page listing
	if err := json.Unmarshal([]byte(bodyOf(t, b.ask("GET", "/api/v1/things?color=red&color=blue", ""))), &page); err != nil || len(page.Things) != 50 {
		t.Errorf("by default %d, want 50 (%v)", len(page.Things), err)
	}
}

type position struct {
	At time.Time `json:"at"`
	ID string    `json:"id"`
}

func TestCursorRefuses(t *testing.T) {
	t.Parallel()
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	good := cursor(position{time.Date(2026, 11, 22, 9, 0, 0, 5, time.UTC), "x"})
	for name, c := range map[string]string{
		"padded": good + "=", "standard alphabet": "+/+/", "not base64": "!", "cut off": good[:len(good)-1], "empty object": encode(`{}`),
		"number": encode(`5`), "unknown field": encode(`{"at":"2026-11-22T09:00:00Z","id":"x","z":1}`), "trailing": encode(`{"at":"2026-11-22T09:00:00Z","id":"x"}x`),
		"twice": encode(`{"at":"2026-11-22T09:00:00Z","id":"x","id":"y"}`), "spaced": encode(`{"at": "2026-11-22T09:00:00Z","id":"x"}`), "NUL": encode(`{"at":"2026-11-22T09:00:00Z","id":"\u0000"}`),
	} {
		if _, _, err := After[position](Page{Cursor: c}); !problem.Is(err, problem.Invalid) || problem.Of(err).Fields[0].Location != "query.cursor" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok, err := After[position](Page{}); ok || err != nil {
		t.Errorf("the first page: %v %v", ok, err)
	}
	if p, ok, err := After[position](Page{Cursor: good}); !ok || err != nil || p.ID != "x" || p.At.Nanosecond() != 5 {
		t.Errorf("%v %v %v", p, ok, err)
	}
}

// TestCursorRoundTrip: every position comes back as it was.
func TestCursorRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := position{time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC(), rapid.StringMatching(`[ -~äß€𝄞]{0,40}`).Draw(t, "id")}
		got, ok, err := After[position](Page{Cursor: cursor(want)})
		if err != nil || !ok || got != want {
			t.Fatalf("%v became %v (%v %v)", want, got, ok, err)
		}
	})
}

// FuzzCursor: any text is a position that encodes to itself, or a 400.
func FuzzCursor(f *testing.F) {
	f.Add(cursor(position{ID: "x"}))
	f.Add("bnVsbA")
	f.Add("e30=")
	f.Fuzz(func(t *testing.T, s string) {
		p, ok, err := After[position](Page{Cursor: s})
		if err != nil && problem.Of(err).HTTPStatus() != 400 {
			t.Fatalf("%q: %v", s, err)
		}
		if ok && cursor(p) != s {
			t.Fatalf("%q is read as %v, which is %q", s, p, cursor(p))
		}
	})
}

func TestCheckMatch(t *testing.T) {
	t.Parallel()
	for header, status := range map[string]int{
		`"7"`: 0, `*`: 0, `"6", "7"`: 0, ``: 0, ` "7" `: 0,
		`"6"`: 412, `W/"7"`: 412, `7`: 412, `"77"`: 412, `"7`: 412,
	} {
		err := CheckMatch(header, 7)
		if (err == nil) != (status == 0) || err != nil && problem.Of(err).HTTPStatus() != status {
			t.Errorf("%s: %v, want %d", header, err, status)
		}
	}
	for _, header := range []string{"*", `"0"`, `"1"`} {
		if err := CheckMatch(header, 0); !problem.Is(err, problem.Conflict) || problem.Of(err).HTTPStatus() != 412 {
			t.Errorf("%s of what is not there: %v", header, err)
		}
	}
	if err := CheckMatch("", 0); err != nil {
		t.Error(err)
	}
	if err := MustMatch("", 7); err == nil || problem.Of(err).HTTPStatus() != 428 {
		t.Errorf("without the header: %v", err)
	}
	if err := MustMatch(ETag(7), 7); err != nil {
		t.Error(err)
	}
	if err := CheckMatch(`"6"`, 7); !strings.Contains(err.Error(), `"7"`) {
		t.Errorf("it does not say the present version: %v", err)
	}
}

func TestNoRowsAreAnEmptyList(t *testing.T) {
	t.Parallel()
	rows, next := Cut(nil, 5, func(x int) int { return x })
	if b, err := json.Marshal(rows); string(b) != "[]" || err != nil || next.NextCursor != "" {
		t.Errorf("%s %v %v", b, err, next)
	}
}
