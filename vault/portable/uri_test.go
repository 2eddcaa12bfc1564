package portable

import (
	"bytes"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

// plain is an entry that can be compared and printed: these seeds are nobody's.
type plain struct {
	Kind                 otp.Kind
	Issuer, Account, Key string
	Scheme               otp.Scheme
	Counter              uint64
	Folder, Notes, Tags  string
	Title, Icon, Codes   string
}

func shown(e Entry) plain {
	codes := ""
	for _, c := range e.Codes {
		codes += fmt.Sprintf("%q %v ", c.Text.Expose(), c.Used)
	}
	return plain{e.Kind, e.Issuer, e.Account, string(e.Key.Expose()), e.Scheme, e.Counter, e.Folder, e.Notes, strings.Join(e.Tags, " "), e.Title, e.Icon, codes}
}

func all(r Reading) (out []plain) {
	for _, e := range r.Entries {
		out = append(out, shown(e))
	}
	return out
}

const (
	hello = "JBSWY3DPEHPK3PXP" // base32 of helloBytes
)

var helloBytes = "Hello!\xde\xad\xbe\xef"

func TestURI(t *testing.T) {
	t.Parallel()
	usual := otp.Usual()
	for text, want := range map[string]plain{
		// The example of the Key Uri Format.
		"otpauth://totp/Example:alice@google.com?secret=JBSWY3DPEHPK3PXP&issuer=Example":                                         {Kind: otp.TOTP, Issuer: "Example", Account: "alice@google.com", Scheme: usual},
		"otpauth://totp/alice@google.com?secret=JBSWY3DPEHPK3PXP":                                                                {Kind: otp.TOTP, Account: "alice@google.com", Scheme: usual},
		"otpauth://totp/ACME%20Co:john.doe@email.com?secret=JBSWY3DPEHPK3PXP&issuer=ACME%20Co&algorithm=SHA1&digits=6&period=30": {Kind: otp.TOTP, Issuer: "ACME Co", Account: "john.doe@email.com", Scheme: usual},
		"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&algorithm=SHA512&digits=10&period=60":                                        {Kind: otp.TOTP, Issuer: "A", Account: "b", Scheme: otp.Scheme{Algorithm: otp.SHA512, Digits: 10, Period: 60}},
		"otpauth://hotp/A:b?secret=JBSWY3DPEHPK3PXP&counter=18446744073709551615&digits=8":                                       {Kind: otp.HOTP, Issuer: "A", Account: "b", Counter: 1<<64 - 1, Scheme: otp.Scheme{Algorithm: otp.SHA1, Digits: 8}},
	} {
		want.Key = helloBytes
		e, err := URI(text)
		if err == nil {
			err = e.check()
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if d := cmp.Diff(want, shown(e)); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
}

// TestTraps is what apps and people write that the format does not foresee.
func TestTraps(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]plain{
		"otpauth://totp/Slack #general:me?secret=JBSWY3DPEHPK3PXP":                       {Issuer: "Slack #general", Account: "me"}, // an unencoded #
		"otpauth://totp/A:b?issuer=C#1&secret=JBSWY3DPEHPK3PXP":                          {Issuer: "C#1", Account: "A:b"},
		"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP#frag":                                {Issuer: "A", Account: "b"},
		"otpauth://totp/A:b?secret=jbswy3dpehpk3pxp":                                     {Issuer: "A", Account: "b"}, // lower case
		"otpauth://totp/A:b?secret=JBSW%20Y3DP%20EHPK%203PXP":                            {Issuer: "A", Account: "b"}, // in groups
		"otpauth://totp/A:b?secret=jbsw-y3dp-ehpk-3pxp":                                  {Issuer: "A", Account: "b"},
		"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP======":                               {Issuer: "A", Account: "b"}, // padded, unencoded
		"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP%3D%3D":                               {Issuer: "A", Account: "b"},
		"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXPA":                                    {Issuer: "A", Account: "b"}, // five bits too many
		"OTPAUTH://TOTP/A:b?SECRET=JBSWY3DPEHPK3PXP":                                     {Issuer: "A", Account: "b"},
		"otpauth://totp/A%3Ab?secret=JBSWY3DPEHPK3PXP":                                   {Issuer: "A", Account: "b"}, // the colon encoded
		"otpauth://totp/A:%20b?secret=JBSWY3DPEHPK3PXP&issuer=A":                         {Issuer: "A", Account: "b"},
		"otpauth://totp/acme:b?secret=JBSWY3DPEHPK3PXP&issuer=ACME":                      {Issuer: "ACME", Account: "b"}, // in another case
		"otpauth://totp/A%20:%20b?secret=JBSWY3DPEHPK3PXP&issuer=A":                      {Issuer: "A", Account: "b"},    // a blank before the colon
		"otpauth://totp/b?secret=JBSWY3DPEHPK3PXP&issuer=Big+Corp":                       {Issuer: "Big Corp", Account: "b"},
		"otpauth://totp/a+b@x.example?secret=JBSWY3DPEHPK3PXP":                           {Account: "a+b@x.example"},        // in a path, + is itself
		"otpauth://totp/Old:b?secret=JBSWY3DPEHPK3PXP&issuer=New":                        {Issuer: "New", Account: "Old:b"}, // issuers that differ
		"otpauth://totp/user:b?secret=JBSWY3DPEHPK3PXP&issuer=":                          {Issuer: "user", Account: "b"},    // an empty one is none
		"otpauth://totp/?secret=JBSWY3DPEHPK3PXP&issuer=Alone":                           {Issuer: "Alone"},
		"otpauth://totp/100%:b?secret=JBSWY3DPEHPK3PXP":                                  {Issuer: "100%", Account: "b"}, // a % that was meant
		"otpauth://totp/a/b/c:d?secret=JBSWY3DPEHPK3PXP":                                 {Issuer: "a/b/c", Account: "d"},
		"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&algorithm=HmacSHA1&digits=&period=":  {Issuer: "A", Account: "b"},
		"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&image=https%3A%2F%2Fx%2Fy.png&lock=": {Issuer: "A", Account: "b"},
		"otpauth://totp/A:b?&&secret=JBSWY3DPEHPK3PXP":                                   {Issuer: "A", Account: "b"},
		"otpauth://totp/A\x00:b\n?secret=JBSWY3DPEHPK3PXP":                               {Issuer: "A", Account: "b"}, // what would not show
	} {
		want.Kind, want.Scheme, want.Key = otp.TOTP, otp.Usual(), helloBytes
		e, err := URI(text)
		if err == nil {
			err = e.check()
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if d := cmp.Diff(want, shown(e)); d != "" {
			t.Errorf("%q: %s", text, d)
		}
	}
}

func TestSteam(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"otpauth://steam/Steam:gabe?secret=JBSWY3DPEHPK3PXP&issuer=Steam",
		"otpauth://totp/Steam:gabe?secret=JBSWY3DPEHPK3PXP&issuer=Steam&digits=5&encoder=steam",
	} {
		e, err := URI(text)
		if err != nil || e.check() != nil || e.Kind != otp.Steam || e.Scheme != otp.OfSteam() {
			t.Errorf("%s: %+v, %v", text, shown(e), err)
		}
	}
}

// faulty are addresses that are none, and a word of why.
var faulty = map[string]string{
	"https://example.com":                                                     "otpauth",
	"otpauth://totp":                                                          "kind",
	"otpauth://totp/A:b":                                                      "no seed",
	"otpauth://totp/A:b?secret=":                                              "no seed",
	"otpauth://totp/A:b?secret=%20==":                                         "no seed",
	"otpauth://totp/A:b?secret=JBSWY3DP1HPK3PXP":                              "base32",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PX%":                              "encoded",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&secret=JBSWY3DPEHPK3PXQ":      "twice",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&algorithm=MD5":                "algorithm",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&digits=5":                     "no such scheme",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&digits=11":                    "no such scheme",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&digits=262":                   "no such scheme", // 6 in a byte
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&digits=4294967302":            "no such scheme", // and in 32 bits
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&digits=9223372036854775814":   "no such scheme",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&digits=18446744073709551622":  "whole number",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&period=4294967326":            "over a day", // 30 in 32 bits
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&period=9223372036854775838":   "over a day",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&period=18446744073709551646":  "whole number",
	"otpauth://totp/A:b?secret=JBſWY3DPEHPK3PXP":                              "base32", // no S
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&digits=six":                   "whole number",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&period=0":                     "no such scheme",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&period=-30":                   "whole number",
	"otpauth://totp/A:b?secret=JBSWY3DPEHPK3PXP&period=99999999":              "over a day",
	"otpauth://hotp/A:b?secret=JBSWY3DPEHPK3PXP&counter=18446744073709551616": "whole number",
	"otpauth://yaotp/A:b?secret=JBSWY3DPEHPK3PXP":                             "kind",
	"otpauth://totp/?secret=JBSWY3DPEHPK3PXP":                                 "no name",
}

func TestFaults(t *testing.T) {
	t.Parallel()
	var lines []string
	var want []string
	for text, why := range faulty {
		lines, want = append(lines, text), append(want, why)
	}
	r := URIs(strings.Join(lines, "\n"))
	if len(r.Entries) != 0 || len(r.Faults) != len(lines) {
		t.Fatalf("%d entries, %d faults of %d", len(r.Entries), len(r.Faults), len(lines))
	}
	for i, f := range r.Faults {
		if f.Place != fmt.Sprintf("line %d", i+1) || !strings.Contains(f.Why, want[i]) {
			t.Errorf("%s: %v, want %q", lines[i], f, want[i])
		}
	}
}

// TestBounds: what is as long as it may be is read, and what is longer is said to be.
func TestBounds(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("é", n) }
	many := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprint(i))
		}
		return all
	}
	some := func(n int) (all []Code) {
		for range n {
			all = append(all, Code{Text: secret.Text("x")})
		}
		return all
	}
	of := func(change func(*Entry)) Entry {
		e := Entry{Kind: otp.TOTP, Issuer: "A", Scheme: otp.Usual(), Key: secret.Own([]byte("x"))}
		change(&e)
		return e
	}
	for name, c := range map[string]struct {
		most int
		with func(n int) Entry
		says string
	}{
		"issuer":  {mostText, func(n int) Entry { return of(func(e *Entry) { e.Issuer = long(n) }) }, "over 200 characters"},
		"account": {mostText, func(n int) Entry { return of(func(e *Entry) { e.Account = long(n) }) }, "over 200 characters"},
		"title":   {mostText, func(n int) Entry { return of(func(e *Entry) { e.Title = long(n) }) }, "over 200 characters"},
		"folder":  {mostText, func(n int) Entry { return of(func(e *Entry) { e.Folder = long(n) }) }, "over 200 characters"},
		"icon":    {mostText, func(n int) Entry { return of(func(e *Entry) { e.Icon = long(n) }) }, "over 200 characters"},
		"a tag":   {mostTag, func(n int) Entry { return of(func(e *Entry) { e.Tags = []string{long(n)} }) }, "over 64 characters"},
		"tags":    {mostTags, func(n int) Entry { return of(func(e *Entry) { e.Tags = many(n) }) }, "over 20 tags"},
		"notes":   {mostNotes, func(n int) Entry { return of(func(e *Entry) { e.Notes = long(n) }) }, "over 10000 characters"},
		"seed":    {mostKey, func(n int) Entry { return of(func(e *Entry) { e.Key = secret.Own(make([]byte, n)) }) }, "at most 512"},
		"period":  {mostSteps, func(n int) Entry { return of(func(e *Entry) { e.Scheme.Period = int64(n) }) }, "over a day"},
		"codes":   {mostCodes, func(n int) Entry { return Entry{Kind: Codes, Title: "x", Codes: some(n)} }, "1 to 100"},
		"a code":  {mostCode, func(n int) Entry { return Entry{Kind: Codes, Title: "x", Codes: []Code{{Text: secret.Text(long(n))}}} }, "1 to 100 characters"},
		"a text": {mostLong, func(n int) Entry {
			return Entry{Kind: Secret, Title: "x", Key: secret.Own(bytes.Repeat([]byte("x"), n))}
		}, "1 to 16384 bytes"},
	} {
		most, over := c.with(c.most), c.with(c.most+1)
		if err := most.check(); err != nil {
			t.Errorf("%s of %d: %v", name, c.most, err)
		}
		if err := over.check(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s of %d: %v, want %q", name, c.most+1, err, c.says)
		}
	}
	for text, says := range map[string]string{strings.Repeat("A", 820): "", strings.Repeat("A", 1024): "its seed has 640 bytes", strings.Repeat("A", 1025): "its seed has 1025 characters"} {
		r := URIs("otpauth://totp/A?secret=" + text)
		if got := fmt.Sprint(r.Faults); (says == "") != (len(r.Entries) == 1) || !strings.Contains(got, says) {
			t.Errorf("a seed of %d characters: %s", len(text), got)
		}
	}
}

// TestForgotten: of what is refused as a whole, no seed stays in memory.
func TestForgotten(t *testing.T) {
	t.Parallel()
	r := URIs("otpauth://totp/A?secret=" + hello)
	key := r.Entries[0].Key.Expose()
	if out, err := r.whole(nil); err != nil || string(key) != helloBytes || len(out.Entries) != 1 {
		t.Fatalf("%v, %q", err, key)
	}
	if out, err := r.whole(ErrFormat); !errors.Is(err, ErrFormat) || len(out.Entries) > 0 || strings.Trim(string(key), "\x00") != "" {
		t.Errorf("%v: %d entries, and %q is still there", err, len(out.Entries), key)
	}
}

// TestFaultsHoldNoSeed: a fault is shown, and kept in logs of others.
func TestFaultsHoldNoSeed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := base32.StdEncoding.EncodeToString(rapid.SliceOfN(rapid.Byte(), 10, 40).Draw(t, "key"))
		broken := rapid.SampledFrom([]string{
			"otpauth://totp/A:b?secret=%s1", "otpauth://totp/A:b?secret=%s&secret=%s", "otpauth://totp/A:b?secret=%s&digits=%s", "otpauth://totp/?secret=%s",
			"otpauth://%s/A:b?secret=x", "otpauth://totp/A:b?secret=%s%%zz", "otpauth://totp/A:b?x%%%s=1&secret=%s&algorithm=%s", "otpauth-migration://offline?data=%s", "%s",
		}).Draw(t, "broken")
		text := strings.ReplaceAll(strings.ReplaceAll(broken, "%s", key), "%%", "%")
		for _, f := range URIs(text).Faults {
			if strings.Contains(strings.ToUpper(f.Error()), key[:10]) {
				t.Fatalf("%q: the fault holds the seed", broken)
			}
		}
	})
}

func drawEntry(t *rapid.T) Entry {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aZ09 :?#&=+%/\\é漢@.-_~\"'<>")), 0, 20, -1)
	e := Entry{Kind: rapid.SampledFrom([]otp.Kind{otp.TOTP, otp.HOTP, otp.Steam}).Draw(t, "kind"), Issuer: text.Draw(t, "issuer"), Account: text.Draw(t, "account")}
	e.Key = secret.Own(rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "key"))
	e.Scheme = otp.Scheme{Algorithm: rapid.SampledFrom([]otp.Algorithm{otp.SHA1, otp.SHA256, otp.SHA512}).Draw(t, "algorithm"), Digits: rapid.IntRange(6, 10).Draw(t, "digits")}
	switch e.Kind {
	case otp.TOTP:
		e.Scheme.Period = rapid.Int64Range(1, mostSteps).Draw(t, "period")
	case otp.HOTP:
		e.Counter = rapid.Uint64().Draw(t, "counter")
	default:
		e.Scheme = otp.OfSteam()
	}
	if e.check() != nil {
		e.Account = "somebody"
	}
	return e
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := drawEntry(t)
		if err := e.check(); err != nil {
			t.Fatal(err)
		}
		got, err := URI(e.Address())
		if err == nil {
			err = got.check()
		}
		if err != nil {
			t.Fatalf("%+v: %v", shown(e), err)
		}
		if d := cmp.Diff(shown(e), shown(got)); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzURI(f *testing.F) {
	for text := range faulty {
		f.Add(text)
	}
	f.Add("otpauth://totp/Example:alice@google.com?secret=JBSWY3DPEHPK3PXP&issuer=Example")
	f.Add("otpauth-migration://offline?data=CiEKCkhlbGxvId6tvu8SB2ZvbzpiYXIaB0V4YW1wbGUgASgBMAIQARgBIAA%3D")
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range URIs(text).Entries {
			again, err := URI(e.Address())
			if err != nil || again.check() != nil || !again.Key.Equal(e.Key) || again.Scheme != e.Scheme || again.Kind != e.Kind || again.Counter != e.Counter {
				t.Errorf("%+v is read as %+v, %v", shown(e), shown(again), err)
			}
		}
	})
}
