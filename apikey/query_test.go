package apikey

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parsed(t testing.TB, text string) Query {
	t.Helper()
	q, err := ParseQuery(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return q
}

// TestQueries reads as sentences: who was granted what may do what is asked for.
func TestQueries(t *testing.T) {
	t.Parallel()
	allow := func(granted, query string) {
		t.Helper()
		q := parsed(t, query)
		if m := q.Missing(strings.Fields(granted)); !q.Holds(strings.Fields(granted)) || len(m) > 0 {
			t.Errorf("granted %s, %s does not hold; missing is %v", granted, query, m)
		}
	}
	deny := func(granted, query string, missing ...string) {
		t.Helper()
		q := parsed(t, query)
		if m := q.Missing(strings.Fields(granted)); q.Holds(strings.Fields(granted)) || !slices.Equal(m, missing) {
			t.Errorf("granted %s, %s holds or misses %v, not %v", granted, query, m, missing)
		}
	}
	allow("", "")
	allow("", " \t\r\n")
	allow("a", "a")
	deny("", "a", "a")
	deny("A", "a", "a")
	deny("a:b", "a", "a")
	deny("a", "a:b", "a:b")

	allow("a b", "a AND b")
	deny("a", "a AND b", "b")
	allow("b", "a OR b")
	deny("c", "a OR b", "a")
	allow("c", "a AND b OR c")
	allow("a b", "a AND b OR c")
	deny("b", "a AND b OR c", "a")
	deny("", "a AND b OR c", "c")
	deny("c", "a AND (b OR c)", "a")
	allow("a c", "a AND (b OR c)")
	allow("a c", "a and (b Or c)")
	allow("a c", "(a)and((b)or(c))")
	deny("a", "(a AND b AND c) OR (a AND d)", "d")
	deny("", "a AND a AND (b OR a)", "a", "b")
	deny("", "b AND a", "a", "b")
	allow("android order", "android AND order")

	allow("documents:*", "documents:read")
	allow("documents:*", "documents:read:own")
	allow("documents.*", "documents.read")
	allow("a/b/*", "a/b/c")
	allow("documents:*", "documents:*")
	allow("documents:*", "documents:read:*")
	allow("*", "documents:* AND *")
	allow("*", "a.b/c:d")
	deny("documents:*", "documents", "documents")
	deny("documents:*", "documents:", "documents:")
	deny("documents:*", "documents.read", "documents.read")
	deny("documents:*", "documentsread", "documentsread")
	deny("documents:*", "Documents:read", "Documents:read")
	deny("documents:read documents:write", "documents:*", "documents:*")
	deny("documents:read:*", "documents:*", "documents:*")
	deny("documents:* a", "*", "*")

	// What was granted and is no scope gives nothing away.
	deny("doc* *:read documents:*:read **", "documents:read", "documents:read")
	deny("doc*", "documents:read OR *", "documents:read")
}

// TestUnfitQueries: each is refused at the byte where it goes wrong, and nothing of it is quoted.
func TestUnfitQueries(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat("(", n) + "a" + strings.Repeat(")", n) }
	many := func(n int) string { return strings.Repeat("a AND ", n-1) + "a" }
	// Twenty joints, of which nineteen save two spaces.
	tight := func(n int) string {
		return strings.Repeat("("+strings.Repeat("a", 30)+" or b)and", 20) + "(" + strings.Repeat("c", n-20*40-2) + ")"
	}
	for text, want := range map[string]string{
		"a b":                           "at byte 3: expected AND, OR or the end",
		"a AND":                         "at byte 6: expected a scope or (",
		"a AND ":                        "at byte 7: expected a scope or (",
		"AND a":                         "at byte 1: expected a scope or (",
		"a OR OR b":                     "at byte 6: expected a scope or (",
		"a AND and":                     "at byte 7: expected a scope or (",
		"()":                            "at byte 2: expected a scope or (",
		"(a":                            "at byte 3: expected AND, OR or )",
		"(a b":                          "at byte 4: expected AND, OR or )",
		"a)":                            "at byte 2: expected AND, OR or the end",
		"a NOT b":                       "at byte 3: expected AND, OR or the end",
		"a && b":                        "at byte 3: expected a scope, AND, OR or a parenthesis: this character can be in none",
		"a\x00":                         "at byte 2: expected a scope, AND, OR or a parenthesis: this character can be in none",
		"read:é":                        "at byte 6: expected a scope, AND, OR or a parenthesis: this character can be in none",
		"x OR doc*":                     "at byte 6: expected a scope: it has a * that is not the whole last part, as in documents:* or *",
		"a:*:b":                         "at byte 1: expected a scope: it has a * that is not the whole last part, as in documents:* or *",
		strings.Repeat("a", 257):        "at byte 1: expected a scope: it has more than 256 bytes",
		deep(20):                        "",
		deep(21):                        "at byte 21: expected a scope: parentheses nest at most 20 deep",
		many(50):                        "",
		tight(962):                      "",
		tight(963):                      "at byte 964: expected less: with spaces around AND and OR it has more than 1000 bytes",
		many(51):                        "at byte 301: expected the end: a query names at most 50 scopes",
		"a" + strings.Repeat(" ", 999):  "",
		"a" + strings.Repeat(" ", 1000): "at byte 1001: expected the end: a query has at most 1000 bytes",
		strings.Repeat("(", 1000):       "at byte 21: expected a scope: parentheses nest at most 20 deep",
		strings.Repeat("(", 1_000_000):  "at byte 1001: expected the end: a query has at most 1000 bytes",
	} {
		q, err := ParseQuery(text)
		shown := text[:min(len(text), 40)]
		var fault *QueryFault
		switch {
		case want == "" && err != nil, want != "" && (err == nil || err.Error() != want || !errors.As(err, &fault)):
			t.Errorf("%s: %v; want %s", shown, err, want)
		case err != nil && !reflect.DeepEqual(q, Query{}):
			t.Errorf("%s is refused and gives %v", shown, q)
		}
	}
}

func TestGrantedScopes(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"a", "*", "documents:*", "documents.*", "a/b/*", "https://example.com/auth/drive", "/v1/users", "A-b_c.9", ":", "::*", "android", "or.*",
		strings.Repeat("a", 256),
	} {
		if err := ParseScope(s); err != nil {
			t.Errorf("%s: it %v", s, err)
		}
	}
	for _, s := range []string{
		"", " ", "a b", "a\n", "a*", "doc*", "*:read", "documents:*:read", "**", "documents:**", "*.*", "a-*", "and", "OR", "aé", "é", "a(b", "a,b", "ŁŁ",
		"a\xff", strings.Repeat("a", 257),
	} {
		if ParseScope(s) == nil {
			t.Errorf("%q may be granted", s)
		}
	}
}

// truth decides a query in the plainest way: by rewriting its text, innermost parentheses first.
func truth(text string, granted []string) bool {
	for {
		end := strings.IndexByte(text, ')')
		if end < 0 {
			return flat(text, granted)
		}
		start := strings.LastIndexByte(text[:end], '(')
		verdict := "FALSE"
		if flat(text[start+1:end], granted) {
			verdict = "TRUE"
		}
		text = text[:start] + verdict + text[end+1:]
	}
}

func flat(text string, granted []string) bool {
	return slices.ContainsFunc(strings.Split(text, " OR "), func(all string) bool {
		return !slices.ContainsFunc(strings.Split(all, " AND "), func(scope string) bool {
			return scope != "TRUE" && (scope == "FALSE" || !slices.ContainsFunc(granted, func(g string) bool { return standsFor(g, scope) }))
		})
	})
}

// standsFor says by the scopes that there are, not by their text, whether a grant is enough: for a wildcard it must be for
// all that is beneath, which three names show that the grants of the test cannot list.
func standsFor(grant, scope string) bool {
	if above, ok := strings.CutSuffix(scope, "*"); ok {
		return standsFor(grant, above+"zzz") && standsFor(grant, above+"zzz:y") && standsFor(grant, above+".")
	}
	if above, ok := strings.CutSuffix(grant, "*"); ok {
		return strings.HasPrefix(scope, above) && scope != above
	}
	return grant == scope
}

func someScope() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "b", "a:b", "a:b:c", "a:*", "a:b:*", "*", "b.c", "b.*", "b:c"})
}

// someQuery draws the text of a query, and what remains of the names that it may have.
func someQuery(t *rapid.T, depth int) string {
	kind := rapid.IntRange(0, 3).Draw(t, "kind")
	if depth == 0 || kind == 0 {
		return someScope().Draw(t, "scope")
	}
	by := rapid.SampledFrom([]string{" AND ", " OR "}).Draw(t, "by")
	text := someQuery(t, depth-1) + by + someQuery(t, depth-1)
	if kind > 1 {
		return "(" + text + ")"
	}
	return text
}

func TestQueryProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := someQuery(t, 4)
		granted := rapid.SliceOfN(someScope(), 0, 4).Draw(t, "granted")
		q, err := ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		holds, missing := q.Holds(granted), q.Missing(granted)
		if holds != truth(text, granted) {
			t.Fatalf("granted %v, %s: %t", granted, text, holds)
		}
		if (len(missing) == 0) != holds || !q.Holds(slices.Concat(granted, missing)) {
			t.Fatalf("granted %v, %s is said to miss %v", granted, text, missing)
		}
		for _, m := range missing {
			if covered(granted, m) || !strings.Contains(text, m) {
				t.Fatalf("granted %v, %s is said to miss %s", granted, text, m)
			}
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "a", "a AND b OR c", "a AND (b OR c:*)", "((a or b))", "*", "a AND", "((((((((", "a\x00b", "AND", "and.or OR or.and"} {
		f.Add(s, "a c:*", "b")
	}
	f.Fuzz(func(t *testing.T, text, granted, more string) {
		q, err := ParseQuery(text)
		if err != nil {
			if fault := new(QueryFault); !errors.As(err, &fault) || fault.Byte < 1 || fault.Byte > len(text)+1 {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := ParseQuery(q.String())
		if err != nil || !reflect.DeepEqual(q, again) || again.String() != q.String() {
			t.Fatalf("%q is written %q, and read as %#v, %v", text, q, again, err)
		}
		before := strings.Fields(granted)
		after := slices.Concat(before, strings.Fields(more))
		if q.Holds(before) && !q.Holds(after) {
			t.Fatalf("%q holds with %v and no more with %v", q, before, after)
		}
		if q.Holds(before) != (len(q.Missing(before)) == 0) || !q.Holds(slices.Concat(before, q.Missing(before))) {
			t.Fatalf("%q with %v misses %v", q, before, q.Missing(before))
		}
	})
}
