package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	maxKey    = 1 << 10
	maxBundle = tileWidth * (2 + MaxEntry)
)

// Known is what the checker knows of the log from elsewhere. With neither, Check shows only that an export agrees with
// itself: whoever wrote it could have written another.
type Known struct {
	Key     string // the log's verifier key
	Earlier []byte // a signed checkpoint, seen before: the export must hold all that it held, unchanged
}

// Report is what an export was found to be. After a Fault it says how far it was good.
type Report struct {
	Origin      string
	Log         LogID
	Size        int64    // entries that the checkpoint covers
	Checked     int64    // entries found good
	Root        [32]byte // the checkpoint's
	Link        [32]byte // the chain after the last good entry
	Key         string   // the verifier key that signed the checkpoint
	KeyKnown    bool     // the key was given, not taken from the export
	EarlierHeld bool     // an earlier checkpoint was given, and this log goes on from it
	First, Last time.Time
	Disclosed   int // groups of private fields that were opened, and match
}

// MarshalJSON writes the report with hashes in lower-case hexadecimal.
func (r Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Origin      string    `json:"origin"`
		Log         LogID     `json:"log_id"`
		Size        int64     `json:"size"`
		Checked     int64     `json:"checked"`
		Root        hexHash   `json:"root"`
		Link        hexHash   `json:"link"`
		Key         string    `json:"key"`
		KeyKnown    bool      `json:"key_known"`
		EarlierHeld bool      `json:"earlier_held"`
		First       time.Time `json:"first,omitzero"`
		Last        time.Time `json:"last,omitzero"`
		Disclosed   int       `json:"disclosed"`
	}{r.Origin, r.Log, r.Size, r.Checked, r.Root, r.Link, r.Key, r.KeyKnown, r.EarlierHeld, r.First, r.Last, r.Disclosed})
}

// CheckDir is Check of a directory. Nothing outside of it is read, wherever symbolic links in it point.
func CheckDir(dir string, known Known) (Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Report{}, faultf(Whole, dir, "the directory cannot be opened: %v", err)
	}
	defer root.Close()
	return Check(root.FS(), known)
}

// Check verifies an export with no server, no database and no trust in who made it: the checkpoint's signature, every
// record, every entry bundle, every hash of every tile, the chain and the root. Its error is a *Fault with the first bad
// index. It reads each file that must be there once, as far as it can be right, and no other; time grows with what is
// there and not with what is claimed, and memory with neither.
func Check(export fs.FS, known Known) (Report, error) {
	vkey, _, c, err := openExport(export, known.Key)
	if err != nil {
		return Report{}, err
	}
	log, err := c.Log()
	if err != nil {
		return Report{}, faultf(Whole, fileCheckpoint, "%v", err)
	}
	k := checker{export: export, c: c, verifier: NewVerifier(log),
		report: Report{Origin: c.Origin, Log: log, Size: c.Size, Root: c.Root, Key: vkey, KeyKnown: known.Key != ""}}
	if fault := k.readEarlier(known.Earlier); fault != nil {
		return k.report, fault
	}
	if fault := k.run(); fault != nil {
		return k.report, fault
	}
	return k.report, nil
}

// openExport reads an export's key and checkpoint. A key that is given must be the export's.
func openExport(export fs.FS, key string) (vkey string, signed []byte, c Checkpoint, err error) {
	b, err := readPlain(export, fileKey, maxKey)
	if err != nil {
		return "", nil, c, faultf(Whole, fileKey, "%v", err)
	}
	vkey, ok := strings.CutSuffix(string(b), "\n")
	if !ok || len(b) > maxKey {
		return "", nil, c, faultf(Whole, fileKey, "it is not a verifier key on a line of its own")
	}
	if key != "" && key != vkey {
		return "", nil, c, faultf(Whole, fileKey, "the export is of another log, or signed by another key, than the one expected")
	}
	if signed, err = readPlain(export, fileCheckpoint, MaxCheckpoint); err != nil {
		return "", nil, c, faultf(Whole, fileCheckpoint, "%v", err)
	}
	if c, err = OpenCheckpoint(signed, vkey); err != nil {
		return "", nil, c, faultf(Whole, fileCheckpoint, "%v", err)
	}
	return vkey, signed, c, nil
}

type checker struct {
	export   fs.FS
	c        Checkpoint
	earlier  *Checkpoint
	verifier *Verifier
	bundle   []byte         // what is left of the entry bundle that is being read
	tiles    [levels][]byte // the tile of each level that is being read
	fault    *Fault         // the visitor's, which cannot return one
	report   Report
}

func (k *checker) readEarlier(signed []byte) *Fault {
	if signed == nil {
		return nil
	}
	c, err := OpenCheckpoint(signed, k.report.Key)
	if err != nil {
		return faultf(Whole, "earlier checkpoint", "%v", err)
	}
	if c.Size > k.c.Size {
		return faultf(Seq(k.c.Size), fileCheckpoint, "the log had %d entries before, and has %d now: it was rolled back", c.Size, k.c.Size)
	}
	k.earlier = &c
	return k.compareEarlier()
}

func (k *checker) compareEarlier() *Fault {
	now := &k.verifier.state.Tree
	if k.earlier == nil || now.Size() != k.earlier.Size {
		return nil
	}
	if now.Root() != k.earlier.Root {
		return faultf(Whole, fileCheckpoint, "the first %d entries are not those of the earlier checkpoint: history was rewritten", now.Size())
	}
	k.report.EarlierHeld = true
	return nil
}

func (k *checker) run() *Fault {
	file, err := openPlain(k.export, fileRecords)
	if err != nil {
		return faultf(0, fileRecords, "%v", err)
	}
	defer file.Close()
	lines := newLines(file)
	for i := Seq(0); int64(i) < k.c.Size; i++ {
		line, err := lines.next()
		if err == io.EOF {
			return faultf(i, fileRecords, "the record is missing: the checkpoint covers %d", k.c.Size)
		}
		if err != nil {
			return faultf(i, fileRecords, "%v", err)
		}
		r, err := ParseRecord(line)
		if err != nil {
			return faultf(i, fileRecords, "%v", err)
		}
		if fault := k.record(r); fault != nil {
			return fault
		}
	}
	if k.verifier.State().Tree.Root() != k.c.Root {
		return faultf(Whole, fileCheckpoint, "the entries agree with one another, and their root is not the one that was signed")
	}
	if _, err := lines.next(); err != io.EOF {
		return faultf(Seq(k.c.Size), fileRecords, "something follows the last record that the checkpoint covers")
	}
	return nil
}

func (k *checker) record(r Record) *Fault {
	e, err := k.verifier.add(r, k.hash)
	if err != nil {
		return k.verifier.fault
	}
	if k.fault != nil {
		return k.fault
	}
	if fault := k.entry(r); fault != nil {
		return fault
	}
	if r.Seq == 0 {
		k.report.First = e.Time
	}
	k.report.Last = e.Time
	k.report.Checked = int64(r.Seq) + 1
	k.report.Link = k.verifier.state.Link
	k.report.Disclosed += len(r.Disclosed)
	return k.compareEarlier()
}

// width is how many entries of a bundle, or hashes of a tile, the one that holds the nth has at this size.
func (k *checker) width(level int, n int64) int64 {
	return min(tileWidth, k.c.Size>>(tileBits*max(level, 0))-n/tileWidth*tileWidth)
}

func (k *checker) blame(at Seq, level int, n int64, format string, args ...any) *Fault {
	return faultf(at, tilePath(level, n/tileWidth, int(k.width(level, n))), format, args...)
}

func (k *checker) load(at Seq, level int, n int64, most int64) ([]byte, *Fault) {
	b, err := readPlain(k.export, tilePath(level, n/tileWidth, int(k.width(level, n))), int(most))
	if err != nil {
		return nil, k.blame(at, level, n, "%v", err)
	}
	return b, nil
}

// entry compares a record's entry with the next of the bundle.
func (k *checker) entry(r Record) (fault *Fault) {
	n := int64(r.Seq)
	width := k.width(entriesLevel, n)
	if n%tileWidth == 0 {
		if k.bundle, fault = k.load(r.Seq, entriesLevel, n, width*(2+MaxEntry)); fault != nil {
			return fault
		}
	}
	entry, rest, err := torchwood.ReadTileEntry(k.bundle)
	k.bundle = rest
	switch {
	case err != nil:
		return k.blame(r.Seq, entriesLevel, n, "%v", err)
	case string(entry) != string(r.Entry):
		return k.blame(r.Seq, entriesLevel, n, "the entry is not the one of the record")
	case n%tileWidth == width-1 && len(rest) > 0:
		return k.blame(r.Seq, entriesLevel, n, "something follows the last entry")
	}
	return nil
}

// hash compares a hash, as the records have it, with the one in the tile.
func (k *checker) hash(level int, n int64, hash [32]byte) {
	if k.fault != nil {
		return
	}
	at := Seq(n << (tileBits * level)) // the first entry under this hash
	width := k.width(level, n)
	if n%tileWidth == 0 {
		if k.tiles[level], k.fault = k.load(at, level, n, width*tlog.HashSize); k.fault != nil {
			return
		}
	}
	data, end := k.tiles[level], int(n%tileWidth+1)*tlog.HashSize
	switch {
	case len(data) < end:
		k.fault = k.blame(at, level, n, "it ends before the hash of this entry")
	case string(data[end-tlog.HashSize:end]) != string(hash[:]):
		k.fault = k.blame(at, level, n, "the hash is not the one of the records")
	case n%tileWidth == width-1 && len(data) > end:
		k.fault = k.blame(at, level, n, "something follows the last hash")
	}
}

// CheckRecords verifies records alone, one a line, from where an earlier pass stopped; the zero State is the start of a
// log. Without a checkpoint it shows that they follow from one another, not that they are the log's.
func CheckRecords(from io.Reader, start State) (State, error) {
	v := ResumeVerifier(start)
	for r, err := range ReadRecords(from) {
		if err != nil {
			return v.State(), faultf(Seq(v.state.Tree.Size()), fileRecords, "%v", err)
		}
		if err := v.Add(r); err != nil {
			return v.State(), fmt.Errorf("audit.CheckRecords: %w", err)
		}
	}
	return v.State(), nil
}
