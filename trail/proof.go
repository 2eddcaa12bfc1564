package trail

import (
	"context"
	"fmt"
	"math/bits"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Proof shows that the log of a given size and root holds an entry at a place (RFC 9162, section 2.1.3).
type Proof struct {
	Log    audit.LogID
	Seq    int64
	Entry  []byte
	Leaf   [32]byte
	Size   int64    // of the log that the proof is about: the present one
	Root   [32]byte // its Merkle root
	Link   [32]byte // its chain after the last entry
	Hashes [][32]byte
}

// Prove proves one entry of the caller's log against the present head. The read is recorded before it returns.
//
// Of the tree, the process keeps the hash of each full run of 256 entries, and of 256 of those, and so on: 32 bytes for
// 256 entries. A proof then reads the leaves of two such runs at most. What was appended since the last proof is read
// once, 32 bytes an entry, in short transactions; so the first proof of a log after a start reads all its leaves (two or three
// seconds for a million), and if that takes longer than its caller waits, the next call goes on from there.
func (r *Room) Prove(ctx context.Context, c tenantdb.Caller, seq int64) (Proof, error) {
	if err := allowRead(c); err != nil {
		return Proof{}, err
	}
	p, err := r.prove(ctx, c, seq)
	if err != nil {
		return Proof{}, fmt.Errorf("trail.Prove: %w", err)
	}
	if _, err := r.record(ctx, c, sawProof, []audit.Field{{Name: "from", Value: number(seq)}, {Name: "to", Value: number(seq)}}, ""); err != nil {
		return Proof{}, err
	}
	return p, nil
}

func (r *Room) prove(ctx context.Context, c tenantdb.Caller, seq int64) (Proof, error) {
	tree, release, err := r.trees.hold(ctx, c.Tenant())
	if err != nil {
		return Proof{}, err
	}
	defer release()
	if err := r.grow(ctx, c, tree); err != nil {
		return Proof{}, err
	}
	size := tree.edge.Size()
	if seq < 0 || seq >= size {
		return Proof{}, problem.New(problem.Missing, "The log of this organisation has %d entries: there is no entry %d.", size, seq)
	}
	var rows []row
	h := hashes{tree: tree}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		if rows, err = readRange(ctx, tx, c.Tenant(), seq, seq+1); err != nil {
			return err
		}
		return h.load(ctx, tx, c.Tenant(), seq)
	})
	if err != nil {
		return Proof{}, err
	}
	if len(rows) != 1 {
		return Proof{}, fmt.Errorf("%w: at entry %d", errBroken, seq)
	}
	p := Proof{Log: tree.log, Seq: seq, Entry: rows[0].body, Leaf: audit.Leaf(rows[0].body), Size: size, Root: tree.edge.Root(), Link: tree.link}
	found, err := tlog.ProveRecord(size, seq, &h)
	if err != nil {
		return Proof{}, err
	}
	// Never hand out what does not hold: a leaf may have been altered after its hash was kept.
	if err := tlog.CheckRecord(found, size, p.Root, seq, p.Leaf); err != nil || string(rows[0].leaf) != string(p.Leaf[:]) {
		return Proof{}, fmt.Errorf("%w: at entry %d", errBroken, seq)
	}
	for _, hash := range found {
		p.Hashes = append(p.Hashes, hash)
	}
	return p, nil
}

// tileBits is the height of what is kept: the levels of the C2SP tiles.
const (
	tileBits  = 8
	tileWidth = 1 << tileBits
)

// tree is what the process keeps of one log. It is held by one caller at a time.
type tree struct {
	busy  chan struct{}
	log   audit.LogID
	link  [32]byte
	edge  audit.Tree
	tiles [6][][32]byte // the hashes of level 8, 16, ... at index 1, 2, ...
}

func (t *tree) reset(log audit.LogID) {
	// Field by field: others wait on busy meanwhile.
	t.log, t.link, t.edge = log, audit.Genesis, audit.Tree{}
	t.tiles = [6][][32]byte{}
}

func (t *tree) append(leaf [32]byte) {
	t.link = audit.Link(t.link, leaf)
	t.edge.AppendTiled(leaf, func(level int, _ int64, hash [32]byte) {
		if level > 0 {
			t.tiles[level] = append(t.tiles[level], hash)
		}
	})
}

const leafChunk = 16384

// grow takes the tree to the present head, and does not believe a head that the leaves do not lead to. A log that has
// shrunk or changed since is read anew: a restored backup is such a one.
func (r *Room) grow(ctx context.Context, c tenantdb.Caller, t *tree) error {
	h, err := r.head(ctx, c)
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		if t.log != h.log || t.edge.Size() > h.size || attempt > 0 {
			t.reset(h.log)
		}
		if err := r.growTo(ctx, c, t, h.size); err != nil {
			return err
		}
		if string(t.link[:]) == string(h.chain) {
			return nil
		}
		if attempt > 0 {
			return fmt.Errorf("%w: the head is not where its %d leaves lead", errBroken, h.size)
		}
	}
}

func (r *Room) growTo(ctx context.Context, c tenantdb.Caller, t *tree, size int64) error {
	for t.edge.Size() < size {
		from := t.edge.Size()
		var leaves [][32]byte
		err := r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) (err error) {
			leaves, err = readLeaves(ctx, tx, c.Tenant(), from, min(from+leafChunk, size))
			return err
		})
		if err != nil {
			return err
		}
		for _, leaf := range leaves {
			t.append(leaf)
		}
	}
	return nil
}

// hashes answers what a proof asks of the tree: from what is kept, and below that from the leaves of the runs that hold
// the entry and the end of the log.
type hashes struct {
	tree   *tree
	leaves map[int64][][32]byte // by the first of their run
}

func (h *hashes) load(ctx context.Context, q querier, t tenantdb.TenantID, seq int64) error {
	size := h.tree.edge.Size()
	h.leaves = map[int64][][32]byte{}
	for _, n := range []int64{seq, size - 1} {
		first := n &^ (tileWidth - 1)
		if h.leaves[first] != nil {
			continue
		}
		leaves, err := readLeaves(ctx, q, t, first, min(first+tileWidth, size))
		if err != nil {
			return err
		}
		h.leaves[first] = leaves
	}
	return nil
}

// ReadHashes is what tlog.ProveRecord calls.
func (h *hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		// A hash at level 8a+b is made of 2^b hashes of level 8a.
		a, b := level/tileBits, level%tileBits
		from, width := n<<b, int64(1)<<b
		var below [][32]byte
		if a == 0 {
			first := from &^ (tileWidth - 1)
			run := h.leaves[first]
			if from-first+width > int64(len(run)) {
				return nil, fmt.Errorf("trail.ReadHashes: no leaves for level %d", level)
			}
			below = run[from-first:][:width]
		} else {
			if a >= len(h.tree.tiles) || from+width > int64(len(h.tree.tiles[a])) {
				return nil, fmt.Errorf("trail.ReadHashes: no hashes for level %d", level)
			}
			below = h.tree.tiles[a][from:][:width]
		}
		out[i] = fold(below)
	}
	return out, nil
}

// fold is the root of a full subtree over hashes, whose number is a power of two.
func fold(below [][32]byte) tlog.Hash {
	level := make([]tlog.Hash, len(below))
	for i, h := range below {
		level[i] = h
	}
	for range bits.Len(uint(len(below))) - 1 {
		for i := range len(level) / 2 {
			level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
		level = level[:len(level)/2]
	}
	return level[0]
}

// forest is the trees of the logs that were asked about.
type forest struct {
	mu    sync.Mutex
	trees map[tenantdb.TenantID]*tree
}

// maxTrees bounds the logs whose hashes are kept. One that is dropped costs reading its leaves again.
const maxTrees = 2000

func newForest() *forest { return &forest{trees: map[tenantdb.TenantID]*tree{}} }

// hold gives a log's tree to one caller until it is released.
func (f *forest) hold(ctx context.Context, t tenantdb.TenantID) (*tree, func(), error) {
	f.mu.Lock()
	kept := f.trees[t]
	if kept == nil {
		for other := range f.trees {
			if len(f.trees) < maxTrees {
				break
			}
			delete(f.trees, other) // whoever holds it finishes with it
		}
		kept = &tree{busy: make(chan struct{}, 1)}
		f.trees[t] = kept
	}
	f.mu.Unlock()
	select {
	case kept.busy <- struct{}{}:
		return kept, func() { <-kept.busy }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}
