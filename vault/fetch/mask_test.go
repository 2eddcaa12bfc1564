package fetch

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime/quotedprintable"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// token is a secret of nobody's, with letters that every syntax escapes.
const token = `sk/live+4f&9"a<b>\c=%41 z'ü`

// encodings are those that the package promises, by other means than its own.
var encodings = map[string]func(string) string{
	"as it is":  func(s string) string { return s },
	"base64":    func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"unpadded":  func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) },
	"base64url": func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) },
	"base32":    func(s string) string { return base32.StdEncoding.EncodeToString([]byte(s)) },
	"base32 in lower case": func(s string) string {
		return strings.ToLower(base32.StdEncoding.EncodeToString([]byte(s)))
	},
	"hex":               func(s string) string { return hex.EncodeToString([]byte(s)) },
	"hex in upper case": func(s string) string { return fmt.Sprintf("%X", s) },
	"hex in both cases": func(s string) string { return mixed(hex.EncodeToString([]byte(s))) },
	"base32 in both cases": func(s string) string {
		return mixed(base32.StdEncoding.EncodeToString([]byte(s)))
	},
	"base64 in lines":   func(s string) string { return inLines(base64.StdEncoding.EncodeToString([]byte(s)), "\r\n") },
	"hex in lines":      func(s string) string { return inLines(hex.EncodeToString([]byte(s)), "\n") },
	"base32 in lines":   func(s string) string { return inLines(base32.StdEncoding.EncodeToString([]byte(s)), "\n") },
	"as it is in lines": func(s string) string { return inLines(s, "\n") },
}

// mixed is a text with letters of both cases.
func mixed(s string) string {
	b := []byte(s)
	for i := range b {
		if i%3 == 1 {
			b[i] = bytes.ToUpper(b[i : i+1])[0]
		} else {
			b[i] = bytes.ToLower(b[i : i+1])[0]
		}
	}
	return string(b)
}

// inLines is a text in lines of five characters.
func inLines(s, end string) string {
	var b strings.Builder
	for i, r := range []rune(s) {
		if i > 0 && i%5 == 0 {
			b.WriteString(end)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// syntaxes are what the encoded may stand in.
var syntaxes = map[string]func(string) string{
	"as it is": func(s string) string { return s },
	"a path":   url.PathEscape, "a query": url.QueryEscape,
	"percent throughout": func(s string) string { return each(s, func(b byte) string { return fmt.Sprintf("%%%02x", b) }) },
	"JSON": func(s string) string {
		b, _ := json.Marshal(s)
		return string(b)
	},
	"JSON of PHP": func(s string) string {
		b, _ := json.Marshal(s)
		return strings.ReplaceAll(string(b), "/", `\/`)
	},
	"JSON throughout": func(s string) string {
		var b strings.Builder
		for _, r := range utf16.Encode([]rune(s)) {
			fmt.Fprintf(&b, `\u%04X`, r)
		}
		return b.String()
	},
	"JavaScript throughout":       func(s string) string { return each(s, func(b byte) string { return fmt.Sprintf(`\x%02x`, b) }) },
	"quoted-printable throughout": func(s string) string { return each(s, func(b byte) string { return fmt.Sprintf("=%02X", b) }) },
	"mail": func(s string) string {
		var b strings.Builder
		w := quotedprintable.NewWriter(&b)
		_, _ = w.Write([]byte(strings.Repeat("=", 20) + s)) // so that a line ends within it
		_ = w.Close()
		return strings.TrimPrefix(b.String(), strings.Repeat("=3D", 20))
	},
	"HTML": html.EscapeString,
	"HTML throughout": func(s string) string {
		var b strings.Builder
		for i, r := range s {
			fmt.Fprintf(&b, []string{"&#%d;", "&#x%x;", "&#X%X;"}[i%3], r)
		}
		return b.String()
	},
}

func each(s string, f func(byte) string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(f(s[i]))
	}
	return b.String()
}

var (
	percentEscape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	jsonEscape    = regexp.MustCompile(`\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\["/\\'nr]|\\x[0-9A-Fa-f]{2}`)
	mailEscape    = regexp.MustCompile(`=[0-9A-Fa-f]{2}|=\r?\n`)
	lineEnds      = regexp.MustCompile(`[\r\n]{1,3}`)
	htmlEscape    = regexp.MustCompile(`&#?[0-9A-Za-z]+;`)
)

// forms are what texts that hold a secret have in common, for each encoding and place; those that any case means the same in begin with
// "any case".
func forms(s string) map[string]string {
	all := map[string]string{}
	for name, encode := range encodings {
		if strings.Contains(name, "lines") {
			continue // readings have none
		}
		if name == "as it is" && (s == strings.ToLower(s) || s == strings.ToUpper(s) || caseless([]byte(s))) || strings.Contains(name, "both cases") {
			name = "any case, " + name
		}
		for at := range 5 {
			a, b := encode(strings.Repeat("\x00", at)+s+"\x00\x00\x00\x00\x00"), encode(strings.Repeat("\xff", at)+s+"\xff\xff\xff\xff\xff")
			best, run := "", 0
			for i := range len(a) { // bytes, and not runes
				if run++; a[i] != b[i] {
					run = 0
				} else if run > len(best) {
					best = a[i+1-run : i+1]
				}
			}
			all[best] = fmt.Sprintf("%s at %d", name, at)
		}
	}
	return all
}

// readings are those of a text, written as simply as can be, to check what is not.
func readings(text string) map[string]string {
	unhex := func(e string) string {
		b, _ := hex.DecodeString(e[1:])
		return string(b)
	}
	unpercent := func(text string) string { return percentEscape.ReplaceAllStringFunc(text, unhex) }
	all := map[string]string{
		"as it is": text, "percent": unpercent(text), "a form": unpercent(strings.ReplaceAll(text, "+", " ")),
		"JSON": jsonEscape.ReplaceAllStringFunc(text, func(e string) string {
			switch e[1] {
			case 'n', 'r':
				return "\n"
			case 'x':
				return unhex(e[1:])
			case 'u':
				var units []uint16
				for unit := range strings.SplitSeq(e[2:], `\u`) {
					n, _ := strconv.ParseUint(unit, 16, 16)
					units = append(units, uint16(n))
				}
				return string(utf16.Decode(units))
			}
			return e[1:]
		}),
		"HTML": htmlEscape.ReplaceAllStringFunc(text, html.UnescapeString),
		"mail": mailEscape.ReplaceAllStringFunc(text, func(e string) string {
			if strings.HasSuffix(e, "\n") {
				return "\n"
			}
			return unhex(e)
		}),
	}
	for name, t := range all {
		all[name] = lineEnds.ReplaceAllStringFunc(t, func(ends string) string { return ends[min(len(ends), mostBreaks):] })
	}
	return all
}

// leaks says in which form a secret is in a text; "" if in none.
func leaks(text, s string) string { return search(text, forms(s)) }

func search(text string, forms map[string]string) string {
	for reading, t := range readings(text) {
		for form, name := range forms {
			if strings.Contains(t, form) || strings.HasPrefix(name, "any case") && strings.Contains(lower(t), lower(form)) {
				return reading + ", " + name
			}
		}
	}
	return ""
}

// through is a text as it comes out in parts of a size.
func through(t interface{ Fatal(...any) }, m *mask, text string, size int) string {
	var from io.Reader = strings.NewReader(text)
	if size > 0 {
		from = &parts{text, size}
	}
	out, err := io.ReadAll(m.reader(from, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// parts is a reader that gives no more than so many bytes at once.
type parts struct {
	text string
	size int
}

func (p *parts) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.text)
	p.text = p.text[n:]
	return n, nil
}

// TestForms: each encoding, at each alignment, in each syntax, at each place that a chunk can end.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, s := range []string{token, "12345678", "aaaaaaaa", "correct horse battery staple", "clef 𝄞 of G", strings.Repeat("long ", 800) + "x"} {
		m, all := newMask([]byte(s)), forms(s)
		for encoding, encode := range encodings {
			for syntax, write := range syntaxes {
				for at := range 5 {
					if len(s) > 1000 && at > 0 {
						break
					}
					inner := encode("u:abc"[:at] + s + "12345"[:(at*3)%6])
					text := `{"a":"` + write(inner) + `"} and more`
					if search(text, all) == "" {
						t.Fatalf("%s in %s of %.20q: this test does not see it", encoding, syntax, s)
					}
					got := through(t, m, text, 0)
					if leak := search(got, all); leak != "" || !strings.Contains(got, masked) || !strings.HasPrefix(got, `{"a":"`) || !strings.HasSuffix(got, `"} and more`) {
						t.Errorf("%s in %s of %.20q at %d: %s: %.200q", encoding, syntax, s, at, leak, got)
					}
					for _, size := range []int{1, 2, 3, 7} {
						if len(s) > 1000 && size < 7 {
							continue
						}
						if parted := through(t, m, text, size); parted != got {
							t.Errorf("%s in %s of %.20q at %d in parts of %d: %.200q", encoding, syntax, s, at, size, parted)
						}
					}
				}
			}
		}
	}
}

// TestCases: a host that writes a secret in another case gives it away where case means nothing, and nothing where it does.
func TestCases(t *testing.T) {
	t.Parallel()
	for s, texts := range map[string]map[string]bool{
		"deadbeef0123456789abcdef": {"DEADBEEF0123456789ABCDEF": true, "DeadBeef0123456789aBcDeF": true, "deadbeef0123456789abcdee": false},
		"DEADBEEF0123456789ABCDEF": {"deadbeef0123456789abcdef": true}, "DEADBEEF0123456789abcdef": {"deadbeef0123456789abcdef": true},
		"0191d2c3-4e5f-7a6b-8c9d-0e1f2a3b4c5d": {"0191D2C3-4E5F-7A6B-8C9D-0E1F2A3B4C5D": true, "{0191D2C3-4E5F-7a6b-8C9D-0E1F2A3B4C5D}": true},
		"JBSWY3DPEHPK3PXP":                     {"jbswy3dpehpk3pxp": true, "Jbswy3DPEHPK3pxp": true}, "sk_live_9f8e7d6c5b4a": {"SK_LIVE_9F8E7D6C5B4A": true},
		"aB3dE5gH7jK9":  {"AB3DE5GH7JK9": false, "ab3de5gh7jk9": false, "aB3dE5gH7jK9": true},
		"Straße-ÄÖÜ-42": {"straße-ÄÖÜ-42": false, "5374726161C39F652DC384C396c39c2d3432": false, "53747261C39F652dc384C396c39C2D3432": true},
	} {
		for text, want := range texts {
			if got, n := newMask([]byte(s)).text("<" + text + ">"); want != (n == 1) || want == strings.Contains(got, text) {
				t.Errorf("%s as %s is %s", s, text, got)
			}
		}
	}
}

// TestLines: what encodes for mail divides into lines, which nobody minds who decodes.
func TestLines(t *testing.T) {
	t.Parallel()
	const s = "tok-0123456789-abcdefghijklmnopqrstuvwxyz"
	m := newMask([]byte(s))
	for text, want := range map[string]string{
		"tok-0123456789-abc\ndefghijklmnopqrstuvwxyz!":        masked + "!",
		"tok-0123456789-abc\r\ndefghijklmnopqrstuvwxyz\n!":    masked + "\n!",
		"tok-0123456789-abc=\r\ndefghijklmnopqrstuvwxyz!":     masked + "!",
		"tok-0123456789-abc=\ndefghijklmno=70qrstuvwxyz!":     masked + "!",
		`"tok-0123456789-abc\r\ndefghijklmnopqrstuvwxyz"`:     `"` + masked + `"`,
		"tok-0123456789-abc%0D%0Adefghijklmnopqrstuvwxyz!":    masked + "!",
		"tok-0123456789-abc\n\n\ndefghijklmnopqrstuvwxyz!":    "tok-0123456789-abc\n\n\ndefghijklmnopqrstuvwxyz!",
		"tok-0123456789-abc defghijklmnopqrstuvwxyz!":         "tok-0123456789-abc defghijklmnopqrstuvwxyz!",
		"a\nb\r\n\r\n\r\n\n\n\n=\n=\r\nc \\n \\r =3D= == =\r": "a\nb\r\n\r\n\r\n\n\n\n=\n=\r\nc \\n \\r =3D= == =\r",
	} {
		got, n := m.text(text)
		if got != want || n != strings.Count(want, masked) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
		if again := through(t, m, text, 1); again != got {
			t.Errorf("%q in parts is %q", text, again)
		}
	}
	encoded := b64("us:" + s + ":x")
	whole, _ := m.text(encoded)
	for at := range len(encoded) { // what holds bits of what is beside it too may stand on another line
		if got, n := m.text(encoded[:at] + "\r\n" + encoded[at:]); n != 1 || strings.ReplaceAll(got, "\r\n", "") != whole {
			t.Errorf("divided at %d it is %q, and whole %q", at, got, whole)
		}
	}
}

func TestMasking(t *testing.T) {
	t.Parallel()
	m := newMask([]byte("s3cr3t-token"))
	for text, want := range map[string]string{
		"":                                 "",
		"s3cr3t-toke":                      "s3cr3t-toke",
		"s3cr3t-token":                     "[secret]",
		"as3cr3t-tokenb":                   "a[secret]b",
		"s3cr3t-tokens3cr3t-token":         "[secret]",
		"s3cr3t-token s3cr3t-token":        "[secret] [secret]",
		"s3cr3ts3cr3t-token":               "s3cr3t[secret]",
		"s3cr3t%2Dtoken":                   "[secret]",
		"100% s3cr3t%2dtoken %":            "100% [secret] %",
		`s3cr3t\u002dtoken\`:               `[secret]\`,
		"&amp;s3cr3t&#45;token&amp":        "&amp;[secret]&amp",
		"s3cr3t%2D&#45;token":              "s3cr3t%2D&#45;token", // neither reading holds it
		"Basic " + b64("u:s3cr3t-token"):   "Basic dT[secret]=",
		"Basic " + b64("us:s3cr3t-token"):  "Basic dXM6[secret]",
		"Basic " + b64("usr:s3cr3t-token"): "Basic dXNyO[secret]==", // the letters beside it hold bits of it
	} {
		got, n := m.text(text)
		if got != want || n != strings.Count(want, masked) {
			t.Errorf("%q is %q, %d times, want %q", text, got, n, want)
		}
		if again := through(t, m, text, 1); again != want {
			t.Errorf("%q in parts is %q", text, again)
		}
	}
	// The secret lies within its own hexadecimal form, of which here is only the beginning.
	if got, n := newMask([]byte("73333333")).text("373333333x"); got != "3[secret]x" || n != 1 {
		t.Errorf("%q, %d times", got, n)
	}
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SampledFrom([]rune(`ab%2\u/&;#x0&amp <"é`))
		s := rapid.StringOfN(letters, LeastSecret, 20, -1).Draw(t, "secret")
		text := strings.Join(rapid.SliceOf(rapid.OneOf(rapid.StringOf(letters), rapid.String(), rapid.Just(s))).Draw(t, "text"), "")
		m := newMask([]byte(s))
		got, n := m.text(text)
		if leak := leaks(text, s); leak == "" && (got != text || n != 0) {
			t.Fatalf("%q has no %q and is %q", text, s, got)
		} else if leak != "" && n == 0 && len(text) >= LeastSecret {
			t.Fatalf("%q has %q (%s) and is %q", text, s, leak, got)
		}
		if parted := through(t, m, text, rapid.IntRange(1, 9).Draw(t, "size")); parted != got {
			t.Fatalf("%q is %q, and in parts %q", text, got, parted)
		}
	})
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestCutOff: a limit that falls into the secret would else give its beginning, and by another limit, or another start, the rest.
func TestCutOff(t *testing.T) {
	t.Parallel()
	m := newMask([]byte(token))
	for syntax, write := range syntaxes {
		for encoding, encode := range encodings {
			text := write(encode("u:" + token))
			whole := through(t, m, text, 0)
			before := strings.Index(whole, masked) // that much of it is no part of the secret
			if before < 0 {
				t.Fatalf("%s in %s: %q", encoding, syntax, whole)
			}
			for cut := 1; cut < len(text); cut++ {
				r := m.reader(&parts{"begin: " + text + " end", 5}, int64(len("begin: ")+cut))
				got, err := io.ReadAll(r)
				if err != nil || !r.cut() {
					t.Fatal(err, r.cut())
				}
				if want := whole[:min(cut, before)]; string(got) != "begin: "+want && !strings.HasPrefix(string(got), "begin: "+want+masked) {
					t.Errorf("%s in %s cut off after %d gives %q", encoding, syntax, cut, got)
				}
			}
		}
	}
	fails := m.reader(io.MultiReader(strings.NewReader("begin: "+token[:9]), iotest.ErrReader(io.ErrUnexpectedEOF)), 1000)
	if got, err := io.ReadAll(fails); err == nil || strings.Contains(string(got), "sk/") {
		t.Errorf("what fails gives %q, %v", got, err)
	}
	whole := m.reader(strings.NewReader("exactly"), 7)
	if got, err := io.ReadAll(whole); err != nil || string(got) != "exactly" || whole.cut() {
		t.Errorf("what fits is %q, %v, cut %v", got, err, whole.cut())
	}
}

// TestLinear: neither the secret nor the text can be chosen so that it takes long, or much memory.
func TestLinear(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ secret, text string }{
		"repeated":         {strings.Repeat("a", 4000) + "b", strings.Repeat("a", 1<<18)},
		"found everywhere": {strings.Repeat("a", 4000), strings.Repeat("a", 1<<18)},
		"ends of lines":    {strings.Repeat("ab", 2000), strings.Repeat("a\n\nb\r\n", 1<<15)},
		"only those":       {strings.Repeat("ab", 2000), strings.Repeat("\n", 1<<18)},
		"soft ones":        {strings.Repeat("ab", 2000), strings.Repeat("=\r\n", 1<<16)},
		"escapes":          {strings.Repeat("&", 4000), strings.Repeat(`&\u00%`, 1<<15)},
	} {
		m := newMask([]byte(c.secret))
		start := time.Now()
		r := m.reader(&parts{c.text, 1000}, 1<<30)
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 30*time.Second { // with the race detector, on a busy machine; a product of both lengths takes far longer
			t.Errorf("%s took %s", name, took)
		}
		if held := cap(r.stream.held); held > 40*m.longest+64<<10 {
			t.Errorf("%s held %d bytes", name, held)
		}
	}
}

func TestMaskIsCleared(t *testing.T) {
	t.Parallel()
	var m *mask
	if out, err := masking(own(token), func(made *mask) (Response, error) {
		m = made
		text, n := m.text("something with " + token)
		return Response{Body: text, Masked: n}, errNoJSON
	}); out.Body != "something with "+masked || out.Masked != 1 || !errors.Is(err, errNoJSON) {
		t.Fatal(out, err)
	}
	for _, f := range m.forms {
		if slices.ContainsFunc(f.nodes, func(n node) bool { return n.letter != 0 }) || f.root != [256]int32{} {
			t.Fatal("the automaton still holds the secret")
		}
	}
	if bytes.Contains(m.scratch.held[:cap(m.scratch.held)], []byte(token)) || slices.ContainsFunc(m.scratch.readings[0].last, func(l letter) bool { return l.b != 0 }) {
		t.Error("what was read still holds the secret")
	}
}

func FuzzMask(f *testing.F) {
	f.Add("12345678", "a 12345678 b", 0, uint8(3))
	f.Add(token, syntaxes["JSON"](b64("u:"+token)), 5, uint8(1))
	f.Add("aaaaaaaa", "%61aaaaaaa&#97;", 1, uint8(2))
	f.Add("deadbeef", "DEAD=\r\nBE\nef", 1, uint8(2))
	f.Add("𝄞123456789", `\ud834\uDD1E1234\n56789`, 0, uint8(4))
	f.Fuzz(func(t *testing.T, s, text string, at int, size uint8) {
		// Brackets in a secret could join what stands for it with what follows: that gives nothing away, and confuses the check.
		if len(s) < LeastSecret || len(s) > 100 || !utf8.ValidString(s) || strings.ContainsAny(s, "[secrt]") {
			return
		}
		if at = max(0, min(at, len(text))); at > 0 {
			text = text[:at] + s + text[at:]
		}
		m := newMask([]byte(s))
		got := through(t, m, text, int(size))
		all := forms(s)
		if leak := search(got, all); leak != "" {
			t.Errorf("%q in %q: %q has it: %s", s, text, got, leak)
		}
		if whole := through(t, m, text, 0); whole != got {
			t.Errorf("%q in %q: %q, in parts of %d %q", s, text, whole, size, got)
		}
		if search(text, all) == "" && got != text && !strings.Contains(text, `\u`) {
			t.Errorf("%q is not in %q, which is %q", s, text, got)
		}
	})
}

func BenchmarkMask(b *testing.B) {
	text := strings.Repeat(`{"id":12345,"name":"something \u0026 more","url":"https:\/\/x.example\/a%20b"},`, 1<<20/80)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		m := newMask([]byte("sk_live_0123456789abcdef0123456789"))
		if _, err := io.Copy(io.Discard, m.reader(strings.NewReader(text), 1<<30)); err != nil {
			b.Fatal(err)
		}
	}
}
