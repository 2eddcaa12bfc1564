package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The vectors in testdata/vectors are frozen: what was written under them lies in logs that must verify for seven years
// and more. A test that fails here is right, and the change is wrong. testdata/check.py holds them too.

// vectorEntries is the entries of entries.json, in its order.
func vectorEntries() []Entry {
	full, _ := testEntry(1, 0)
	least := Entry{Version: 1, Log: LogID{15: 1}, ID: EntryID{15: 2}, Time: time.Unix(0, 0).UTC(), Type: "a", Actor: Actor{Kind: ActorSystem}, How: "system", Outcome: Done}
	denied := least
	denied.Time, denied.Type = time.UnixMicro(1795329064123456).UTC(), "apikey.refused"
	denied.Actor, denied.How, denied.Outcome = Actor{Kind: ActorNobody}, "none", Denied
	denied.Public = []Field{{"reason", "unknown_key"}, {"address_hash", ""}}
	text := least
	text.Time = time.UnixMicro(253402300799999999).UTC()
	text.Target = Target{"note", "naïve — 水 🔑 \"quoted\" \\ <b>&\u2028"}
	text.Outcome = Stated
	long := least // heads of one, two and three bytes
	long.Type, long.How, long.Source, long.Policy = strings.Repeat("t", 23), strings.Repeat("h", 24), strings.Repeat("s", 127), strings.Repeat("p", 128)
	long.Public = []Field{{strings.Repeat("n", 64), strings.Repeat("v", 255)}, {"b", strings.Repeat("v", 256)}, {"c", strings.Repeat("v", maxValue)}}
	long.Commitments = []Commitment{{Name: "a"}, {Name: "b", Subject: SubjectID{0: 0xff}, Sum: [32]byte{31: 1}}}
	return []Entry{least, full, denied, text, long}
}

func vectors[T any](t *testing.T, name string) T {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var v T
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

type entryVector struct {
	Name  string          `json:"name"`
	JSON  json.RawMessage `json:"json"`
	Entry string          `json:"entry"`
	Leaf  string          `json:"leaf"`
}

type linkVector struct {
	Seq  int    `json:"seq"`
	Prev string `json:"prev"`
	Leaf string `json:"leaf"`
	Link string `json:"link"`
}

type commitmentVector struct {
	Name      string              `json:"name"`
	Salt      string              `json:"salt"`
	Fields    []map[string]string `json:"fields"`
	Canonical string              `json:"canonical"`
	Sum       string              `json:"sum"`
}

type rootVector struct {
	Size int    `json:"size"`
	Root string `json:"root"`
}

type checkpointVector struct {
	VKey       string   `json:"vkey"`
	Origin     string   `json:"origin"`
	Size       int64    `json:"size"`
	Root       string   `json:"root"`
	Checkpoint string   `json:"checkpoint"`
	Records    []string `json:"records"`
	ProofSeq   Seq      `json:"proof_seq"`
	Proof      string   `json:"proof"`
}

func hexOf[T ~[]byte](b T) string { return hex.EncodeToString(b) }

func TestVectorsOfEntries(t *testing.T) {
	t.Parallel()
	want, entries := vectors[[]entryVector](t, "entries.json"), vectorEntries()
	if len(want) != len(entries) {
		t.Fatalf("%d vectors for %d entries", len(want), len(entries))
	}
	for i, v := range want {
		b, err := entries[i].Encode()
		leaf := Leaf(b)
		if err != nil || hexOf(b) != v.Entry || hexOf(leaf[:]) != v.Leaf {
			t.Errorf("%s: %x, leaf %x, %v", v.Name, b, leaf, err)
		}
		frozen, err := hex.DecodeString(v.Entry)
		if err != nil {
			t.Fatal(err)
		}
		e, err := Decode(frozen)
		if err != nil || !reflect.DeepEqual(e, entries[i]) {
			t.Errorf("%s: read as %+v, %v", v.Name, e, err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, v.JSON); err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(e); err != nil || !bytes.Equal(got, compact.Bytes()) {
			t.Errorf("%s: JSON is %s, %v", v.Name, got, err)
		}
	}
}

func TestVectorsOfLinks(t *testing.T) {
	t.Parallel()
	prev := Genesis
	for i, v := range vectors[[]linkVector](t, "links.json") {
		leaf := numbered(i)
		link := Link(prev, leaf)
		if v.Seq != i || v.Prev != hexOf(prev[:]) || v.Leaf != hexOf(leaf[:]) || v.Link != hexOf(link[:]) {
			t.Errorf("%d: link(%x, %x) = %x; want %s", i, prev, leaf, link, v.Link)
		}
		prev = link
	}
	if prev == Genesis {
		t.Error("no vectors")
	}
}

func TestVectorsOfCommitments(t *testing.T) {
	t.Parallel()
	for _, v := range vectors[[]commitmentVector](t, "commitments.json") {
		var fields []Field
		for _, f := range v.Fields {
			fields = append(fields, Field{f["name"], f["value"]})
		}
		salt, err := hex.DecodeString(v.Salt)
		if err != nil {
			t.Fatal(err)
		}
		sum, canonical := Commit([32]byte(salt), fields), appendFields(nil, fields)
		if hexOf(canonical) != v.Canonical || hexOf(sum[:]) != v.Sum {
			t.Errorf("%s: %x of %x", v.Name, sum, canonical)
		}
		if got, err := Reveal(append(salt, canonical...), sum); err != nil || !reflect.DeepEqual(got, fields) {
			t.Errorf("%s: revealed as %v, %v", v.Name, got, err)
		}
	}
}

func TestVectorsOfRoots(t *testing.T) {
	t.Parallel()
	var tree Tree
	var sizes []int
	for _, v := range vectors[[]rootVector](t, "roots.json") {
		for int(tree.Size()) < v.Size {
			tree.Append(numbered(int(tree.Size())))
		}
		if root := tree.Root(); hexOf(root[:]) != v.Root {
			t.Errorf("size %d: %x; want %s", v.Size, root, v.Root)
		}
		sizes = append(sizes, v.Size)
	}
	if want := []int{0, 1, 2, 255, 256, 257}; !reflect.DeepEqual(sizes, want) {
		t.Errorf("roots of sizes %v; want %v", sizes, want)
	}
}

func TestVectorsOfCheckpoint(t *testing.T) {
	t.Parallel()
	v := vectors[checkpointVector](t, "checkpoint.json")
	c, err := OpenCheckpoint([]byte(v.Checkpoint), v.VKey)
	if err != nil || c.Origin != v.Origin || c.Size != v.Size || hexOf(c.Root[:]) != v.Root {
		t.Fatalf("the checkpoint is %+v, %v", c, err)
	}
	records := testRecords(t, 1, len(v.Records))
	for i, line := range v.Records {
		if got := string(records[i].AppendJSON(nil)); got != line {
			t.Errorf("record %d is written as %s; want %s", i, got, line)
		}
	}
	lines := strings.Join(v.Records, "\n") + "\n"
	if end, err := CheckRecords(strings.NewReader(lines), State{}); err != nil || end.Tree.Root() != c.Root {
		t.Errorf("the records: %v", err)
	}
	export, _ := testExport(t, 1, records)
	if got := string(export[fileCheckpoint].Data); got != v.Checkpoint {
		t.Errorf("the checkpoint is written as %s", got)
	}
	if p, err := VerifyProof([]byte(v.Proof), v.VKey); err != nil || p.Seq != v.ProofSeq || !bytes.Equal(p.Entry, records[p.Seq].Entry) {
		t.Errorf("the proof: %+v, %v", p, err)
	}
	if got, err := Prove(export.fs(), v.ProofSeq); err != nil || string(got) != v.Proof {
		t.Errorf("the proof is written as %s, %v", got, err)
	}
}

func TestVectorsIndependently(t *testing.T) {
	t.Parallel()
	if out, ok := python(t, "vectors", "testdata/vectors"); !ok || !strings.HasPrefix(out, "ok") {
		t.Errorf("it says %s", out)
	}
}
