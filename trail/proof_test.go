package trail

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// inclusion checks a proof by others' code, which we do not use to make it.
func inclusion(p Proof) error {
	hashes := make([][]byte, len(p.Hashes))
	for i := range p.Hashes {
		hashes[i] = p.Hashes[i][:]
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(p.Entry)
	if string(leaf) != string(p.Leaf[:]) {
		return errors.New("leaf is not the hash of the entry")
	}
	return proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.Seq), uint64(p.Size), leaf, hashes, p.Root[:])
}

// TestProofs proves entries of logs of many sizes, as they grow: at the ends of the runs that are kept, and between.
func TestProofs(t *testing.T) {
	t.Parallel()
	s := enter(t)
	c := s.Caller(s.acme, "audit:read")
	var link [32]byte
	for _, target := range []int64{1, 2, 3, 255, 256, 257, 511, 512, 513, 1000, 1025} {
		if n := target - s.size(t, s.acme); n > 0 {
			s.fill(t, s.acme, int(n))
		}
		size := s.size(t, s.acme)
		for _, seq := range []int64{0, 1, 254, 255, 256, 257, size / 2, size - 2, size - 1} {
			if seq < 0 || seq >= size {
				continue
			}
			p, err := s.room.prove(t.Context(), c, seq)
			must(t, err)
			if p.Size != size || p.Seq != seq {
				t.Fatalf("asked for %d of %d, got %d of %d", seq, size, p.Seq, p.Size)
			}
			if err := inclusion(p); err != nil {
				t.Errorf("entry %d of %d: %v", seq, size, err)
			}
			link = p.Link
		}
	}
	h, err := s.room.head(t.Context(), c)
	must(t, err)
	if string(h.chain) != string(link[:]) {
		t.Error("the proof's link is not the head's")
	}
}

// TestLargeTree folds trees with more levels than a test's database should hold, and compares with x/mod.
func TestLargeTree(t *testing.T) {
	t.Parallel()
	kept := &tree{}
	kept.reset(audit.NewLogID())
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	leaves := make([][32]byte, 70_000)
	for i := range leaves {
		leaves[i] = audit.Leaf(fmt.Append(nil, i))
		more, err := tlog.StoredHashesForRecordHash(int64(i), leaves[i], reader)
		must(t, err)
		stored = append(stored, more...)
		kept.append(leaves[i])
	}
	size := int64(len(leaves))
	for _, seq := range []int64{0, 1, 255, 256, 65535, 65536, 65537, size - 1, 40_000} {
		h := &hashes{tree: kept, leaves: map[int64][][32]byte{}}
		for _, n := range []int64{seq, size - 1} {
			first := n &^ (tileWidth - 1)
			h.leaves[first] = leaves[first:min(first+tileWidth, size)]
		}
		got, err := tlog.ProveRecord(size, seq, h)
		must(t, err)
		want, err := tlog.ProveRecord(size, seq, reader)
		must(t, err)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("entry %d: another proof than x/mod's", seq)
		}
	}
	root, err := tlog.TreeHash(size, reader)
	must(t, err)
	if kept.edge.Root() != root {
		t.Error("another root than x/mod's")
	}
}

// TestProofReadsLittle counts the leaves that a second proof of a long log reads.
func TestProofReadsLittle(t *testing.T) {
	t.Parallel()
	s := enter(t)
	c := s.Caller(s.acme, "audit:read")
	s.fill(t, s.acme, 3000)
	_, err := s.room.prove(t.Context(), c, 5)
	must(t, err)
	s.fill(t, s.acme, 100)
	tree := s.room.trees.trees[s.acme]
	if tree.edge.Size() != 3001 {
		t.Fatalf("%d leaves are known", tree.edge.Size())
	}
	// Were the old leaves read again, those that are gone now would be missed.
	s.tamper(t, tampering{sql: []string{"DELETE FROM avouch.audit_entry WHERE tenant_id = $1 AND seq >= 256 AND seq < 2816"}}, s.acme)
	p, err := s.room.prove(t.Context(), c, 5)
	must(t, err)
	if err := inclusion(p); err != nil || p.Size != 3101 {
		t.Errorf("size %d: %v", p.Size, err)
	}
}

// TestNoProofOfTampered alters what a proof is made of, before and after the process first saw it: none comes out.
func TestNoProofOfTampered(t *testing.T) {
	t.Parallel()
	s := enter(t)
	for name, sql := range map[string]string{
		"body":      flip("body", 5),
		"leaf":      flip("leaf", 5),
		"neighbour": flip("leaf", 6),
		"deleted":   "DELETE FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = 5",
		"head":      "UPDATE avouch.audit_head SET chain = sha256('x') WHERE tenant_id = $1",
	} {
		for _, warm := range []bool{false, true} {
			tenant := s.Tenant(t, name)
			s.fill(t, tenant, 20)
			c := s.Caller(tenant, "audit:read")
			if warm {
				_, err := s.room.prove(t.Context(), c, 5)
				must(t, err)
			}
			s.tamper(t, tampering{sql: []string{sql}}, tenant)
			if p, err := s.room.prove(t.Context(), c, 5); err == nil {
				t.Errorf("%s, warm %v: a proof came out: %+v", name, warm, p)
			}
			if a := s.get(t, c, "/api/v1/audit/proofs/5"); a.Status != 500 {
				t.Errorf("%s, warm %v, over HTTP: %d %s", name, warm, a.Status, a.Raw)
			}
		}
	}
}

// TestProofAfterRollback takes back the log, as a restored backup does: proofs are of the log as it is.
func TestProofAfterRollback(t *testing.T) {
	t.Parallel()
	s := enter(t)
	c := s.Caller(s.acme, "audit:read")
	s.fill(t, s.acme, 20)
	_, err := s.room.prove(t.Context(), c, 15)
	must(t, err)
	s.tamper(t, tampering{sql: []string{
		"UPDATE avouch.audit_head SET size = 12, chain = (SELECT prev FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = 12) WHERE tenant_id = $1",
		"DELETE FROM avouch.audit_entry WHERE tenant_id = $1 AND seq >= 12",
	}}, s.acme)
	p, err := s.room.prove(t.Context(), c, 5)
	must(t, err)
	if err := inclusion(p); err != nil || p.Size != 12 {
		t.Errorf("size %d: %v", p.Size, err)
	}
	s.fill(t, s.acme, 30) // another history of the same log, longer than the first
	p, err = s.room.prove(t.Context(), c, 15)
	must(t, err)
	if err := inclusion(p); err != nil || p.Size != 42 {
		t.Errorf("size %d: %v", p.Size, err)
	}
}

func TestProofOverHTTP(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 300)
	a := s.get(t, s.Caller(s.acme, "audit:read"), "/api/v1/audit/proofs/100")
	if a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	entry, err := base64.StdEncoding.DecodeString(a.Body["entry"].(string))
	must(t, err)
	head := a.Body["head"].(map[string]any)
	p := Proof{Seq: int64(a.Body["seq"].(float64)), Entry: entry, Size: int64(head["size"].(float64))}
	unhex := func(into *[32]byte, v any) {
		b, err := hex.DecodeString(v.(string))
		must(t, err)
		copy(into[:], b)
	}
	unhex(&p.Leaf, a.Body["leaf"])
	unhex(&p.Root, head["root"])
	for _, h := range a.Body["hashes"].([]any) {
		var hash [32]byte
		unhex(&hash, h)
		p.Hashes = append(p.Hashes, hash)
	}
	if err := inclusion(p); err != nil || p.Size != 301 || p.Seq != 100 {
		t.Errorf("%+v: %v", p, err)
	}
	if log := s.Last(t, s.acme).Log; a.Body["origin"] != audit.Origin("avouch.test", log) || a.Body["log_id"] != log.String() {
		t.Errorf("origin %v, log %v", a.Body["origin"], a.Body["log_id"])
	}
	for path, status := range map[string]int{"100000": 404, "-1": 400, "x": 400, "9223372036854775807": 404, "302": 404} {
		if a := s.get(t, s.Caller(s.acme, "audit:read"), "/api/v1/audit/proofs/"+path); a.Status != status {
			t.Errorf("%s: %d", path, a.Status)
		}
	}
}

// TestProofsAtOnce asks for proofs from many sides while the log grows, of two logs, with room for one tree only.
func TestProofsAtOnce(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 600)
	s.fill(t, s.other, 600)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			tenant := []tenantdb.TenantID{s.acme, s.other}[i%2]
			for n := range 10 {
				p, err := s.room.Prove(t.Context(), s.Caller(tenant, "audit:read"), int64(37*n))
				if err == nil {
					err = inclusion(p)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
