package audit

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxSize is the largest log that is read or checked. Much larger sizes make the integer arithmetic of proofs run for
// ever (x/mod's does from 2^62), and a checkpoint's size is whatever its signer wrote.
const MaxSize = 1 << 40

// tileBits: tiles of the tlog-tiles format are 8 levels high and 256 hashes wide.
const (
	tileBits  = 8
	tileWidth = 1 << tileBits
)

// Tree is the right edge of a Merkle tree (RFC 9162, section 2.1), enough to append to it and to know its root. The zero
// Tree is empty, and a copy is independent of the original. Proofs are made from tiles (Prove) or stored hashes
// (golang.org/x/mod/sumdb/tlog), not from this.
type Tree struct {
	size int64
	edge [41]tlog.Hash // edge[l] is the root of a full subtree of 2^l leaves, if bit l of size is set
}

// NewTree takes up a tree where Edge left it.
func NewTree(size int64, edge [][32]byte) (Tree, error) {
	t := Tree{size: size}
	if size < 0 || size > MaxSize || bits.OnesCount64(uint64(size)) != len(edge) {
		return Tree{}, fmt.Errorf("audit.NewTree: %d hashes are not the edge of a tree of %d leaves", len(edge), size)
	}
	for l := range t.edge {
		if size>>l&1 == 1 {
			t.edge[l] = edge[len(edge)-1]
			edge = edge[:len(edge)-1]
		}
	}
	return t, nil
}

// Append adds a leaf (see Leaf).
func (t *Tree) Append(leaf [32]byte) { t.AppendTiled(leaf, func(int, int64, [32]byte) {}) }

// AppendTiled adds a leaf, and reports each hash that tiles hold as it becomes final: the nth of a tile level, 0 for the
// leaves themselves. At each level they come in order.
func (t *Tree) AppendTiled(leaf [32]byte, visit func(level int, n int64, hash [32]byte)) {
	visit(0, t.size, leaf)
	h, l := tlog.Hash(leaf), 0
	for ; t.size>>l&1 == 1; l++ {
		h = tlog.NodeHash(t.edge[l], h)
		if (l+1)%tileBits == 0 {
			visit((l+1)/tileBits, t.size>>(l+1), h)
		}
	}
	t.edge[l] = h
	t.size++
}

// Size is the number of leaves.
func (t Tree) Size() int64 { return t.size }

// Edge is the roots of the full subtrees, the largest first: what to store to take the tree up again.
func (t Tree) Edge() [][32]byte {
	var edge [][32]byte
	for l := len(t.edge) - 1; l >= 0; l-- {
		if t.size>>l&1 == 1 {
			edge = append(edge, t.edge[l])
		}
	}
	return edge
}

// Root is the root of the tree; that of the empty tree is SHA-256 of nothing.
func (t Tree) Root() [32]byte {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	l := bits.TrailingZeros64(uint64(t.size))
	root := t.edge[l]
	for l++; l < len(t.edge); l++ {
		if t.size>>l&1 == 1 {
			root = tlog.NodeHash(t.edge[l], root)
		}
	}
	return root
}
