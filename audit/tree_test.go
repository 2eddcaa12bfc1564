package audit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// naive is RFC 9162, section 2.1.1, word for word.
func naive(leaves [][32]byte) [32]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	l, r := naive(leaves[:k]), naive(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

// stored is x/mod's form of a tree, which it makes proofs from.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(s)) {
			return nil, fmt.Errorf("no hash %d", x)
		}
		out[i] = s[x]
	}
	return out, nil
}

func (s *stored) add(tb testing.TB, n int64, leaf [32]byte) {
	more, err := tlog.StoredHashesForRecordHash(n, leaf, *s)
	if err != nil {
		tb.Fatal(err)
	}
	*s = append(*s, more...)
}

func numbered(i int) [32]byte { return Leaf(fmt.Append(nil, i)) }

// TestTreeAgainstOthers grows one tree by four programs: ours, x/mod's, transparency-dev's, and the RFC's own recursion
// (at sizes around the powers of two that matter to tiles).
func TestTreeAgainstOthers(t *testing.T) {
	t.Parallel()
	naiveAt := map[int]bool{0: true, 1: true, 2: true, 3: true, 255: true, 256: true, 257: true, 511: true, 65535: true, 65536: true, 65537: true}
	var tree Tree
	var xmod stored
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	dev := factory.NewEmptyRange(0)
	leaves := make([][32]byte, 0, 65537)
	for n := range 65538 {
		if n < 600 || naiveAt[n] || n%1009 == 0 {
			got := tree.Root()
			if x, err := tlog.TreeHash(int64(n), xmod); err != nil || x != got {
				t.Fatalf("size %d: root %x; x/mod says %v (%v)", n, got, x, err)
			}
			if d, err := dev.GetRootHash(nil); n > 0 && (err != nil || !bytes.Equal(d, got[:])) {
				t.Fatalf("size %d: root %x; transparency-dev says %x (%v)", n, got, d, err)
			}
			if naiveAt[n] && naive(leaves) != got {
				t.Fatalf("size %d: root %x; the RFC says %x", n, got, naive(leaves))
			}
		}
		leaf := numbered(n)
		if d := rfc6962.DefaultHasher.HashLeaf(fmt.Append(nil, n)); !bytes.Equal(d, leaf[:]) {
			t.Fatalf("leaf %d: %x; transparency-dev says %x", n, leaf, d)
		}
		tree.Append(leaf)
		xmod.add(t, int64(n), leaf)
		if err := dev.Append(leaf[:], nil); err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leaf)
	}
}

// TestTreeResumes stops at any size and goes on from the edge alone.
func TestTreeResumes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		stop, end := rapid.IntRange(0, 1100).Draw(t, "stop"), rapid.IntRange(0, 300).Draw(t, "more")
		var whole Tree
		for i := range stop {
			whole.Append(numbered(i))
		}
		again, err := NewTree(whole.Size(), whole.Edge())
		if err != nil {
			t.Fatal(err)
		}
		frozen := whole
		root := frozen.Root()
		for i := stop; i < stop+end; i++ {
			whole.Append(numbered(i))
			again.Append(numbered(i))
		}
		if whole.Root() != again.Root() || again.Size() != int64(stop+end) {
			t.Fatalf("from %d to %d: the roots differ", stop, stop+end)
		}
		if frozen.Root() != root {
			t.Fatal("a copy changed with its original")
		}
	})
	for _, size := range []int64{-1, 1, 5, MaxSize + 1} {
		if _, err := NewTree(size, nil); err == nil {
			t.Errorf("a tree of %d leaves was made of no hashes", size)
		}
	}
}

// TestTilesAgainstOthers compares what AppendTiled reports with the tiles that x/mod reads from its stored hashes.
func TestTilesAgainstOthers(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 1, 255, 256, 257, 65535, 65536, 65537} {
		var tree Tree
		var xmod stored
		var tiles [levels][]byte
		for n := range size {
			leaf := numbered(int(n))
			xmod.add(t, n, leaf)
			tree.AppendTiled(leaf, func(level int, at int64, hash [32]byte) {
				if int64(len(tiles[level])) != at*32 {
					t.Fatalf("size %d: hash %d of level %d came out of order", size, at, level)
				}
				tiles[level] = append(tiles[level], hash[:]...)
			})
		}
		for _, tile := range tlog.NewTiles(torchwood.TileHeight, 0, size) {
			want, err := tlog.ReadTileData(tile, xmod)
			if err != nil {
				t.Fatal(err)
			}
			from := tile.N * tileWidth * tlog.HashSize
			if got := tiles[tile.L][from : from+int64(len(want))]; !bytes.Equal(got, want) {
				t.Errorf("size %d: tile %s differs", size, tile.Path())
			}
			if tilePath(tile.L, tile.N, tile.W) != torchwood.TilePath(tile) {
				t.Errorf("tile %s has another path", tile.Path())
			}
		}
	}
}
