package portable

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image/color"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/avouch-dev/avouch/internal/otp"
)

// exported is what Google Authenticator would write of a batch.
func exported(entries []Entry, size, index, id int32) string {
	var b []byte
	for _, e := range entries {
		var p []byte
		text := func(n protowire.Number, s string) {
			p = protowire.AppendString(protowire.AppendTag(p, n, protowire.BytesType), s)
		}
		number := func(n protowire.Number, v uint64) {
			p = protowire.AppendVarint(protowire.AppendTag(p, n, protowire.VarintType), v)
		}
		text(1, string(e.Key.Expose()))
		name := e.Account
		if e.Issuer != "" {
			name = e.Issuer + ":" + e.Account
		}
		text(2, name)
		text(3, e.Issuer)
		number(4, map[otp.Algorithm]uint64{otp.SHA1: 1, otp.SHA256: 2, otp.SHA512: 3}[e.Scheme.Algorithm])
		number(5, map[int]uint64{6: 1, 8: 2, 7: 3}[e.Scheme.Digits])
		number(6, map[otp.Kind]uint64{otp.HOTP: 1, otp.TOTP: 2}[e.Kind])
		number(7, e.Counter)
		text(8, "an id of later versions")
		b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), p)
	}
	for n, v := range []int32{1, size, index, id} {
		b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(n+2), protowire.VarintType), uint64(int64(v)))
	}
	return migrationScheme + "offline?data=" + url.QueryEscape(base64.StdEncoding.EncodeToString(b))
}

func TestMigration(t *testing.T) {
	t.Parallel()
	// A picture that the app made, of the seed of every example.
	const real = "otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8SGEV4YW1wbGU6YWxpY2VAZ29vZ2xlLmNvbRoHRXhhbXBsZTAC"
	want := []plain{{Kind: otp.TOTP, Issuer: "Example", Account: "alice@google.com", Key: helloBytes, Scheme: otp.Usual()}}
	if r := URIs(real); len(r.Faults) > 0 || !cmp.Equal(want, all(r)) {
		t.Errorf("%v %v", all(r), r.Faults)
	}
	rapid.Check(t, func(t *rapid.T) {
		var entries []Entry
		for range rapid.IntRange(1, 35).Draw(t, "entries") {
			e := drawEntry(t)
			e.Scheme = otp.Scheme{Algorithm: e.Scheme.Algorithm, Digits: rapid.IntRange(6, 8).Draw(t, "digits"), Period: 30}
			if e.Kind == otp.Steam {
				e.Kind = otp.TOTP
			}
			if e.Kind == otp.HOTP {
				e.Scheme.Period, e.Counter = 0, e.Counter>>1
			}
			if e.Issuer == "" { // the app writes no issuer where the name holds a colon of its own
				e.Account = strings.ReplaceAll(e.Account, ":", " ")
			}
			if e.check() != nil {
				e.Account = "somebody"
			}
			entries = append(entries, e)
		}
		id := rapid.Int32().Draw(t, "id")
		var lines []string
		for i := 0; i*10 < len(entries); i++ {
			lines = append(lines, exported(entries[i*10:min(len(entries), i*10+10)], int32((len(entries)+9)/10), int32(i), id))
		}
		r := URIs(strings.Join(lines, "\n"))
		if len(r.Faults) > 0 || len(r.Entries) != len(entries) {
			t.Fatalf("%d of %d entries, %v", len(r.Entries), len(entries), r.Faults)
		}
		for i := range entries {
			if d := cmp.Diff(shown(entries[i]), shown(r.Entries[i])); d != "" {
				t.Fatal(d)
			}
		}
	})
}

func TestMissingBatch(t *testing.T) {
	t.Parallel()
	e, err := URI("otpauth://totp/A:b?secret=" + hello)
	if err != nil {
		t.Fatal(err)
	}
	part := func(index, size, id int32) string { return exported([]Entry{e}, size, index, id) }
	for name, c := range map[string]struct {
		lines []string
		why   string
	}{
		"one of three missing":      {[]string{part(0, 3, 7), part(2, 3, 7)}, "missing: 2"},
		"another export's":          {[]string{part(0, 2, 7), part(1, 2, 8)}, "missing: 2"},
		"one twice":                 {[]string{part(0, 2, 7), part(0, 2, 7), part(1, 2, 7)}, "part 1 of 2 is there twice"},
		"beyond the last":           {[]string{part(3, 3, 7)}, "part 4 of 3"},
		"below the first":           {[]string{part(-1, 3, 7)}, "part 0 of 3"},
		"of more than there can be": {[]string{part(0, 1<<30, 7)}, "part 1 of"},
		"cut off":                   {[]string{part(0, 1, 7)[:60]}, "missing"},
		"no data":                   {[]string{migrationScheme + "offline"}, "no data"},
		"something else":            {[]string{migrationScheme + "offline?data=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte("hello there")))}, "none of Google"},
	} {
		r := URIs(strings.Join(c.lines, "\n"))
		if len(r.Faults) == 0 || !strings.Contains(fmt.Sprint(r.Faults), c.why) {
			t.Errorf("%s: %v, want %q", name, r.Faults, c.why)
		}
	}
	// A + that was not encoded, and the alphabet of addresses.
	var head, data string
	for id := int32(0); !strings.Contains(data, "+") || !strings.Contains(data, "/"); id++ {
		var text string
		head, text, _ = strings.Cut(part(0, 1, id), "=")
		if data, err = url.PathUnescape(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, same := range []string{data, strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(data), strings.ReplaceAll(data, "+", " ")} {
		if r := URIs(head + "=" + same); len(r.Faults) > 0 || len(r.Entries) != 1 {
			t.Errorf("%d entries, %v", len(r.Entries), r.Faults)
		}
	}
}

// TestBatches: the batches of an export are in several files, of lines or pictures, in any order, and together as if they were in one;
// which is missing, or there twice, and in which file, is said.
func TestBatches(t *testing.T) {
	t.Parallel()
	part := func(index int32) string {
		return exported([]Entry{entryOf(t, fmt.Sprintf("otpauth://totp/A:%d?secret=%s", index, hello))}, 3, index, 7)
	}
	drawn := func(index int32) []byte { return onPNG(t, paper(250, 250, color.White, code(t, part(index), 170))) }
	lines := func(index int32) []byte { return []byte("\ufeff" + part(index) + "\r\n\n") }
	for name, c := range map[string]struct {
		files  [][]byte
		want   string // the accounts
		faults string
	}{
		"pictures":             {[][]byte{drawn(2), drawn(0), drawn(1)}, "201", ""},
		"lines":                {[][]byte{lines(1), lines(2), lines(0)}, "120", ""},
		"both":                 {[][]byte{lines(1), drawn(2), lines(0)}, "120", ""},
		"two in one":           {[][]byte{[]byte(part(1) + "\n" + part(0)), drawn(2)}, "102", ""},
		"one missing":          {[][]byte{drawn(2), drawn(0)}, "20", "[the export of Google Authenticator: it has 3 parts, of which these are missing: 2. All of them are read together]"},
		"one alone":            {[][]byte{drawn(2)}, "2", "[the export of Google Authenticator: it has 3 parts, of which these are missing: 1, 2. All of them are read together]"},
		"one twice":            {[][]byte{drawn(2), drawn(0), lines(1), drawn(0)}, "201", "[file 4, code 1: part 1 of 3 is there twice]"},
		"another address":      {[][]byte{drawn(2), drawn(0), lines(1), []byte("otpauth://totp/B:x?secret=" + hello)}, "201x", ""},
		"a line that is none":  {[][]byte{drawn(2), drawn(0), append(lines(1), "\nhello"...)}, "201", "[file 3, line 4: it does not begin with otpauth://]"},
		"a code that is none":  {[][]byte{lines(0), lines(1), lines(2), onPNG(t, paper(200, 200, color.White, code(t, "hello", 100)))}, "012", "[file 4, code 1: it does not begin with otpauth://]"},
		"nothing in the files": {[][]byte{[]byte("\n"), []byte("\n")}, "", "it is empty"},
	} {
		var b Batches
		for _, f := range c.files {
			g := Guess(f)
			if g == "" {
				g = FormatURI
			}
			if err := b.Add(t.Context(), g, f); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		r, err := b.Reading()
		got := ""
		for _, e := range r.Entries {
			got += e.Account
		}
		said := fmt.Sprint(err)
		if err == nil && len(r.Faults) > 0 {
			said = fmt.Sprint(r.Faults)
		}
		if got != c.want || (c.faults == "") != (err == nil && len(r.Faults) == 0) || !strings.Contains(said, c.faults) && c.faults != "" {
			t.Errorf("%s: %q, %s", name, got, said)
		}
	}
	var b Batches
	for _, f := range []struct {
		Format
		data string
		want string
	}{{FormatCSV, "secret\n", "file 1: not of this format: only pictures"}, {FormatQR, "GIF", "file 2: not of this format: it is neither PNG"}, {FormatURI, strings.Repeat("x", MostBytes+1), "file 3: not of this format: it has"}} {
		if err := b.Add(t.Context(), f.Format, []byte(f.data)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%s: %v", f.Format, err)
		}
	}
	if err := b.Add(t.Context(), FormatURI, []byte("otpauth://totp/B:x?secret="+hello)); err != nil {
		t.Error(err)
	}
	key := b.all.read.Entries[0].Key.Expose()
	if b.Clear(); strings.Trim(string(key), "\x00") != "" || len(b.all.read.Entries) > 0 {
		t.Errorf("%q is still there", key)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Add(gone, FormatQR, drawn(0)); !errors.Is(err, context.Canceled) {
		t.Errorf("of who went: %v", err)
	}
}

func FuzzMigration(f *testing.F) {
	f.Add([]byte("\n\x1f\n\nHello!\xde\xad\xbe\xef\x12\x03a:b\x1a\x01a \x01(\x010\x02\x10\x01\x18\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := URIs(migrationScheme + "offline?data=" + url.QueryEscape(base64.StdEncoding.EncodeToString(raw)))
		if len(r.Entries) > len(raw) {
			t.Errorf("%d entries of %d bytes", len(r.Entries), len(raw))
		}
	})
}
