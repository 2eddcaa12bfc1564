package apikey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// place is where a finding says that a key is, and which.
type place struct {
	line, column int
	key          string
}

func scanned(t testing.TB, r io.Reader) (places []place) {
	t.Helper()
	err := Scan(r, func(f Finding) {
		if p, err := Parse(f.Key().Expose()); err != nil || p != f.Parsed {
			t.Errorf("found is %+v, and its key is %+v, %v", f, p, err)
		}
		places = append(places, place{f.Line, f.Column, f.Key().Expose()})
	})
	if err != nil {
		t.Fatal(err)
	}
	return places
}

// lookedUp finds the keys in the plainest way: at every place of the whole, in either width.
func lookedUp(b []byte) (places []place) {
	for i := range b {
		before := b[:i]
		for width := 1; width <= 2; width++ {
			var text []byte
			for at := i; at < len(b) && len(text) < 70; at += width {
				text = append(text, b[at])
			}
			_, err := Parse(string(text))
			if err == nil && (width == 1 || bytes.HasPrefix(b[i:], wide(string(text))[:139])) {
				places = append(places, place{1 + bytes.Count(before, []byte("\n")), i - bytes.LastIndexByte(before, '\n'), string(text)})
			}
		}
	}
	return places
}

// wide is a text of two bytes a character, the low one first.
func wide(text string) []byte {
	var b []byte
	for _, c := range []byte(text) {
		b = append(b, c, 0)
	}
	return b
}

// allKinds makes a key of every kind, live and test.
func allKinds() (keys []string) {
	for _, kind := range []Kind{Owner, Service, Data} {
		for _, live := range []bool{true, false} {
			key, _ := mint(kind, live)
			keys = append(keys, key.Expose())
		}
	}
	return keys
}

func TestScan(t *testing.T) {
	t.Parallel()
	keys := allKinds()
	k := keys[0]
	for what, tt := range map[string]struct {
		text string
		want []place
	}{
		"nothing":             {"", nil},
		"a key alone":         {k, []place{{1, 1, k}}},
		"all kinds":           {strings.Join(keys, "\n"), []place{{1, 1, keys[0]}, {2, 1, keys[1]}, {3, 1, keys[2]}, {4, 1, keys[3]}, {5, 1, keys[4]}, {6, 1, keys[5]}}},
		"in a line":           {"\n\nexport KEY='" + k + "'\n", []place{{3, 13, k}}},
		"side by side":        {k + keys[1] + k, []place{{1, 1, k}, {1, 71, keys[1]}, {1, 141, k}}},
		"between letters":     {"x_" + k + "xyz", []place{{1, 3, k}}},
		"escaped":             {`{"log":"key:\n` + k + `\n"}`, []place{{1, 15, k}}},
		"in a URL":            {"https://a.example/?key%3D" + k + "%26x", []place{{1, 26, k}}},
		"behind its own tag":  {k[:9] + k, []place{{1, 10, k}}},
		"behind half a key":   {k[:40] + k, []place{{1, 41, k}}},
		"among zeros":         {"\x00\x00\n" + k + "\x00", []place{{2, 1, k}}},
		"two bytes, low":      {"\xff\xfe" + string(wide("a\nb"+k+"c")), []place{{2, 4, k}}},
		"two bytes, high":     {"\xfe\xff\x00" + string(wide("\n" + k)[:141]), []place{{2, 2, k}}},
		"cut off":             {k[:69], nil},
		"without its start":   {k[1:], nil},
		"broken over lines":   {k[:30] + "\n" + k[30:], nil},
		"its hint":            {hint(k), nil},
		"another letter":      {k[:50] + string([]byte{k[50] ^ 1}) + k[51:], nil},
		"upper case":          {strings.ToUpper(k), nil},
		"every second letter": {string(bytes.ReplaceAll(wide(k), []byte{0}, []byte{1})), nil},
	} {
		if got := scanned(t, strings.NewReader(tt.text)); !slices.Equal(got, tt.want) || !slices.Equal(got, lookedUp([]byte(tt.text))) {
			t.Errorf("%s: %v; want %v", what, got, tt.want)
		}
	}
	for _, v := range readVectors(t).Valid {
		if got := scanned(t, strings.NewReader("- "+v.Key+",")); !slices.Equal(got, []place{{1, 3, v.Key}}) {
			t.Errorf("%s: %v", v.Key, got)
		}
	}
}

// TestScanAcrossBuffers puts keys, of one and of two bytes a character, over every place where one buffer ends and the
// next begins.
func TestScanAcrossBuffers(t *testing.T) {
	t.Parallel()
	key, _ := mint(Service, true)
	filler := bytes.Repeat([]byte("_av 0123_\n"), 3*(64<<10)/10)
	for _, text := range [][]byte{[]byte(key.Expose()), wide(key.Expose())} {
		for at := 64<<10 - 300; at < 64<<10+10; at++ {
			b := slices.Concat(filler[:at], text, filler[at:])
			want := []place{{1 + at/10, 1 + at%10, key.Expose()}}
			if got := scanned(t, bytes.NewReader(b)); !slices.Equal(got, want) {
				t.Fatalf("at %d: %v; want %v", at, got, want)
			}
		}
	}
}

func TestScanProperties(t *testing.T) {
	t.Parallel()
	keys := allKinds()
	part := rapid.OneOf(
		rapid.SampledFrom(keys), rapid.Map(rapid.SampledFrom(keys), func(k string) string { return string(wide(k)) }),
		rapid.Custom(func(t *rapid.T) string { return keys[0][:rapid.IntRange(1, 69).Draw(t, "length")] }),
		rapid.SampledFrom([]string{"\n", "\x00", "av", "avk", "avk_", "_", "avk_live_", "x", "\r\n", "a\x00v\x00k\x00_\x00", strings.Repeat("\n_", 40)}),
	)
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(strings.Join(rapid.SliceOfN(part, 0, 30).Draw(t, "parts"), ""))
		want := lookedUp(b)
		read := rapid.SampledFrom([]func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
		}).Draw(t, "reader")
		var got []place
		if err := Scan(read(bytes.NewReader(b)), func(f Finding) { got = append(got, place{f.Line, f.Column, f.Key().Expose()}) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q: %v; want %v", b, got, want)
		}
	})
}

// TestScanTellsNoSecret: a finding may be printed and logged.
func TestScanTellsNoSecret(t *testing.T) {
	t.Parallel()
	key, _ := mint(Owner, true)
	raw := key.Expose()
	if err := Scan(strings.NewReader(raw), func(f Finding) {
		b, err := json.Marshal(f)
		var logged bytes.Buffer
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("found", "finding", f)
		said := fmt.Sprintf("%v %+v %#v %s %s %v", f, f, f, b, &logged, err)
		if strings.Contains(said, raw[21:40]) || !strings.Contains(said, f.Hint) || f.Key().Expose() != raw {
			t.Errorf("it says %s", said)
		}
	}); err != nil {
		t.Error(err)
	}
}

// TestScanReadFails: what came before the failure is told, and the failure is.
func TestScanReadFails(t *testing.T) {
	t.Parallel()
	key, _ := mint(Owner, true)
	broken := errors.New("broken")
	found := 0
	err := Scan(io.MultiReader(strings.NewReader("x"+key.Expose()), iotest.ErrReader(broken)), func(Finding) { found++ })
	if !errors.Is(err, broken) || found != 1 {
		t.Errorf("%v after %d keys", err, found)
	}
	if err := Scan(stuck{}, func(Finding) {}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing, for ever: %v", err)
	}
}

type stuck struct{}

// Read gives nothing and no reason.
func (stuck) Read([]byte) (int, error) { return 0, nil }

func FuzzScan(f *testing.F) {
	for _, v := range readVectors(f).Valid {
		f.Add([]byte("a\n"+v.Key+"_"+v.Key[:40]+v.Key), uint16(7))
		f.Add(append([]byte("\xff\xfe"), wide(v.Key)...), uint16(64))
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		var got []place
		r := &pieces{b, int(size)%200 + 1}
		if err := Scan(r, func(f Finding) { got = append(got, place{f.Line, f.Column, f.Key().Expose()}) }); err != nil {
			t.Fatal(err)
		}
		if want := lookedUp(b); !slices.Equal(got, want) {
			t.Fatalf("%v; want %v", got, want)
		}
	})
}

// pieces reads so many bytes at a time.
type pieces struct {
	rest []byte
	size int
}

// Read reads the next piece.
func (p *pieces) Read(into []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(into, p.rest[:min(p.size, len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

func BenchmarkScan(b *testing.B) {
	key, _ := mint(Service, true)
	text := bytes.Repeat([]byte("the snake_case of some_code, and_have_a look at what avg_of it is\n"), 1<<14)
	text = append(text, key.Expose()...)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		found := 0
		if err := Scan(bytes.NewReader(text), func(Finding) { found++ }); err != nil || found != 1 {
			b.Fatal(found, err)
		}
	}
}
