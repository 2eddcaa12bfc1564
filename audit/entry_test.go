package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func anyEntry(t *rapid.T) Entry {
	str := func(alphabet string, least, most int) *rapid.Generator[string] {
		return rapid.StringOfN(rapid.RuneFrom([]rune(alphabet)), least, most, most)
	}
	name := str("abcxyz019_", 1, 64)
	id := func(label string) (x [16]byte) {
		copy(x[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
		x[0] |= 1
		return x
	}
	printable := func(label string, least, most int) string {
		return str("aZ09 -/:.é水🔑\u00a0\u2028", least, most).Draw(t, label)
	}
	e := Entry{
		Version: Version, Log: id("log"), ID: id("id"),
		Time: time.UnixMicro(rapid.Int64Range(0, (maxTime+1)*1e6-1).Draw(t, "time")).UTC(),
		Type: str("abz_.-9", 1, 64).Draw(t, "type"), How: printable("how", 1, 64),
		Actor:   Actor{rapid.SampledFrom([]ActorKind{ActorKey, ActorAgent, ActorPerson, ActorService, ActorSystem, ActorNobody}).Draw(t, "kind"), printable("actor", 0, 128)},
		Source:  printable("source", 0, 128),
		Outcome: rapid.SampledFrom([]Outcome{Done, Denied, Failed, Stated}).Draw(t, "outcome"),
		Policy:  printable("policy", 0, 128), Decision: str("ABZ_9", 0, 32).Draw(t, "decision"),
	}
	if rapid.Bool().Draw(t, "has request") {
		e.Request = id("request")
	}
	if rapid.Bool().Draw(t, "has target") {
		e.Target = Target{str("abz_.", 1, 32).Draw(t, "target kind"), printable("target", 0, 256)}
	}
	for _, n := range rapid.SliceOfNDistinct(name, 0, 8, rapid.ID).Draw(t, "public") {
		e.Public = append(e.Public, Field{n, printable("value", 0, 300)})
	}
	for _, n := range rapid.SliceOfNDistinct(name, 0, 4, rapid.ID).Draw(t, "commitments") {
		c := Commitment{Name: n, Subject: id("subject")}
		copy(c.Sum[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "sum"))
		e.Commitments = append(e.Commitments, c)
	}
	return e
}

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEntry(t)
		b, err := e.Encode()
		if err != nil {
			t.Fatalf("Encode: %v", err)
		}
		if len(b) > e.room() {
			t.Fatalf("the encoding has %d bytes, room says %d", len(b), e.room())
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatalf("Decode: %v\n%x", err, b)
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("Decode(Encode(e)) = %+v; want %+v", got, e)
		}
	})
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	many := make([]Field, MaxPublic+1)
	for i := range many {
		many[i] = Field{Name: strings.Repeat("a", i/26+1) + string(rune('a'+i%26))}
	}
	for want, change := range map[string]func(*Entry){
		"version is 2":                      func(e *Entry) { e.Version = 2 },
		"version is 0":                      func(e *Entry) { e.Version = 0 },
		"log and id must":                   func(e *Entry) { e.Log = LogID{} },
		"log and id must both":              func(e *Entry) { e.ID = EntryID{} },
		"time is outside":                   func(e *Entry) { e.Time = time.Time{} },
		"time is outside the years":         func(e *Entry) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"type is 0 bytes":                   func(e *Entry) { e.Type = "" },
		"type is 65 bytes":                  func(e *Entry) { e.Type = strings.Repeat("a", 65) },
		"type holds":                        func(e *Entry) { e.Type = "Agent" },
		"actor.kind":                        func(e *Entry) { e.Actor.Kind = "ghost" },
		"actor.id is 129 bytes":             func(e *Entry) { e.Actor.ID = strings.Repeat("a", 129) },
		"actor.id holds a control":          func(e *Entry) { e.Actor.ID = "a\x00" },
		"actor.id is not UTF-8":             func(e *Entry) { e.Actor.ID = "a\xff" },
		"how is 0 bytes":                    func(e *Entry) { e.How = "" },
		"source is 129 bytes":               func(e *Entry) { e.Source = strings.Repeat("a", 129) },
		"target.id is set":                  func(e *Entry) { e.Target.Kind = "" },
		"target.kind is 33 bytes":           func(e *Entry) { e.Target.Kind = strings.Repeat("a", 33) },
		"target.id is 257 bytes":            func(e *Entry) { e.Target.ID = strings.Repeat("a", 257) },
		"target.id is not UTF-8":            func(e *Entry) { e.Target.ID = "\xc0\x80" },
		"outcome is not":                    func(e *Entry) { e.Outcome = "" },
		"decision holds":                    func(e *Entry) { e.Decision = "allowed" },
		"policy holds a control":            func(e *Entry) { e.Policy = "a\x7f" },
		"public has 65 fields":              func(e *Entry) { e.Public = many },
		"public name holds":                 func(e *Entry) { e.Public = []Field{{"a b", ""}} },
		"public name is 0":                  func(e *Entry) { e.Public = []Field{{"", ""}} },
		"public: a is 4097 bytes":           func(e *Entry) { e.Public = []Field{{"a", strings.Repeat("x", 4097)}} },
		"public: a is there twice":          func(e *Entry) { e.Public = []Field{{"a", "1"}, {"a", "1"}} },
		"there are 17 commitments":          func(e *Entry) { e.Commitments = make([]Commitment, 17) },
		"commitment name is 0":              func(e *Entry) { e.Commitments[0].Name = "" },
		"commitment request is there twice": func(e *Entry) { e.Commitments = append(e.Commitments, e.Commitments[0]) },
		"the entry is 16751 bytes long; at most 16384": func(e *Entry) {
			e.Public = nil
			for _, n := range []string{"a", "b", "c", "d"} {
				e.Public = append(e.Public, Field{n, strings.Repeat("x", maxValue)})
			}
			e.Target.ID = "did:web:avouch.example:agents:0" + strings.Repeat("x", 100)
		},
	} {
		e, _ := testEntry(1, 0)
		change(&e)
		before := []byte("before")
		b, err := e.AppendTo(before)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v; want %q in it", err, want)
		}
		if string(b) != "before" {
			t.Errorf("%s: the buffer was changed to %q", want, b)
		}
	}
}

func TestLongestEntry(t *testing.T) {
	t.Parallel()
	e, _ := testEntry(1, 0)
	e.Public = []Field{{"a", strings.Repeat("x", maxValue)}, {"b", strings.Repeat("x", maxValue)}, {"c", strings.Repeat("x", maxValue)}, {"d", ""}}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e.Public[3].Value = strings.Repeat("x", MaxEntry-len(b)-2) // the head of d's value grows by two bytes
	if b, err = e.Encode(); err != nil || len(b) != MaxEntry {
		t.Fatalf("%d bytes, %v; want %d", len(b), err, MaxEntry)
	}
	if _, err := Decode(b); err != nil {
		t.Errorf("the longest entry cannot be read: %v", err)
	}
	if e.Public[3].Value += "x"; len(e.Public[3].Value) > 0 {
		if _, err := e.Encode(); err == nil {
			t.Error("an entry of MaxEntry+1 bytes was written")
		}
	}
	if _, err := Decode(append(b, 0)); err == nil || !strings.Contains(err.Error(), "16385 bytes long") {
		t.Errorf("an entry of MaxEntry+1 bytes: %v", err)
	}
}

// item is CBOR written by hand, so that it can be wrong.
func item(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	id := func(b byte) []byte { return append([]byte{0x50}, bytes.Repeat([]byte{b}, 16)...) }
	k := func(n byte) []byte { return []byte{n} }
	s := func(s string) []byte { return appendText(nil, s) }
	version, log, entry := item(k(1), k(1)), item(k(2), id(1)), item(k(3), id(2))
	at, typ := item(k(4), k(5)), item(k(5), s("a.b"))
	actor, how, outcome := item(k(7), k(0x82), s("key"), s("")), item(k(8), s("x")), item(k(11), s("done"))
	head := item(version, log, entry)
	good := item(k(0xa8), head, at, typ, actor, how, outcome)
	if _, err := Decode(good); err != nil {
		t.Fatalf("the good entry: %v", err)
	}
	for name, b := range map[string][]byte{
		"nothing":                nil,
		"not a map":              {0x80},
		"empty map":              {0xa0},
		"indefinite map":         item(k(0xbf), head, at, typ, actor, how, outcome, k(0xff)),
		"long map head":          item([]byte{0xb8, 8}, head, at, typ, actor, how, outcome),
		"map of 2^64":            append([]byte{0xbb}, bytes.Repeat([]byte{0xff}, 8)...),
		"trailing byte":          append(bytes.Clone(good), 0),
		"wrong order":            item(k(0xa8), head, typ, at, actor, how, outcome),
		"a key twice":            item(k(0xa9), head, at, at, typ, actor, how, outcome),
		"unknown key":            item(k(0xa9), head, at, typ, actor, how, outcome, k(16), k(0)),
		"text key":               item(k(0xa9), head, at, typ, actor, how, outcome, s("k"), k(0)),
		"missing outcome":        item(k(0xa7), head, at, typ, actor, how),
		"one pair too few":       item(k(0xa9), head, at, typ, actor, how, outcome),
		"long number":            item(k(0xa8), head, []byte{4, 0x18, 5}, typ, actor, how, outcome),
		"longer number":          item(k(0xa8), head, []byte{4, 0x19, 0, 5}, typ, actor, how, outcome),
		"longest number":         item(k(0xa8), head, []byte{4, 0x1b, 0, 0, 0, 0, 0, 0, 0, 5}, typ, actor, how, outcome),
		"reserved number":        item(k(0xa8), head, []byte{4, 0x1c}, typ, actor, how, outcome),
		"negative time":          item(k(0xa8), head, []byte{4, 0x20}, typ, actor, how, outcome),
		"time of 2^64":           item(k(0xa8), head, append([]byte{4, 0x1b}, bytes.Repeat([]byte{0xff}, 8)...), typ, actor, how, outcome),
		"version 2":              item(k(0xa8), []byte{1, 2}, log, entry, at, typ, actor, how, outcome),
		"short id":               item(k(0xa8), version, log, []byte{3, 0x41, 1}, at, typ, actor, how, outcome),
		"zero request":           item(k(0xa9), head, at, typ, k(6), id(0), actor, how, outcome),
		"text in chunks":         item(k(0xa8), head, at, []byte{5, 0x7f, 0x61, 'a', 0xff}, actor, how, outcome),
		"bytes for text":         item(k(0xa8), head, at, []byte{5, 0x41, 'a'}, actor, how, outcome),
		"text that is not UTF-8": item(k(0xa8), head, at, typ, actor, []byte{8, 0x61, 0xff}, outcome),
		"text of 2^63":           item(k(0xa8), head, at, append([]byte{5, 0x7b, 0x80}, make([]byte, 7)...), actor, how, outcome),
		"empty source":           item(k(0xa9), head, at, typ, actor, how, k(9), s(""), outcome),
		"actor of one":           item(k(0xa8), head, at, typ, k(7), k(0x81), s("key"), how, outcome),
		"empty target":           item(k(0xa9), head, at, typ, actor, how, k(10), k(0x82), s(""), s(""), outcome),
		"no public fields":       item(k(0xa9), head, at, typ, actor, how, outcome, k(14), k(0x80)),
		"many public fields":     item(k(0xa9), head, at, typ, actor, how, outcome, k(14), []byte{0x99, 0xff, 0xff}),
		"a tag":                  item(k(0xa8), head, []byte{4, 0xc1, 5}, typ, actor, how, outcome),
	} {
		if e, err := Decode(b); err == nil {
			t.Errorf("%s: read as %+v", name, e)
		}
	}
	for n := range good {
		if _, err := Decode(good[:n]); err == nil {
			t.Errorf("the first %d bytes were read", n)
		}
	}
}

// TestNoTwoEncodings flips every bit: what can still be read is another entry, written in just those bytes.
func TestNoTwoEncodings(t *testing.T) {
	t.Parallel()
	e, _ := testEntry(1, 77)
	good, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for i := range len(good) * 8 {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		got, err := Decode(b)
		if err != nil {
			continue
		}
		read++
		again, err := got.Encode()
		if reflect.DeepEqual(got, e) || err != nil || !bytes.Equal(again, b) {
			t.Errorf("bit %d: not told from the original", i)
		}
	}
	if read == 0 || read == len(good)*8 {
		t.Errorf("%d of %d were read: the test shows nothing", read, len(good)*8)
	}
}

func TestEntryJSON(t *testing.T) {
	t.Parallel()
	e, _ := testEntry(1, 3)
	e.Time = e.Time.In(time.FixedZone("", 3600))
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":1,"log_id":"019a0101-0000-7000-8000-000000000000","entry_id":"019a0201-0000-7003-8000-000000000003",` +
		`"time":"2026-11-22T06:31:04.003003Z","type":"verify.decided","request_id":"019a0301-0000-7003-8000-000000000003",` +
		`"actor":{"kind":"service","id":"018f"},"how":"api-key","source":"orders","target":{"kind":"agent","id":"did:web:avouch.example:agents:3"},` +
		`"outcome":"done","decision":"ALLOWED","policy":"pack-7","public":{"resource_hash":"abababababababababababababababababababababababababababababababab","scopes":"read:orders"},` +
		`"commitments":[{"name":"request","subject_id":"019a0401-0000-7003-8000-000000000003","sum":"`
	if !strings.HasPrefix(string(got), want) {
		t.Errorf("JSON = %s\nwant it to begin with %s", got, want)
	}
	if e.Time.Nanosecond()%1000 != 0 {
		t.Fatal("the entry's time has no microseconds to show")
	}
}

func TestTimeIsCutToMicroseconds(t *testing.T) {
	t.Parallel()
	e, _ := testEntry(1, 0)
	whole, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e.Time = e.Time.Add(999 * time.Nanosecond).Local()
	cut, err := e.Encode()
	if err != nil || !bytes.Equal(whole, cut) {
		t.Errorf("999 ns more give other bytes (%v)", err)
	}
}

func TestEncodeAllocatesOnce(t *testing.T) { // not parallel: AllocsPerRun counts the whole program's
	e, _ := testEntry(1, 0)
	if n := testing.AllocsPerRun(100, func() { _, _ = e.Encode() }); n > 1 {
		t.Errorf("Encode allocates %v times", n)
	}
	b, leaf := make([]byte, 0, 2048), [32]byte{}
	if n := testing.AllocsPerRun(100, func() {
		b, _ = e.AppendTo(b[:0])
		leaf = Link(leaf, Leaf(b))
	}); n > 0 {
		t.Errorf("AppendTo, Leaf and Link allocate %v times", n)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for i := range 3 {
		e, _ := testEntry(1, i)
		b, err := e.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x was read, and is written as %x (%v)", b, again, err)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Errorf("%x has no JSON: %v", b, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	e, _ := testEntry(1, 0)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = e.Encode()
	}
}

func BenchmarkAppendTo(b *testing.B) {
	e, _ := testEntry(1, 0)
	buf := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = e.AppendTo(buf[:0])
	}
}

func BenchmarkDecode(b *testing.B) {
	e, _ := testEntry(1, 0)
	data, _ := e.Encode()
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_, _ = Decode(data)
	}
}

func BenchmarkLeaf(b *testing.B) {
	e, _ := testEntry(1, 0)
	data, _ := e.Encode()
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_ = Leaf(data)
	}
}

func BenchmarkLink(b *testing.B) {
	var prev, leaf [32]byte
	b.ReportAllocs()
	for b.Loop() {
		prev = Link(prev, leaf)
	}
}
