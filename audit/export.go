package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

// The files of an export beside its tiles.
const (
	fileCheckpoint = "checkpoint"
	fileKey        = "log.vkey"
	fileRecords    = "records.ndjson"

	levels = 6 // 256^5 is MaxSize
)

// Create opens a new file of an export by its slash-separated name. Several are open at a time.
type Create func(name string) (io.WriteCloser, error)

// Into creates files under a directory, which must not have them yet. They may hold disclosed personal data, so nobody
// but their owner can read them.
func Into(root *os.Root) Create {
	return func(name string) (io.WriteCloser, error) {
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return nil, fmt.Errorf("audit.Into: %w", err)
		}
		return root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
}

// Seal gives the signed checkpoint of the log at a size, with the verifier key of the log. It signs one, or finds the
// one that was signed when the log had that size.
type Seal func(size int64, root [32]byte) (signed []byte, vkey string, err error)

// WriteExport writes a log, from its first record, as a C2SP tlog-tiles directory (checkpoint, tile/, tile/entries/),
// with the records one a line in records.ndjson, and the verifier key in log.vkey. It holds one tile of each level in
// memory. It checks the records on the way: an export that would not pass Check is not finished. The checkpoint is
// written last, so one that was cut short has none.
func WriteExport(create Create, records iter.Seq2[Record, error], seal Seal) (Checkpoint, error) {
	x := exporter{create: create, verifier: NewVerifier(LogID{})}
	c, err := x.write(records, seal)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("audit.WriteExport: %w", err)
	}
	return c, nil
}

type exporter struct {
	create   Create
	verifier *Verifier
	bundle   []byte
	tiles    [levels][]byte
	err      error // of the visitor, which cannot return one
}

func (x *exporter) write(records iter.Seq2[Record, error], seal Seal) (Checkpoint, error) {
	if err := x.writeRecords(records); err != nil {
		return Checkpoint{}, err
	}
	if err := x.writePartials(); err != nil {
		return Checkpoint{}, err
	}
	end := x.verifier.State()
	signed, vkey, err := seal(end.Tree.Size(), end.Tree.Root())
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sealing: %w", err)
	}
	c, err := OpenCheckpoint(signed, vkey)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Size != end.Tree.Size() || c.Root != end.Tree.Root() {
		return Checkpoint{}, fmt.Errorf("the checkpoint is of another tree: it has %d entries, the records are %d", c.Size, end.Tree.Size())
	}
	if log, err := c.Log(); err != nil || c.Size > 0 && log != end.Log {
		return Checkpoint{}, errors.New("the checkpoint is of another log than the records")
	}
	if err := x.put(fileKey, []byte(vkey+"\n")); err != nil {
		return Checkpoint{}, err
	}
	return c, x.put(fileCheckpoint, signed)
}

func (x *exporter) writeRecords(records iter.Seq2[Record, error]) (err error) {
	file, err := x.create(fileRecords)
	if err != nil {
		return err
	}
	defer func() {
		if e := file.Close(); err == nil {
			err = e
		}
	}()
	out := bufio.NewWriterSize(file, 64<<10)
	var line []byte
	for r, err := range records {
		if err != nil {
			return fmt.Errorf("reading records: %w", err)
		}
		if err := x.add(r); err != nil {
			return err
		}
		line = append(r.AppendJSON(line[:0]), '\n')
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("writing records: %w", err)
		}
	}
	return out.Flush()
}

func (x *exporter) add(r Record) error {
	if _, err := x.verifier.add(r, x.hash); err != nil {
		return err
	}
	if x.err != nil {
		return x.err
	}
	var err error
	if x.bundle, err = torchwood.AppendTileEntry(x.bundle, r.Entry); err != nil {
		return fmt.Errorf("writing the entries: %w", err)
	}
	if r.Seq%tileWidth == tileWidth-1 {
		err = x.put(tilePath(entriesLevel, int64(r.Seq)/tileWidth, tileWidth), x.bundle)
		x.bundle = x.bundle[:0]
	}
	return err
}

func (x *exporter) hash(level int, n int64, hash [32]byte) {
	x.tiles[level] = append(x.tiles[level], hash[:]...)
	if n%tileWidth < tileWidth-1 || x.err != nil {
		return
	}
	x.err = x.put(tilePath(level, n/tileWidth, tileWidth), x.tiles[level])
	x.tiles[level] = x.tiles[level][:0]
}

func (x *exporter) writePartials() error {
	state := x.verifier.State()
	size := state.Tree.Size()
	if w := int(size % tileWidth); w > 0 {
		if err := x.put(tilePath(entriesLevel, size/tileWidth, w), x.bundle); err != nil {
			return err
		}
	}
	for level, tile := range x.tiles {
		if len(tile) == 0 {
			continue
		}
		n := size >> (tileBits * level) / tileWidth
		if err := x.put(tilePath(level, n, len(tile)/tlog.HashSize), tile); err != nil {
			return err
		}
	}
	return nil
}

// entriesLevel is the level of entry bundles in tlog.Tile.
const entriesLevel = -1

func tilePath(level int, n int64, width int) string {
	return torchwood.TilePath(tlog.Tile{H: tileBits, L: level, N: n, W: width})
}

func (x *exporter) put(name string, data []byte) error {
	file, err := x.create(name)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", name, err), file.Close())
	}
	return file.Close()
}
