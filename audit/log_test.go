package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// What the tests share: a log whose every byte follows from its size, and a file system in memory.

func testID[T ~[16]byte](kind, n byte, i int) T {
	x := T{0x01, 0x9a, kind, n, 0, byte(i >> 8), 0x70, byte(i), 0x80}
	x[15], x[14] = byte(i), byte(i>>16)
	return x
}

func testLog(n byte) LogID { return testID[LogID](1, n, 0) }

func testOrigin(n byte) string { return Origin("avouch.example", testLog(n)) }

func testEntry(log byte, i int) (Entry, []byte) {
	private := []Field{{"input", fmt.Sprintf("line %d\n<b>\"x\"</b> \\ & ü\u2028", i)}, {"name", "Ada"}}
	salt := bytes.Repeat([]byte{byte(i)}, saltSize)
	e := Entry{
		Version: Version, Log: testLog(log), ID: testID[EntryID](2, log, i), Time: time.UnixMicro(1795329064000000 + int64(i)*1001).UTC(),
		Type: "verify.decided", Request: testID[RequestID](3, log, i), Actor: Actor{ActorService, "018f"}, How: "api-key",
		Source: "orders", Target: Target{"agent", fmt.Sprint("did:web:avouch.example:agents:", i)},
		Outcome: Done, Decision: "ALLOWED", Policy: "pack-7",
		Public:      []Field{{"scopes", "read:orders"}, {"resource_hash", strings.Repeat("ab", 32)}},
		Commitments: []Commitment{{"request", testID[SubjectID](4, log, i), Commit([32]byte(salt), private)}},
	}
	return e, appendFields(salt, private)
}

func testRecords(tb testing.TB, log byte, n int) []Record {
	tb.Helper()
	prev := Genesis
	records := make([]Record, n)
	for i := range records {
		e, plain := testEntry(log, i)
		b, err := e.Encode()
		if err != nil {
			tb.Fatal(err)
		}
		records[i] = Record{Seq: Seq(i), Prev: prev, Entry: b, Leaf: Leaf(b)}
		if i%7 == 3 {
			d, err := Disclose(e.Commitments[0], plain)
			if err != nil {
				tb.Fatal(err)
			}
			records[i].Disclosed = []Disclosure{d}
		}
		prev = records[i].Link()
	}
	return records
}

// shortRecords is a log of the least entries there are, for when there must be many.
func shortRecords(tb testing.TB, log byte, n int) []Record {
	tb.Helper()
	records := make([]Record, n)
	for i := range records {
		e := Entry{Version: Version, Log: testLog(log), ID: testID[EntryID](2, log, i), Time: time.UnixMicro(int64(i)).UTC(), Type: "a",
			Actor: Actor{Kind: ActorSystem}, How: "system", Outcome: Done}
		b, err := e.Encode()
		if err != nil {
			tb.Fatal(err)
		}
		records[i].Entry = b
	}
	return relink(records)
}

// relink puts records in a new order, as somebody would who can rewrite the whole chain.
func relink(records []Record) []Record {
	prev := Genesis
	out := make([]Record, len(records))
	for i, r := range records {
		r.Seq, r.Prev, r.Leaf = Seq(i), prev, Leaf(r.Entry)
		prev = r.Link()
		out[i] = r
	}
	return out
}

func each(records []Record) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func testKey(tb testing.TB, name string, seed byte) (note.Signer, string) {
	tb.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	vkey, err := note.NewEd25519VerifierKey(name, private.Public().(ed25519.PublicKey))
	if err != nil {
		tb.Fatal(err)
	}
	hash := strings.Split(vkey, "+")[1]
	signer, err := note.NewSigner("PRIVATE+KEY+" + name + "+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...)))
	if err != nil {
		tb.Fatal(err)
	}
	return signer, vkey
}

func sealWith(tb testing.TB, origin string, seed byte) Seal {
	signer, vkey := testKey(tb, origin, seed)
	return func(size int64, root [32]byte) ([]byte, string, error) {
		signed, err := Checkpoint{origin, size, root}.Sign(signer)
		return signed, vkey, err
	}
}

type memory fstest.MapFS

func (m memory) create(name string) (io.WriteCloser, error) {
	if m[name] != nil {
		return nil, fmt.Errorf("%s is there already", name)
	}
	m[name] = &fstest.MapFile{Mode: 0o600}
	return &memoryFile{file: m[name]}, nil
}

func (m memory) fs() fstest.MapFS { return fstest.MapFS(m) }

func (m memory) clone() memory { return maps.Clone(m) }

func (m memory) set(name string, data []byte) { m[name] = &fstest.MapFile{Data: data, Mode: 0o600} }

type memoryFile struct {
	bytes.Buffer
	file *fstest.MapFile
}

func (f *memoryFile) Close() error {
	f.file.Data = f.Bytes()
	return nil
}

func testExport(tb testing.TB, log byte, records []Record) (memory, Checkpoint) {
	tb.Helper()
	m := memory{}
	c, err := WriteExport(m.create, each(records), sealWith(tb, testOrigin(log), log))
	if err != nil {
		tb.Fatal(err)
	}
	return m, c
}

// failer is testing.TB and rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func wantFault(tb failer, err error, index Seq) *Fault {
	tb.Helper()
	var f *Fault
	if !errors.As(err, &f) {
		tb.Fatalf("error = %v; want a Fault at %d", err, index)
	}
	if f.Index != index {
		tb.Fatalf("fault at %d (%v); want it at %d", f.Index, f, index)
	}
	return f
}
