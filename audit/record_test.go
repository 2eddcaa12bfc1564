package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRecordLine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b32 := func(label string) [32]byte {
			return [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, label))
		}
		r := Record{Seq: Seq(rapid.Int64Min(0).Draw(t, "seq")), Prev: b32("prev"), Leaf: b32("leaf"),
			Entry: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "entry")}
		for range rapid.IntRange(0, 3).Draw(t, "disclosed") {
			d := Disclosure{Name: rapid.StringMatching(`[a-z_]{1,9}`).Draw(t, "name"), Salt: b32("salt")}
			for range rapid.IntRange(1, 3).Draw(t, "fields") {
				d.Fields = append(d.Fields, Field{rapid.StringMatching(`[a-z_]{1,9}`).Draw(t, "field"), rapid.String().Draw(t, "value")})
			}
			r.Disclosed = append(r.Disclosed, d)
		}
		line := r.AppendJSON(nil)
		if !json.Valid(line) || bytes.ContainsAny(line, "\n\r") {
			t.Fatalf("not a line of JSON: %s", line)
		}
		got, err := ParseRecord(line)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("ParseRecord = %+v, %v; want %+v", got, err, r)
		}
		through, err := json.Marshal(r) // an HTTP answer goes through encoding/json, which must change nothing
		if err != nil || !bytes.Equal(through, line) {
			t.Fatalf("json.Marshal = %s, %v; want %s", through, err, line)
		}
	})
}

// TestLongestLine fills every limit with what escapes longest.
func TestLongestLine(t *testing.T) {
	t.Parallel()
	r := Record{Entry: make([]byte, MaxEntry)}
	for range MaxCommitments {
		d := Disclosure{Name: strings.Repeat("n", maxName)}
		for range MaxPublic {
			d.Fields = append(d.Fields, Field{strings.Repeat("n", maxName), ""})
		}
		d.Fields[0].Value = strings.Repeat("\x01", MaxPrivate-len(appendFields(nil, d.Fields))-2)
		if n := len(appendFields(nil, d.Fields)); n != MaxPrivate {
			t.Fatalf("the fields are %d bytes long; want %d", n, MaxPrivate)
		}
		r.Disclosed = append(r.Disclosed, d)
	}
	line := append(r.AppendJSON(nil), '\n')
	if len(line) > MaxLine {
		t.Fatalf("the longest line has %d bytes; MaxLine is %d", len(line), MaxLine)
	}
	n := 0
	for got, err := range ReadRecords(bytes.NewReader(bytes.Repeat(line, 2))) {
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("the longest line was not read: %v", err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("read %d records; want 2", n)
	}
}

func TestParseRecordRefuses(t *testing.T) {
	t.Parallel()
	rs := testRecords(t, 1, 4)
	plain, opened := string(rs[0].AppendJSON(nil)), string(rs[3].AppendJSON(nil))
	for name, line := range map[string]string{
		"nothing":             "",
		"another object":      `{}`,
		"a space":             strings.Replace(plain, `,"prev"`, `, "prev"`, 1),
		"a carriage return":   plain + "\r",
		"another member":      strings.TrimSuffix(plain, "}") + `,"x":1}`,
		"seq +0":              strings.Replace(plain, `"seq":0`, `"seq":+0`, 1),
		"seq 00":              strings.Replace(plain, `"seq":0`, `"seq":00`, 1),
		"seq -1":              strings.Replace(plain, `"seq":0`, `"seq":-1`, 1),
		"seq of 20 digits":    strings.Replace(plain, `"seq":0`, `"seq":99999999999999999999`, 1),
		"upper-case hex":      strings.Replace(plain, rs[0].leafHex(), strings.ToUpper(rs[0].leafHex()), 1),
		"short leaf":          strings.Replace(plain, rs[0].leafHex(), rs[0].leafHex()[2:], 1),
		"leaf of other runes": strings.Replace(plain, rs[0].leafHex(), strings.Repeat("z", 64), 1),
		"seq twice":           strings.Replace(plain, `{"seq":0`, `{"seq":0,"seq":0`, 1),
		"url-safe base64":     `{"seq":0,"prev":"` + strings.Repeat("0", 64) + `","entry":"_w==","leaf":"` + strings.Repeat("0", 64) + `"}`,
		"stray bits":          `{"seq":0,"prev":"` + strings.Repeat("0", 64) + `","entry":"/x==","leaf":"` + strings.Repeat("0", 64) + `"}`,
		"broken base64":       `{"seq":0,"prev":"` + strings.Repeat("0", 64) + `","entry":"/w=","leaf":"` + strings.Repeat("0", 64) + `"}`,
		"an entry too long":   `{"seq":0,"prev":"` + strings.Repeat("0", 64) + `","entry":"` + strings.Repeat("AAAA", MaxEntry/3+2) + `","leaf":"` + strings.Repeat("0", 64) + `"}`,
		"disclosed null":      strings.TrimSuffix(plain, "}") + `,"disclosed":null}`,
		"disclosed nothing":   strings.TrimSuffix(plain, "}") + `,"disclosed":[]}`,
		"disclosed deep":      strings.TrimSuffix(plain, "}") + `,"disclosed":` + strings.Repeat("[", 1e6) + `}`,
		"a name in capitals":  strings.Replace(opened, `"fields"`, `"Fields"`, 1),
		"another escape":      strings.Replace(opened, `\u000a`, `\n`, 1),
		"short salt":          strings.Replace(opened, `"salt":"03`, `"salt":"`, 1),
		"unclosed":            strings.TrimSuffix(opened, "}"),
		"too long":            plain + strings.Repeat(" ", MaxLine),
	} {
		if line == plain || line == opened {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if r, err := ParseRecord([]byte(line)); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
}

func (r Record) leafHex() string {
	b, _ := hexHash(r.Leaf).MarshalText()
	return string(b)
}

func TestReadRecordsEnds(t *testing.T) {
	t.Parallel()
	line := append(testRecords(t, 1, 1)[0].AppendJSON(nil), '\n')
	torn := errors.New("torn")
	for name, c := range map[string]struct {
		from io.Reader
		good int
		bad  string
	}{
		"empty":          {strings.NewReader(""), 0, ""},
		"one":            {bytes.NewReader(line), 1, ""},
		"no newline":     {bytes.NewReader(line[:len(line)-1]), 0, "does not end"},
		"an empty line":  {strings.NewReader(string(line) + "\n" + string(line)), 1, "members"},
		"endless line":   {io.MultiReader(bytes.NewReader(line), endless{}), 1, "longer than"},
		"a reader fails": {io.MultiReader(bytes.NewReader(line), failing{torn}), 1, "torn"},
	} {
		good, last := 0, error(nil)
		for _, err := range ReadRecords(c.from) {
			if last = err; err == nil {
				good++
			}
		}
		if good != c.good || (last != nil) != (c.bad != "") || last != nil && !strings.Contains(last.Error(), c.bad) {
			t.Errorf("%s: %d records, then %v; want %d, then %q", name, good, last, c.good, c.bad)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func FuzzRecordLine(f *testing.F) {
	for _, r := range testRecords(f, 1, 4) {
		f.Add(r.AppendJSON(nil))
	}
	f.Add([]byte(`{"seq":0,"prev":"","entry":"","leaf":"","disclosed":[]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRecord(line)
		if err != nil {
			return
		}
		if !bytes.Equal(r.AppendJSON(nil), line) || !json.Valid(line) {
			t.Errorf("%q was read, and is written as %q", line, r.AppendJSON(nil))
		}
		_ = NewVerifier(LogID{}).Add(r) // must not panic, whatever the entry
	})
}
