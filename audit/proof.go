package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxProof is how long a proof file may be: an entry in base64, one hash a level, a checkpoint.
const MaxProof = MaxCheckpoint + MaxEntry*2

const proofHeader = "c2sp.org/tlog-proof@v1\n"

// Proven is an entry that a log is proved to hold.
type Proven struct {
	Seq        Seq
	Entry      []byte
	Checkpoint Checkpoint
}

// FormatProof makes a file that proves one entry to whoever has the log's key and nothing else: a C2SP tlog-proof with
// the entry as its extra data. The proof comes from tlog.ProveRecord, on stored hashes or tiles.
func FormatProof(signed []byte, c Checkpoint, seq Seq, entry []byte, proof tlog.RecordProof) ([]byte, error) {
	if c.Size > MaxSize || len(entry) > MaxEntry {
		return nil, errors.New("audit.FormatProof: the log or the entry is too large")
	}
	if err := tlog.CheckRecord(proof, c.Size, c.Root, int64(seq), Leaf(entry)); err != nil {
		return nil, fmt.Errorf("audit.FormatProof: the hashes do not prove this entry: %w", err)
	}
	return torchwood.FormatProofWithExtraData(int64(seq), entry, proof, signed), nil
}

// VerifyProof checks a proof file against the log's key. Like Decode it accepts one spelling only. What it cannot know is
// whether the log has shown others the same checkpoint: that is what witnesses are for.
func VerifyProof(proof []byte, vkey string) (Proven, error) {
	p, err := verifyProof(proof, vkey)
	if err != nil {
		return Proven{}, fmt.Errorf("audit.VerifyProof: %w", err)
	}
	return p, nil
}

func verifyProof(proof []byte, vkey string) (Proven, error) {
	if len(proof) > MaxProof {
		return Proven{}, fmt.Errorf("it is longer than %d bytes", MaxProof)
	}
	p, signed, err := parseProof(proof)
	if err != nil {
		return Proven{}, err
	}
	// The checkpoint is opened here before torchwood sees its size: see MaxSize.
	if p.Checkpoint, err = OpenCheckpoint(signed, vkey); err != nil {
		return Proven{}, err
	}
	policy, err := logPolicy(vkey)
	if err != nil {
		return Proven{}, err
	}
	if err := torchwood.VerifyProof(policy, Leaf(p.Entry), proof); err != nil {
		return Proven{}, fmt.Errorf("the proof does not hold: %w", err)
	}
	return p, withinLog(p)
}

// withinLog checks that the entry says of itself that it is of the log that proves it.
func withinLog(p Proven) error {
	e, err := Decode(p.Entry)
	if err != nil {
		return err
	}
	if log, err := p.Checkpoint.Log(); err != nil || log != e.Log {
		return errors.New("the entry is of another log than the checkpoint")
	}
	return nil
}

// parseProof reads what torchwood's VerifyProof reads and does not give, as strictly as it should.
func parseProof(proof []byte) (p Proven, signed []byte, err error) {
	malformed := errors.New("it is not a tlog-proof with an entry in it")
	rest, ok := bytes.CutPrefix(proof, []byte(proofHeader+"extra "))
	if !ok {
		return p, nil, malformed
	}
	extra, rest, _ := bytes.Cut(rest, []byte("\nindex "))
	index, rest, ok := bytes.Cut(rest, []byte("\n"))
	if !ok || len(extra) > base64.StdEncoding.EncodedLen(MaxEntry) {
		return p, nil, malformed
	}
	if p.Entry, err = oneBase64(extra); err != nil {
		return p, nil, malformed
	}
	n, err := strconv.ParseInt(string(index), 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != string(index) {
		return p, nil, malformed
	}
	p.Seq = Seq(n)
	for range 64 {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return p, nil, malformed
		}
		rest = after
		if len(line) == 0 {
			return p, rest, nil
		}
		if _, err := oneBase64(line); err != nil {
			return p, nil, malformed
		}
	}
	return p, nil, malformed
}

// oneBase64 refuses the newlines and stray bits that encoding/base64 would let pass.
func oneBase64(s []byte) ([]byte, error) {
	if bytes.ContainsAny(s, "\r\n") {
		return nil, errors.New("base64 with line breaks")
	}
	return base64.StdEncoding.Strict().AppendDecode(nil, s)
}

// Prove makes the proof file of one entry from an export, and checks it: an export that lies proves nothing.
func Prove(export fs.FS, seq Seq) ([]byte, error) {
	proof, err := prove(export, seq)
	if err != nil {
		return nil, fmt.Errorf("audit.Prove: %w", err)
	}
	return proof, nil
}

func prove(export fs.FS, seq Seq) ([]byte, error) {
	vkey, signed, c, err := openExport(export, "")
	if err != nil {
		return nil, err
	}
	files, err := torchwood.NewTileFS(plainFiles{export})
	if err != nil {
		return nil, fmt.Errorf("reading tiles: %w", err)
	}
	client, err := torchwood.NewClient(files)
	if err != nil {
		return nil, fmt.Errorf("reading tiles: %w", err)
	}
	entry, hashes, err := client.Entry(context.Background(), tlog.Tree{N: c.Size, Hash: c.Root}, int64(seq))
	if err != nil {
		return nil, fmt.Errorf("reading entry %d: %w", seq, err)
	}
	proof, err := FormatProof(signed, c, seq, entry, hashes)
	if err != nil {
		return nil, err
	}
	_, err = verifyProof(proof, vkey)
	return proof, err
}
