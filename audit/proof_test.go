package audit

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestProve(t *testing.T) {
	t.Parallel()
	rs := testRecords(t, 1, 600)
	_, vkey := testKey(t, testOrigin(1), 1)
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 2, 255, 256, 257, 600} {
		export, c := testExport(t, 1, rs[:size])
		for _, seq := range []int{0, 1, size / 2, 255, 256, size - 1} {
			if seq >= size {
				continue
			}
			proof, err := Prove(export.fs(), Seq(seq))
			if err != nil {
				t.Fatalf("entry %d of %d: %v", seq, size, err)
			}
			got, err := VerifyProof(proof, vkey)
			if err != nil || got.Seq != Seq(seq) || !bytes.Equal(got.Entry, rs[seq].Entry) || got.Checkpoint != c {
				t.Errorf("entry %d of %d: %+v, %v", seq, size, got, err)
			}
			policy := torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(c.Origin), torchwood.SingleVerifierPolicy(verifier))
			if err := torchwood.VerifyProof(policy, rs[seq].Leaf, proof); err != nil {
				t.Errorf("entry %d of %d: torchwood says %v", seq, size, err)
			}
		}
		for _, seq := range []Seq{-1, Seq(size), 1 << 62} {
			if _, err := Prove(export.fs(), seq); err == nil {
				t.Errorf("entry %d of %d: proved", seq, size)
			}
		}
	}
}

func TestProveRefusesALyingExport(t *testing.T) {
	t.Parallel()
	good, _ := testExport(t, 1, testRecords(t, 1, 300))
	for name := range good {
		if name == fileRecords || name == tilePath(entriesLevel, 0, 256) || strings.HasPrefix(name, "tile/0/000") {
			continue // not needed to prove entry 299
		}
		bad := good.clone()
		data := bytes.Clone(bad[name].Data)
		data[len(data)/2] ^= 1
		if strings.HasPrefix(name, "tile/entries") {
			data[len(data)-1] ^= 1
		}
		bad.set(name, data)
		if _, err := Prove(bad.fs(), 299); err == nil {
			t.Errorf("%s was changed, and the proof was made", name)
		}
	}
}

func TestProofTampering(t *testing.T) {
	t.Parallel()
	export, _ := testExport(t, 1, testRecords(t, 1, 5))
	_, vkey := testKey(t, testOrigin(1), 1)
	proof, err := Prove(export.fs(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range proof {
		for _, bit := range []byte{1, 4, 16, 32, 128} {
			b := bytes.Clone(proof)
			b[i] ^= bit
			if p, err := VerifyProof(b, vkey); err == nil {
				t.Fatalf("byte %d (%q) became %q, and it proves entry %d", i, proof[i], b[i], p.Seq)
			}
		}
		if _, err := VerifyProof(proof[:i], vkey); err == nil {
			t.Fatalf("the first %d bytes prove an entry", i)
		}
	}
	_, other := testKey(t, testOrigin(1), 2)
	if _, err := VerifyProof(proof, other); err == nil {
		t.Error("proved with another key")
	}
	for name, b := range map[string]string{
		"index +3":      strings.Replace(string(proof), "index 3", "index +3", 1),
		"index 03":      strings.Replace(string(proof), "index 3", "index 03", 1),
		"index -1":      strings.Replace(string(proof), "index 3", "index -1", 1),
		"index 2":       strings.Replace(string(proof), "index 3", "index 2", 1),
		"another hash":  strings.Replace(string(proof), "index 3\n", "index 3\n"+tlog.Hash{}.String()+"\n", 1),
		"many hashes":   strings.Replace(string(proof), "index 3\n", "index 3\n"+strings.Repeat(tlog.Hash{}.String()+"\n", 99), 1),
		"broken base64": strings.Replace(string(proof), "extra ", "extra \r", 1),
		"too long":      string(proof) + strings.Repeat("x", MaxProof),
	} {
		if _, err := VerifyProof([]byte(b), vkey); err == nil {
			t.Errorf("%s: proved", name)
		}
	}
}

// TestProofOfAHugeLog: x/mod's arithmetic runs for ever on sizes above 2^62. A signer can write any size.
func TestProofOfAHugeLog(t *testing.T) {
	t.Parallel()
	_, vkey := testKey(t, testOrigin(1), 1)
	e, _ := testEntry(1, 0)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{MaxSize, MaxSize + 1, 1<<62 + 1, 1<<63 - 1} {
		signed := signNote(t, 1, fmt.Sprintf("%s\n%d\n%s\n", testOrigin(1), size, tlog.Hash{}))
		proof := torchwood.FormatProofWithExtraData(0, b, make(tlog.RecordProof, 62), signed)
		done := make(chan error, 1)
		go func() {
			_, err := VerifyProof(proof, vkey)
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("size %d: proved", size)
			}
		case <-time.After(time.Minute):
			t.Fatalf("size %d: it does not return", size)
		}
	}
}

// TestProofOfAnotherLogsEntry: a log may hold any bytes, also those of another log's entry.
func TestProofOfAnotherLogsEntry(t *testing.T) {
	t.Parallel()
	signer, vkey := testKey(t, testOrigin(1), 1)
	foreign := testRecords(t, 2, 1)[0]
	for name, entry := range map[string][]byte{"another log's": foreign.Entry, "no entry": []byte("hello")} {
		c := Checkpoint{testOrigin(1), 1, Leaf(entry)}
		signed, err := c.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := FormatProof(signed, c, 0, entry, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyProof(proof, vkey); err == nil {
			t.Errorf("%s: proved as one of this log", name)
		}
	}
	if _, err := FormatProof(nil, Checkpoint{testOrigin(1), 1, numbered(1)}, 0, foreign.Entry, nil); err == nil {
		t.Error("a proof that does not hold was written")
	}
	if _, err := FormatProof(nil, Checkpoint{testOrigin(1), 1<<63 - 1, numbered(1)}, 0, foreign.Entry, nil); err == nil {
		t.Error("a proof for a log that is too large was written")
	}
}

func FuzzProof(f *testing.F) {
	rs := testRecords(f, 1, 5)
	export, _ := testExport(f, 1, rs)
	_, vkey := testKey(f, testOrigin(1), 1)
	for i := range 3 {
		proof, err := Prove(export.fs(), Seq(i))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(proof)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := VerifyProof(b, vkey)
		if err == nil && (p.Seq >= 5 || !bytes.Equal(p.Entry, rs[p.Seq].Entry)) {
			t.Errorf("%q proves entry %d", b, p.Seq)
		}
	})
}
