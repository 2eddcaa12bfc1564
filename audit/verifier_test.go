package audit

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func addAll(v *Verifier, records []Record) error {
	for _, r := range records {
		if err := v.Add(r); err != nil {
			return err
		}
	}
	return nil
}

// TestVerifierFindsTampering makes one change at any place of a log; the fault is where the chain shows it first.
func TestVerifierFindsTampering(t *testing.T) {
	t.Parallel()
	good, other := testRecords(t, 1, 40), testRecords(t, 2, 40)
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(1, 38).Draw(t, "at")
		rs := append([]Record{}, good...)
		rs[at].Entry = bytes.Clone(rs[at].Entry)
		want := Seq(at)
		switch rapid.SampledFrom([]string{"entry", "entry+leaf", "leaf", "prev", "seq", "delete", "insert", "swap", "repeat", "disclosed", "foreign"}).Draw(t, "change") {
		case "entry":
			rs[at].Entry[rapid.IntRange(0, len(rs[at].Entry)-1).Draw(t, "byte")] ^= 1
		case "entry+leaf": // the next record's prev tells, if the entry can still be read
			i := len(rs[at].Entry) - 1
			rs[at].Entry[i] ^= 1
			rs[at].Leaf = Leaf(rs[at].Entry)
			rs[at].Disclosed = nil
			want++
		case "leaf":
			rs[at].Leaf[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		case "prev":
			rs[at].Prev[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		case "seq":
			rs[at].Seq += Seq(rapid.SampledFrom([]int{-1, 1, 256}).Draw(t, "by"))
		case "delete":
			rs = append(rs[:at], rs[at+1:]...)
		case "insert":
			rs = append(rs[:at], append([]Record{other[at]}, rs[at:]...)...)
		case "swap":
			rs[at], rs[at+1] = rs[at+1], rs[at]
		case "repeat":
			rs = append(rs[:at], append([]Record{rs[at-1]}, rs[at:]...)...)
		case "disclosed":
			rs[at].Disclosed = []Disclosure{{Name: "request", Fields: []Field{{"name", "Eve"}}}}
		case "foreign": // with the whole chain made anew around it
			rs[at] = other[at]
			rs = relink(rs)
		}
		v := NewVerifier(LogID{})
		err := addAll(v, rs)
		f := wantFault(t, err, want)
		if again := v.Add(good[0]); again != error(f) {
			t.Fatalf("after a fault it says %v", again)
		}
		if v.State().Tree.Size() != int64(want) {
			t.Fatalf("it counts %d good records; want %d", v.State().Tree.Size(), want)
		}
	})
}

func TestVerifierResumes(t *testing.T) {
	t.Parallel()
	rs := testRecords(t, 1, 300)
	whole := NewVerifier(testLog(1))
	if err := addAll(whole, rs); err != nil {
		t.Fatal(err)
	}
	for _, stop := range []int{0, 1, 255, 256, 257, 300} {
		v := NewVerifier(testLog(1))
		if err := addAll(v, rs[:stop]); err != nil {
			t.Fatal(err)
		}
		old := v.State()
		tree, err := NewTree(old.Tree.Size(), old.Tree.Edge())
		if err != nil {
			t.Fatal(err)
		}
		v = ResumeVerifier(State{Log: old.Log, Link: old.Link, Tree: tree})
		if err := addAll(v, rs[stop:]); err != nil {
			t.Fatalf("from %d: %v", stop, err)
		}
		got, want := v.State(), whole.State()
		if got.Link != want.Link || got.Tree.Root() != want.Tree.Root() || got.Link != rs[299].Link() {
			t.Errorf("from %d: another end", stop)
		}
		if stop > 0 {
			wantFault(t, ResumeVerifier(old).Add(rs[stop-1]), Seq(stop))
		}
	}
	wantFault(t, NewVerifier(testLog(2)).Add(rs[0]), 0)
	far := State{Tree: Tree{size: MaxSize}}
	wantFault(t, ResumeVerifier(far).Add(Record{Seq: MaxSize}), MaxSize)
}

func TestVerifierChecksDisclosures(t *testing.T) {
	t.Parallel()
	r := testRecords(t, 1, 4)[3]
	start := State{Link: r.Prev, Tree: Tree{size: 3}}
	if err := ResumeVerifier(start).Add(r); err != nil || len(r.Disclosed) != 1 {
		t.Fatalf("%d disclosures: %v", len(r.Disclosed), err)
	}
	change := func(name string, f func(d *Disclosure)) {
		bad := r
		d := r.Disclosed[0]
		d.Fields = append([]Field{}, d.Fields...)
		f(&d)
		bad.Disclosed = []Disclosure{d}
		if f := wantFault(t, ResumeVerifier(start).Add(bad), 3); !strings.Contains(f.Reason, "committed") {
			t.Errorf("%s: %v", name, f)
		}
	}
	change("name", func(d *Disclosure) { d.Name = "answer" })
	change("salt", func(d *Disclosure) { d.Salt[31] ^= 1 })
	change("value", func(d *Disclosure) { d.Fields[1].Value = "Bob" })
	change("fewer fields", func(d *Disclosure) { d.Fields = d.Fields[:1] })
	twice := r
	twice.Disclosed = append(twice.Disclosed[:1:1], r.Disclosed[0])
	wantFault(t, ResumeVerifier(start).Add(twice), 3)
}

func TestCheckRecords(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	rs := testRecords(t, 1, 9)
	for _, r := range rs {
		file.Write(append(r.AppendJSON(nil), '\n'))
	}
	end, err := CheckRecords(bytes.NewReader(file.Bytes()), State{})
	if err != nil || end.Tree.Size() != 9 || end.Link != rs[8].Link() || end.Log != testLog(1) {
		t.Fatalf("%d records, %v", end.Tree.Size(), err)
	}
	_, err = CheckRecords(bytes.NewReader(file.Bytes()[:file.Len()-1]), State{})
	wantFault(t, err, 8)
	_, err = CheckRecords(bytes.NewReader(file.Bytes()), end)
	wantFault(t, err, 9)
}
