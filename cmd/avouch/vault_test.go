package main

import (
	"bytes"
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/internal/problem"
)

// kept are the secrets that testdata/dev/vault.txtar puts into the vault.
var kept = []string{"12345678901234567890", "a seed of somebody", "hush-7qx2mv9rlc4w"}

// forms are how a secret could be found in a text.
func forms(secret string) []string {
	b := []byte(secret)
	code32 := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
	return []string{
		secret, code32, strings.ToLower(code32), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
		base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
	}
}

// leaked are the forms of kept secrets that a text holds.
func leaked(text string) (found []string) {
	for _, secret := range kept {
		for _, form := range forms(secret) {
			if strings.Contains(text, form) {
				found = append(found, form)
			}
		}
	}
	return found
}

// vault CODE ARGUMENT...: the command ends with exactly this code, and neither its arguments nor what it prints hold a secret.
func vaultKeeps(ts *testscript.TestScript, _ bool, args []string) {
	if found := leaked(strings.Join(args, "\n")); found != nil {
		ts.Fatalf("the arguments hold %q", found)
	}
	exits(ts, false, append([]string{args[0], "avouch", "vault"}, args[1:]...))
	if found := leaked(ts.ReadFile("stdout") + ts.ReadFile("stderr") + ts.ReadFile("ttyout")); found != nil {
		ts.Fatalf("it prints %q", found)
	}
}

// echoes NAME: a host answers every request with what it was sent. Its address is in a variable.
func echoes(ts *testscript.TestScript, _ bool, args []string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		if _, err := body.ReadFrom(r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"login": "robot", "sent": r.Header.Get("Authorization"), "method": r.Method, "accept": r.Header.Get("Accept"), "body": body.String(),
		})
	}))
	ts.Defer(s.Close)
	ts.Setenv(args[0], s.URL)
}

// TestLeaksAreFound: what looks for secrets in the scripts finds one that is there.
func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"seed GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ.", "otpauth://totp/x?secret=gezdgnbvgy3tqojqgezdgnbvgy3tqojq", "31323334353637383930" + "31323334353637383930",
		"x12345678901234567890x", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "aHVzaC03cXgybXY5cmxjNHc",
	} {
		if leaked(text) == nil {
			t.Errorf("%q holds nothing", text)
		}
	}
	if found := leaked("755224 287082 an item called seed"); found != nil {
		t.Errorf("%q", found)
	}
	b, err := os.ReadFile("testdata/dev/vault.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range kept {
		if !slices.ContainsFunc(forms(secret), func(form string) bool { return strings.Contains(string(b), form) }) {
			t.Errorf("the script keeps no %q", secret)
		}
	}
}

// TestCountDown: one line, written again each second, as wide as the terminal lets it; the code stays whole.
func TestCountDown(t *testing.T) {
	t.Parallel()
	for _, width := range []int{80, 20, 4} {
		synctest.Test(t, func(t *testing.T) {
			var b bytes.Buffer
			begun := time.Now()
			if err := countDown(t.Context(), page{to: &b, width: width}, "123456", begun.Add(5*time.Second)); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took < 5*time.Second || took > 6*time.Second {
				t.Errorf("it took %s", took)
			}
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\r")[1:]
			if len(lines) != 6 || strings.Count(b.String(), "\n") != 1 {
				t.Errorf("%d lines: %q", len(lines), b.String())
			}
			for _, line := range lines {
				if !strings.HasPrefix(line, "123456  ") || columns(line) > max(width-1, 8) || columns(line) != columns(lines[0]) {
					t.Errorf("at width %d: %q", width, line)
				}
			}
			if first := lines[0]; width == 80 && (!strings.Contains(first, "####################") || !strings.Contains(first, "  5s")) || width == 80 && !strings.Contains(lines[5], "ended") {
				t.Errorf("%q ... %q", first, lines[5])
			}
		})
	}
}

// TestCountDownIsLeft: Ctrl-C leaves the line as it is.
func TestCountDownIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer stop()
		var b bytes.Buffer
		if err := countDown(ctx, page{to: &b, width: 80}, "123456", time.Now().Add(time.Minute)); err != nil || !strings.HasSuffix(b.String(), "58s \n") {
			t.Errorf("%v: %q", err, b.String())
		}
	})
}

func TestParseHours(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"mon-fri 08:00-18:00 Europe/Berlin": "mon,tue,wed,thu,fri 08:00-18:00 Europe/Berlin",
		"08:00-18:00 UTC":                   "08:00-18:00 UTC",
		"Fri-Mon,wed 22:00-06:00 UTC":       "mon,wed,fri,sat,sun 22:00-06:00 UTC",
		"sun 00:00-12:00 Asia/Tokyo":        "sun 00:00-12:00 Asia/Tokyo",
	} {
		h, err := parseHours(text)
		if err != nil || h.String() != want {
			t.Errorf("%q is %v, %v; want %s", text, h, err, want)
			continue
		}
		if again, err := parseHours(h.String()); err != nil || again.String() != want {
			t.Errorf("%q comes back as %v, %v", want, again, err)
		}
	}
	for _, text := range []string{"", "mon", "mon-fri 08:00", "mon-fri 08:00-18:00", "day 08:00-18:00 UTC", "mon-fri 08:00 18:00 UTC", "mon--fri 08:00-18:00 UTC", ", 1-2 UTC"} {
		if h, err := parseHours(text); err == nil {
			t.Errorf("%q is %v", text, h)
		}
	}
}

// TestHoursWithoutAZone: what is missing is said, with an example that is right.
func TestHoursWithoutAZone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"mon-fri 08:00-18:00", "08:00-18:00"} {
		if _, err := parseHours(text); err == nil || err.Error() != `the zone is missing behind "08:00-18:00": write it as "mon-fri 08:00-18:00 Europe/Berlin"` {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := parseHours(hoursExample); err != nil {
		t.Error(err)
	}
}

func FuzzParseHours(f *testing.F) {
	f.Add("mon-fri 08:00-18:00 Europe/Berlin")
	f.Add("sat-mon,wed 01:00-02:00 x")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHours(text)
		if err != nil {
			return
		}
		if len(h.Days) > 7 || !slices.IsSorted(h.Days) || slices.ContainsFunc(h.Days, func(d int) bool { return d < 1 || d > 7 }) {
			t.Errorf("%q has the days %v", text, h.Days)
		}
	})
}

// TestVaultDocument: the commands of docs/vault.md, and those in the help of avouch vault, are ones that there are.
func TestVaultDocument(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/vault.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(b)}
	people(t, func(where string, n *kong.Node) {
		if strings.HasPrefix(where, "avouch vault") {
			texts = append(texts, n.Detail)
		}
	})
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)(?:^ *|\| )(avouch .*)$`).FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
		var args []string
		for _, word := range regexp.MustCompile(`"[^"]*"|'[^']*'|[^\s"'|]+`).FindAllString(m[1], -1) {
			args = append(args, strings.Trim(word, `"'`))
		}
		parser, err := newParser(&root{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(args[1:]); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
		found[args[2]] = true
	}
	if len(found) < 12 {
		t.Errorf("only %v were found", found)
	}
}

// TestVaultAdvice: what the server says of its operations is told as commands; and of each refusal, what to do.
func TestVaultAdvice(t *testing.T) {
	t.Parallel()
	const id = "0192f0c1-2222-7aaa-8bbb-123456789abc"
	for _, c := range []struct{ as, kind, detail, want string }{
		{"key", "denied", "This item has not been granted to you. Ask for it with POST /api/v1/vault/items/" + id + "/requests.", "avouch vault request " + id},
		{"key", "denied", "A second person must approve before you use this item. Ask with POST /api/v1/vault/items/" + id + "/requests.", "avouch vault request " + id},
		{"key", "conflict", "The item is a secret that nobody sees: use it with POST /api/v1/vault/items/" + id + "/fetch.", "avouch vault use " + id},
		{"key", "conflict", "The item gives codes: fetch one with POST /api/v1/vault/items/" + id + "/code.", "avouch vault code " + id},
		{"key", "conflict", "All of these recovery codes have been taken. Put new ones in with PUT /api/v1/vault/items/" + id + "/secret.", "avouch vault replace " + id},
		{"person", "denied", "A second person must approve that this item's seed is taken out. Ask for it with POST /api/v1/vault/items/" + id + "/requests and the level seed.", "avouch vault request " + id + " --level seed --reason TEXT"},
		{"person", "denied", "You may use this item, and not have its seed. Ask for it with POST /api/v1/vault/items/" + id + "/requests and the level seed.", "avouch vault request " + id + " --level seed"},
		{"key", "conflict", "3 requests of yours for this item wait already.", "avouch vault withdraw"},
		{"key", "unavailable", "The host's answer is too long for the pointers to be followed in it. The request was sent.", "before it is sent again"},
		{"person", "denied", "Prove yourself again: this needs a proof of the last five minutes.", "/session/prove"},
		{"key", "denied", "Only a person who is signed in does this.", "AVOUCH_ACCESS_TOKEN"}, {"agent", "denied", "The agent lacks the scope read:codes.", "agents scopes"},
		{"key", "denied", "This item may not be used from this address.", "who decides about the item"},
	} {
		var b bytes.Buffer
		report(&b, (&asking{g: &globals{}, as: c.as}).advise(vaultProblem(c.kind, c.detail)), false)
		what, todo, _ := strings.Cut(b.String(), "\nWhat to do: ")
		if strings.Contains(what, "/api/v1/vault") || !regexp.MustCompile(`^avouch: \S.*\.$`).MatchString(what) || !strings.Contains(todo, c.want) {
			t.Errorf("%s: %s", c.detail, b.String())
		}
	}
	for _, c := range [][2]string{
		{"conflict", "Only a code that is counted (hotp) has a counter."}, {"conflict", "This seed cannot be kept as things are. Ask your organisation's owner."},
		{"denied", "Only people may have a seed."}, {"denied", "This key belongs to nobody, so it may be that of who asks: a person decides, or a key that a person made."},
	} { // they say it themselves
		var b bytes.Buffer
		if report(&b, (&asking{g: &globals{}, as: "key"}).advise(vaultProblem(c[0], c[1])), false); b.String() != "avouch: "+c[1]+"\n" {
			t.Errorf("%s", b.String())
		}
	}
	given := &client.Problem{Kind: problem.Denied, Detail: "The code of this window was given out already: the item's policy gives each once. The next begins at noon.", RetryAfter: 9 * time.Second, Known: true}
	var b bytes.Buffer
	if report(&b, (&asking{g: &globals{}, as: "key"}).advise(given), false); !strings.Contains(b.String(), "\nWhat to do: Try again in 9s.\n") {
		t.Errorf("%s", b.String())
	}
	raw := vaultProblem("denied", "Ask with POST /api/v1/vault/items/"+id+"/requests.")
	if got := (&asking{g: &globals{JSON: true}}).advise(raw); fmt.Sprint(got) != fmt.Sprint(raw) || !strings.Contains(got.Error(), "/requests") {
		t.Errorf("as JSON: %v", got)
	}
}

func vaultProblem(kind, detail string) error {
	return &client.Problem{Kind: problem.Kind(kind), Status: http.StatusForbidden, Title: "T", Detail: detail, Known: true}
}
